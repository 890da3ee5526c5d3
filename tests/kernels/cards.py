"""The cards that QEMU emulates, and what the program is to make of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Card:
    """One kind of card."""

    device: str
    """What QEMU calls it."""
    modules: tuple[str, ...]
    """Of its driver."""
    native_since: tuple[int, int] | None
    """The first Linux whose driver runs XDP programs; None: none does."""
    zero_copy_since: tuple[int, int] | None = None
    """The first Linux whose driver has AF_XDP's zero-copy."""
    queues_by_device: bool = False
    """Whether the device sets the number of queues, not the driver by the number of processors."""
    bonded: bool = False
    """Whether it is in a bond, beside a card whose cable is out."""
    link: str = "eth0"
    """What Linux calls it."""
    above: str = ""
    """What the program runs on, if not that."""
    tags: bool = True
    """Whether frames come to it with their VLAN tags."""
    vlan: int | None = None
    """Where that is a VLAN device: its id."""
    bus: str = "place"
    """What QEMU plugs it into."""
    mtu: int = 1508
    """Which it is given: a session can carry 1,500 octets then, where the driver lets it."""
    counts_tags: bool = False
    """Whether a VLAN tag takes of the MTU, as the driver has no room for one beyond it."""
    tells_carrier: bool = True
    """Whether it notices that its line is plugged out."""

    @property
    def name(self) -> str:
        """What the program runs on."""
        return self.above or self.link

    def arguments(self, mac: str, queues: int) -> str:
        """QEMU's `-device`, on the port that `Guest` keeps for it."""
        many = f",mq=on,vectors={2 * queues + 2}" if self.queues_by_device and queues > 1 else ""
        rom = ",romfile=" if self.bus == "place" else ""
        return f"{self.device},id=card,netdev=line,bus={self.bus},mac={mac}{rom}{many}"

    def mode(self, version: str) -> str:
        """How the program is to say that it runs on a kernel such as `6.12`: the beginning of it."""
        numbers = tuple(map(int, version.split(".")))
        if self.native_since is None or numbers < self.native_since:
            return "generic mode, copy"
        zero_copy = self.zero_copy_since is not None and numbers >= self.zero_copy_since
        return "native mode, zero-copy" if zero_copy else "native mode, copy"


_IN_A_BOND = ("virtio_net", "bonding")
CARDS = {
    "virtio": Card("virtio-net-pci", ("virtio_net",), native_since=(4, 10), queues_by_device=True),
    "igb": Card("igb", ("igb",), native_since=(5, 10), zero_copy_since=(6, 14)),
    "vmxnet3": Card("vmxnet3", ("vmxnet3",), native_since=(6, 6)),
    "e1000e": Card("e1000e", ("e1000e",), native_since=None),
    "usb-net": Card(
        *("usb-net", ("xhci_pci", "cdc_ether"), None),
        bus="usb.0",
        mtu=1500,
        counts_tags=True,
        tells_carrier=False,
    ),
    "bond": Card("virtio-net-pci", _IN_A_BOND, native_since=None, bonded=True, above="bond0", tags=False),
    "bond-vlan": Card(  # what the program says to do with a bond's tagged sessions
        *("virtio-net-pci", (*_IN_A_BOND, "8021q"), None), bonded=True, above="bond0.100", tags=False, vlan=100
    ),
    "slave": Card("virtio-net-pci", _IN_A_BOND, native_since=(4, 10), bonded=True),
}
