"""The provider's process, run as `python -m engine.lab`; what it says and hears is in `engine.lab.provider`."""

from __future__ import annotations

import sys

from engine.card.xdp import Loading, XdpError
from engine.host.netns import unshare_net
from engine.host.privileges import confine
from engine.lab.provider import LabOrder


def main() -> int:
    """Run the provider until standard input closes."""
    order = LabOrder.from_json(sys.stdin.readline())
    try:
        unshare_net()
        print("unshared", flush=True)
        loading = Loading()
    except (OSError, XdpError) as error:
        print(f"error: {error}", flush=True)
        return 1
    confine(serving=True)
    # Takes long to import: the XDP program is compiled meanwhile.
    from engine.lab.server import serve

    sys.stdin.readline()
    return serve(order, loading)


if __name__ == "__main__":
    sys.exit(main())
