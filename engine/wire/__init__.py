"""Codecs: octets to frozen values and back, with no state and no side effects.

Each module decodes and encodes one format. A decoder raises `WireError` for anything malformed, and nothing else.
"""
