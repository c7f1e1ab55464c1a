"""The process that children are forked from: it has imported all that a filter may use, and knows no secret.

It is started by exec with an environment of its own, so it inherits no credentials, sockets or memory of the
pipeline. It never reads a batch or a line of a stranger's text.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable

from filters.sandbox.inside.confine import confine
from filters.sandbox.inside.modules import NOT_OURS, STANDARD, USEFUL

READY = b"ready"
_LAST = 19
"""The lowest priority: about a sixtieth of a processor that another wants, all of one that nobody does."""
_AUTOGROUP, _TRIES, _REST_SECONDS = "/proc/self/autogroup", 50, 0.1
_CHANNEL = 3
"""The child's socket, beside standard input, output and errors, which lead nowhere."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGE = 32 << 20  # bytes; the largest threshold that glibc takes


def main(control: int) -> None:
    """The zygote of strangers' filters. control: its socket."""
    run(control, warm, "filters.sandbox.inside.child")


def run(control: int, warm: Callable[[], None], child_of: str) -> None:
    """Fork a child for each request, until nobody asks any more.

    Parameters
    ----------
    control
        A socket; each request brings the child's socket, each answer a handle of the child (pidfd).
    warm
        Imports and uses once all that a child may need.
    child_of
        The module whose `serve` a child runs, once it is confined.
    """
    requests = socket.socket(fileno=control)
    _be_the_first_to_go()
    warm()
    for name in NOT_OURS:
        sys.modules.pop(name, None)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel forgets children that have ended
    gc.collect()
    gc.freeze()
    requests.send(READY)
    while True:
        asked, files, _, _ = socket.recv_fds(requests, 100, 1)
        if not asked:
            os._exit(0)  # the kernel ends the children
        child = os.fork()
        if child == 0:
            memory, gently = map(int, asked.split())
            _become_child(files[0], memory, bool(gently), child_of)
        os.close(files[0])
        handle = os.pidfd_open(child)
        socket.send_fds(requests, [b"forked"], [handle])
        os.close(handle)


def warm() -> None:
    """Import everything, and let pandas and Arrow import what they do when they are first used."""
    import pyarrow as pa

    _keep_memory()
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    for name in (*STANDARD, *USEFUL):
        importlib.import_module(name)
    from filters.sandbox.inside.rehearsal import rehearse

    rehearse()


def _keep_memory() -> None:
    """Large pieces of memory that are freed are not given back to the kernel at once.

    A filter asks for the same again with each batch, and each page would have to be found and cleared anew.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # only glibc has it
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
        mallopt(_M_TRIM_THRESHOLD, _LARGE)


def _become_child(channel: int, memory: int, gently: bool, child_of: str) -> None:
    """Serve as a child; never comes back."""
    serve = importlib.import_module(child_of).serve  # loaded before, by `warm`
    from filters.sandbox.wire import DONE, RAISED, Said, pack_said, send

    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _leave_only(channel)
        ours = socket.socket(fileno=_CHANNEL)
        try:
            if gently:
                _give_way()
            confine(memory)
        except OSError as error:
            send(ours, RAISED, pack_said(Said("OSError", str(error), "")))
            os._exit(1)
        send(ours, DONE, b"")
        serve(ours)
    finally:
        os._exit(0)


def _leave_only(channel: int) -> None:
    """Close every file but the child's socket."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nowhere, standard)
    if channel != _CHANNEL:
        os.dup2(channel, _CHANNEL, inheritable=False)
    os.closerange(_CHANNEL + 1, os.sysconf("SC_OPEN_MAX"))


def _give_way() -> None:
    """Everybody else goes first where processors are scarce. Raises OSError when the kernel stays busy.

    A kernel that groups processes by their session shares processors out among the sessions, however low the
    priority is within one. So this process gets a session for itself, and that the lowest priority too. The
    kernel lets this be said ten times a second on the whole machine.

    Source: sched(7), "The autogroup feature".
    """
    os.nice(_LAST)
    os.setsid()
    if not os.path.exists(_AUTOGROUP):
        return
    for left in reversed(range(_TRIES)):
        try:
            with open(_AUTOGROUP, "w") as file:
                file.write(str(_LAST))
            return
        except BlockingIOError:
            if not left:
                raise
            time.sleep(_REST_SECONDS)


def _be_the_first_to_go() -> None:
    """Where memory runs out, the kernel ends us and our children before anybody else."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError as error:
        print(f"oom_score_adj: {error}", file=sys.stderr)
