"""The system calls that a confined process may make, as a program for the kernel (seccomp).

Everything that is not named here fails with "operation not permitted": files, sockets, processes, threads,
signals, limits. What is left reads and writes the sockets that are open, takes memory and asks the time.
pandas, NumPy and Arrow need no more once all is imported.
"""

from __future__ import annotations

import platform
import struct
from collections.abc import Iterator
from typing import NamedTuple


class Machine(NamedTuple):
    """One kind of processor: its number in the kernel's audit, and whether it has a second set of calls."""

    audit: int
    second_set: bool


MACHINES = {"x86_64": Machine(0xC000003E, True), "aarch64": Machine(0xC00000B7, False)}
"""By `platform.machine()`. Source: linux/audit.h."""

ALLOWED = {
    "read": (0, 63),
    "write": (1, 64),
    "recvmsg": (47, 212),
    "recvfrom": (45, 207),
    "sendto": (44, 206),
    "sendmsg": (46, 211),
    "mmap": (9, 222),
    "munmap": (11, 215),
    "mprotect": (10, 226),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "brk": (12, 214),
    "futex": (202, 98),
    "close": (3, 57),
    "fstat": (5, 80),
    "lseek": (8, 62),
    "poll": (7, None),
    "ppoll": (271, 73),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "getrandom": (318, 278),
    "getrusage": (98, 165),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "getcpu": (309, 168),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "exit": (60, 93),
    "exit_group": (231, 94),
}
"""Call -> its number on x86_64 and on aarch64 (None: not there). Source: the kernel's syscall tables."""

_FCNTL = (72, 25)
_FCNTL_ALLOWED = (1, 3, 1030, 1034)
"""F_GETFD, F_GETFL, F_DUPFD_CLOEXEC, F_GET_SEALS. Not F_SETOWN: it lets the kernel send signals to others."""

_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050001  # the last with EPERM
_NUMBER, _AUDIT, _SECOND_ARGUMENT = 0, 4, 24
_SECOND_SET = 0x40000000
"""Calls of x86_64 from here on are the same ones by other numbers (x32)."""


def knows_this_machine() -> bool:
    """Whether the numbers of this processor's calls are known."""
    return platform.machine() in MACHINES


def program(kind: str) -> bytes:
    """The instructions (struct sock_filter), for a kind of processor of `MACHINES`."""
    return b"".join(struct.pack("=HBBI", *one) for one in _instructions(kind))


def _instructions(kind: str) -> Iterator[tuple[int, int, int, int]]:
    """Code, jump if true, jump if false, operand. Source: linux/filter.h, linux/seccomp.h."""
    machine, column = MACHINES[kind], list(MACHINES).index(kind)
    yield _LOAD, 0, 0, _AUDIT
    yield _EQUAL, 1, 0, machine.audit
    yield _RETURN, 0, 0, _KILL
    yield _LOAD, 0, 0, _NUMBER
    if machine.second_set:
        yield _AT_LEAST, 0, 1, _SECOND_SET
        yield _RETURN, 0, 0, _KILL
    for numbers in ALLOWED.values():
        if (number := numbers[column]) is not None:
            yield _EQUAL, 0, 1, number
            yield _RETURN, 0, 0, _ALLOW
    yield _EQUAL, 0, 2 + 2 * len(_FCNTL_ALLOWED), _FCNTL[column]
    yield _LOAD, 0, 0, _SECOND_ARGUMENT
    for command in _FCNTL_ALLOWED:
        yield _EQUAL, 0, 1, command
        yield _RETURN, 0, 0, _ALLOW
    yield _RETURN, 0, 0, _REFUSE
    yield _RETURN, 0, 0, _REFUSE
