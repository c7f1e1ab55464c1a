"""The small process between an owner and its JVM: it ends the JVM when the owner is gone, kill -9 included.

Run as `python -I -S supervisor.py JSON`, with only the standard library, so that it starts in milliseconds.
The owner holds the write end of this process's stdin: when that closes, or the parent is no longer the owner
(a forked child of the owner may hold a copy of the pipe), the JVM gets SIGTERM and, after the grace, SIGKILL.
If this process itself is killed, the kernel kills the JVM (Linux).
JSON keys: command, environment, output, owner (process id), grace (s), remove (folder or null).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h
LOOK_AT_OWNER_S = 0.5


def _die_with_parent() -> None:
    """In the JVM's process before it becomes the JVM: ask the kernel for SIGKILL when we end."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _start(order: dict) -> subprocess.Popen:
    with open(order["output"], "ab") as output:
        return subprocess.Popen(
            order["command"],
            env=order["environment"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=_die_with_parent,  # safe: this process has one thread
        )


def _wakeups() -> int:
    """A file descriptor that becomes readable when the JVM ends or this process is asked to end."""
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    return readable


def _owner_is_gone(owner: int) -> bool:
    """Whether the owner let go of the pipe or was replaced as our parent."""
    ready, _, _ = select.select([0], [], [], 0)
    return os.getppid() != owner or (bool(ready) and os.read(0, 4096) == b"")


def _watch(jvm: subprocess.Popen, owner: int, asked: list[int], wakeup: int) -> None:
    while jvm.poll() is None and not asked and not _owner_is_gone(owner):
        select.select([0, wakeup], [], [], LOOK_AT_OWNER_S)
        # A signal's byte stays in the pipe: what it says is seen by poll() and `asked`.
        if select.select([wakeup], [], [], 0)[0]:
            os.read(wakeup, 4096)


def main(order: dict) -> int:
    """Run the JVM until it ends or the owner is gone; the exit code is the JVM's (128 + n for signal n)."""
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: asked.append(received))
    signal.signal(signal.SIGCHLD, lambda _received, _frame: None)
    wakeup = _wakeups()
    jvm = _start(order)
    with contextlib.suppress(BrokenPipeError):
        os.write(1, f"{jvm.pid}\n".encode())
    _watch(jvm, order["owner"], asked, wakeup)
    jvm.terminate()
    try:
        code = jvm.wait(order["grace"])
    except subprocess.TimeoutExpired:
        jvm.kill()
        code = jvm.wait()
    if order["remove"] and os.getppid() != order["owner"]:
        shutil.rmtree(order["remove"], ignore_errors=True)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
