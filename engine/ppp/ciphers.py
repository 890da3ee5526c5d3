"""DES and MD4, by the library, without the process that it starts as it is imported.

To know whether it is on Windows it has file(1) look at the interpreter: 30 to 60 ms of each start, and a program that
root looks for in PATH.
"""

from __future__ import annotations

import platform

from Crypto.Util import _raw_api

if getattr(_raw_api, "cached_architecture", None) == []:
    _raw_api.cached_architecture[:] = platform.architecture(executable="")

from Crypto.Cipher import DES
from Crypto.Hash import MD4

__all__ = ["DES", "MD4"]
