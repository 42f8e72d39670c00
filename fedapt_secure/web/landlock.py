"""Take away from this process, for good, all files and all outgoing connections: Linux' Landlock.

A process confines itself and its children without any privilege, and can never undo it
(https://docs.kernel.org/userspace-api/landlock.html). What is open already stays usable. There is no
maintained binding of it for Python, and the C library has none: three system calls, by their numbers.
"""

import ctypes
import os
import struct
import sys
from typing import Final

from fedapt_crypto.errors import Unavailable

_CREATE_RULESET: Final = 444
_RESTRICT_SELF: Final = 446
"""The same numbers on every architecture (include/uapi/asm-generic/unistd.h)."""
_VERSION: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_FILES: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
"""All accesses to files that a version of the kernel's interface knows (include/uapi/linux/landlock.h)."""
_TCP: Final = 0b11
"""To bind and to connect, from version 4 on."""
_SCOPES: Final = 0b11
"""Abstract UNIX sockets and signals of other processes, from version 6 on."""


def available() -> int:
    """Return which version of Landlock the kernel has; 0 for none."""
    if sys.platform != "linux":
        return 0
    return max(0, _call(_CREATE_RULESET, None, 0, _VERSION))


def confine() -> None:
    """Let this process open no file, no folder and no TCP connection any more, and gain no privilege.

    Raises:
        Unavailable: If the kernel cannot do that; nothing has changed then.
    """
    version = available()
    if not version:
        raise Unavailable("this kernel has no Landlock (Linux 5.13 and newer): the page cannot be confined")
    files = max(mask for since, mask in _FILES.items() if since <= version)
    fields = [files, _TCP if version >= 4 else 0, _SCOPES if version >= 6 else 0]
    attributes = struct.pack("=3Q", *fields)[: 8 if version < 4 else 16 if version < 6 else 24]
    rules = _call(_CREATE_RULESET, attributes, len(attributes), 0)
    if rules < 0:
        raise Unavailable(f"the page cannot be confined: {os.strerror(ctypes.get_errno())}")
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or _call(_RESTRICT_SELF, rules, 0) < 0:
            raise Unavailable(f"the page cannot be confined: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(rules)


def _call(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return int(libc.syscall(ctypes.c_long(number), *arguments))
