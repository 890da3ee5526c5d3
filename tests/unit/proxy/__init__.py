"""The proxies, as far as they do no I/O."""
