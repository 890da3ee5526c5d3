"""Codecs: octets to frozen values and back, with no state and no side effects.

Each format has a module that decodes and encodes it. A decoder raises `WireError` for anything malformed, and nothing
else; an encoder raises ValueError or OverflowError for what its fields can't hold, which a caller is not to hand it.
"""
