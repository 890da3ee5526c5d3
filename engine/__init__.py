"""Everything that works without a screen: frames, PPP, PPPoE, the data path and the engine thread."""
