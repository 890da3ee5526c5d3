"""PPPoE discovery without I/O: the client's side and the concentrator's."""
