"""PPP without I/O: the RFC 1661 automaton, LCP, authentication and the network control protocols.

Nothing here holds a socket, a clock or a random source: time comes in as an argument, entropy as a function.
"""
