"""What the kernel offers to confine a process, called directly: Landlock, seccomp, prctl.

A few calls by ctypes: the packages for it are young and would be the wall itself.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from typing import NamedTuple

from filters.sandbox.inside.calls import knows_this_machine, program

_SET_PARENT_DEATH_SIGNAL, _SET_DUMPABLE, _SET_SECCOMP, _SET_NO_NEW_PRIVS = 1, 4, 22, 38
_GET_SECCOMP = 21
_FILTER_MODE = 2
_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # the same numbers on every processor
_ASK_VERSION = 1
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""Version of Landlock -> how many rights on files it knows. Source: linux/landlock.h."""
_NETWORK_SINCE, _SCOPES_SINCE = 4, 6


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


class _Ruleset(NamedTuple):
    files: int
    network: int
    scopes: int


def landlock_version() -> int:
    """Of the kernel's Landlock; 0 where there is none."""
    return max(0, _call(_CREATE_RULESET, None, 0, _ASK_VERSION)) if sys.platform == "linux" else 0


def has_seccomp() -> bool:
    """Whether the kernel filters system calls, and we know this processor's."""
    return sys.platform == "linux" and knows_this_machine() and _libc().prctl(_GET_SECCOMP, 0, 0, 0, 0) >= 0


def deny_files() -> None:
    """No file, TCP port, or signal to processes outside, from now on (Landlock). Raises OSError."""
    version = landlock_version()
    if not version:
        raise OSError("this kernel has no Landlock")
    rights = (1 << _FILE_RIGHTS[min(version, max(_FILE_RIGHTS))]) - 1
    rules = _Ruleset(rights, 3 if version >= _NETWORK_SINCE else 0, 3 if version >= _SCOPES_SINCE else 0)
    count = 1 + (version >= _NETWORK_SINCE) + (version >= _SCOPES_SINCE)
    attributes = (ctypes.c_uint64 * count)(*rules[:count])
    ruleset = _checked("landlock_create_ruleset", _call(_CREATE_RULESET, attributes, 8 * count, 0))
    try:
        _checked("landlock_restrict_self", _call(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def deny_calls() -> None:
    """No system call but those of `filters.sandbox.inside.calls`, from now on. Raises OSError."""
    code = program(platform.machine())
    allowed = _Program(len(code) // 8, code)
    _checked("seccomp", _libc().prctl(_SET_SECCOMP, _FILTER_MODE, ctypes.byref(allowed), 0, 0))


def no_new_rights() -> None:
    """No program that is started has more rights than we. Raises OSError."""
    _checked("no_new_privs", _libc().prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def nobody_looks_in() -> None:
    """Other processes of the same user cannot read our memory. Raises OSError."""
    _checked("dumpable", _libc().prctl(_SET_DUMPABLE, 0, 0, 0, 0))


def die_with_parent(signal: int) -> None:
    """The kernel sends us this signal when our parent ends. Raises OSError."""
    _checked("pdeathsig", _libc().prctl(_SET_PARENT_DEATH_SIGNAL, signal, 0, 0, 0))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: object) -> int:
    call = _libc().syscall
    call.restype = ctypes.c_long
    plain = (ctypes.c_long(one) if isinstance(one, int) else one for one in arguments)
    return int(call(ctypes.c_long(number), *plain))


def _checked(what: str, answer: int) -> int:
    if answer < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return answer
