"""Confinement of the process that runs a stranger's code, before the first line of that code.

Each wall stands by itself, so that a hole in one is not yet a way out: no rights of root, limits on what is
used up, no files (Landlock), no system call but a few (seccomp). All of them also hold for root.
"""

from __future__ import annotations

import os
import resource
import signal
import socket

from filters.sandbox.inside.kernel import (
    deny_calls,
    deny_files,
    die_with_parent,
    no_new_rights,
    nobody_looks_in,
)

NOBODY = 65534
MEMORY = 512 * 2**20
"""Bytes that a process may take beside what it begins with."""
_OPEN_FILES = 32
_CPU_SECONDS = 1800


def confine(memory: int = MEMORY) -> None:
    """Give up all rights for ever. Raises OSError where the machine lacks something: then run nothing.

    memory: bytes that may be taken from now on.
    """
    _limit(memory)
    if os.geteuid() == 0:
        _leave_root()
    die_with_parent(signal.SIGKILL)  # after a change of user, which would undo it
    nobody_looks_in()
    no_new_rights()
    deny_files()
    deny_calls()
    _refuse_unless_confined()


def _limit(memory: int) -> None:
    for what, most in (
        (resource.RLIMIT_AS, _address_space() + memory),
        (resource.RLIMIT_CPU, _CPU_SECONDS),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        resource.setrlimit(what, (most, most))


def _address_space() -> int:
    """Bytes of addresses that this process has."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _leave_root() -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def _refuse_unless_confined() -> None:
    """Try what must not be possible. Raises OSError when it is."""
    for what, attempt in (("a file", _open_a_file), ("a socket", socket.socket), ("a process", os.fork)):
        try:
            attempt()
        except PermissionError:
            continue
        except OSError as error:
            raise OSError(f"not confined as meant: {what}: {error}") from None
        raise OSError(f"not confined: {what} can be had")


def _open_a_file() -> None:
    os.close(os.open("/", os.O_RDONLY))
