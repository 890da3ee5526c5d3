"""Everything that works without a screen: frames, PPP, PPPoE, the data path and the engine thread."""

from engine.host import parts_of_pyroute2

parts_of_pyroute2.prepare()
