"""SOCKS and HTTP over sessions: what a client asks for, the pool, names, dialling, relaying; a process of its own."""
