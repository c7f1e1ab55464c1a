"""The processes of a sandbox: a zygote, started by exec, and confined children that are forked from it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from filters.sandbox.batch import Shelf, size_of
from filters.sandbox.errors import NoSandbox
from filters.sandbox.inside.modules import NOT_OURS
from filters.sandbox.inside.zygote import READY
from filters.sandbox.ladder import environment, lacking, outer_shell
from filters.sandbox.wire import (
    RAISED,
    TELL,
    BadAnswer,
    Patience,
    never,
    receive_until,
    send,
    unpack_said,
    where,
)

_WAITING, _LONGEST_WAIT = 10, 8.0
"""Times the processor time is the longest that it may be idle or at work, but no more seconds than these."""
_START_SECONDS, _FORK_SECONDS = 120.0, 20.0
_SHELF = 2**20
"""Bytes of memory that a child's batches come in, at least."""


class Zygote:
    """The process that children are forked from.

    Parameters
    ----------
    module
        Its `main` warms the zygote and says what a child serves.
    refused
        What does not happen on a machine that cannot confine it, in words.

    Raises
    ------
    NoSandbox
        When this machine cannot, or the process does not start.
    """

    def __init__(self, module: str, refused: str) -> None:
        self.refused = refused
        if why := lacking():
            raise NoSandbox(f"{refused}: {why}", hint="`zads sandbox check` says more")
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        root = str(Path(__file__).resolve().parents[2])
        code = f"import sys; sys.path.insert(0, {root!r}); sys.modules.update(dict.fromkeys({NOT_OURS!r})); "
        code += f"from {module} import main; main(int(sys.argv[1]))"
        self._forking = threading.Lock()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (for as long as it runs)
        command = [*outer_shell(), sys.executable, "-I", "-B", "-c", code, str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=[theirs.fileno()],
                env=environment(),
                cwd="/",
                start_new_session=True,
            )
        self._control.settimeout(_START_SECONDS)
        try:
            ready = self._control.recv(100)
        except OSError:
            ready = b""
        if ready != READY:
            raise NoSandbox(f"the sandbox does not start: {self._last_words()}")
        self._control.settimeout(_FORK_SECONDS)

    def _last_words(self) -> str:
        self._process.kill()
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self._process.returncode}"

    @property
    def runs(self) -> bool:
        """Whether it can be asked for children."""
        return not self.ends_within(0)

    def ends_within(self, seconds: float) -> bool:
        """Whether it has ended by then. Its socket tells sooner than its exit code."""
        if self._process.poll() is not None:
            return True
        waiting = select.poll()
        waiting.register(self._control, select.POLLIN)
        try:
            return bool(waiting.poll(1000 * seconds)) and not self._control.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def fork(self, memory: int, gently: bool = False) -> Child:
        """A new child, confined.

        Parameters
        ----------
        memory
            Bytes that it may take.
        gently
            Whether everybody else goes first where processors are scarce.

        Raises
        ------
        NoSandbox
            When this machine cannot, or the zygote has ended.
        """
        ours, theirs = socket.socketpair()
        with theirs, self._forking:
            try:
                asked = f"{memory} {int(gently)}".encode()
                socket.send_fds(self._control, [asked], [theirs.fileno()])
                _, files, _, _ = socket.recv_fds(self._control, 100, 1)
            except OSError as error:
                self.close()
                raise NoSandbox(f"the sandbox does not fork: {error}") from None
        if not files:
            self.close()
            raise NoSandbox("the sandbox has ended")
        child = Child(ours, files[0], self)
        child.greet()
        return child

    def close(self) -> None:
        """End it; the kernel ends its children."""
        self._control.close()
        self._process.kill()
        self._process.wait()
        self._errors.close()


class Child:
    """A confined process.

    Parameters
    ----------
    channel
        Its socket.
    handle
        A handle of it (pidfd).
    zygote
        What it was forked from.
    """

    def __init__(self, channel: socket.socket, handle: int, zygote: Zygote) -> None:
        self._channel, self._handle, self.zygote = channel, handle, zygote
        self._shelf: Shelf | None = None
        self.took = 0.0  # processor time of the last answer, s
        self._channel.settimeout(_FORK_SECONDS)  # of sending: it may not listen

    def greet(self) -> None:
        """Wait until it is confined. Raises NoSandbox."""
        try:
            patience = Patience(_FORK_SECONDS, lambda: 0.0, _FORK_SECONDS, self._waiting())
            kind, body = receive_until(self._channel, self._handle, patience)
            why = unpack_said(body).words if kind == RAISED else ""
        except (TimeoutError, EOFError, OSError, BadAnswer) as error:
            why = f"its child does not answer ({type(error).__name__})"
        if why:
            self.end()
            raise NoSandbox(f"{self.zygote.refused}: {why}")

    def ask(
        self,
        kind: int,
        asked: dict[str, Any],
        batch: pa.RecordBatch | None,
        seconds: float,
        longest: float = _LONGEST_WAIT,
        enough: Callable[[float], bool] = never,
    ) -> tuple[int, bytes]:
        """A question and its answer.

        Parameters
        ----------
        kind, asked
            The question.
        batch
            What it is about.
        seconds
            Processor time for the answer.
        longest
            Seconds that it may be idle or at work at most.
        enough
            Of the processor time used so far: whether the caller waits no longer.

        Raises
        ------
        TimeoutError
            When the time is up.
        NoLonger
            When the caller has had enough.
        EOFError, OSError
            When the process has ended.
        BadAnswer
            For what is no answer.
        """
        file = None
        if batch is not None:
            file, size = self._put(batch)
            asked = {**asked, "bytes": size}
        begun, most = self._used(), min(_WAITING * seconds, longest)
        patience = Patience(seconds, lambda: self._used() - begun, most, self._waiting(), enough)
        send(self._channel, kind, json.dumps(asked).encode(), file)
        answer = receive_until(self._channel, self._handle, patience)
        self.took = self._used() - begun
        return answer

    def where(self, file: str) -> str:
        """Where in the text of this name it is now; "" where it does not say so."""
        try:
            signal.pidfd_send_signal(self._handle, TELL)
            return where(self._channel, file)
        except OSError:
            return ""

    def _put(self, batch: pa.RecordBatch) -> tuple[int | None, int]:
        """Put a batch where the child reads: the file, if the child does not have it yet; the bytes."""
        size, known = size_of(batch), self._shelf
        if known is None or not size <= known.size <= max(_SHELF, 8 * size):
            if known is not None:
                known.close()
            self._shelf = Shelf(max(_SHELF, 2 * size))
            return self._shelf.file, self._shelf.put(batch)
        return None, known.put(batch)

    @cached_property
    def _number(self) -> int:
        """Of the process, as this one sees it."""
        with open(f"/proc/self/fdinfo/{self._handle}") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("Pid:"))

    def _used(self) -> float:
        """Seconds of processor time that the child has used. Raises OSError when it has ended.

        By the kernel's clock of a process. Source: linux/posix-timers.h.
        """
        return time.clock_gettime((~self._number << 3) | 2)

    @cached_property
    def _schedule(self) -> int:
        """The open file of `_kept`: to open it takes longer than to read it. Raises OSError."""
        return os.open(f"/proc/{self._number}/schedstat", os.O_RDONLY | os.O_CLOEXEC)

    def _kept(self) -> float:
        """Seconds that it could have run and had no processor; 0 where the kernel does not say.

        Source: the second number of /proc/PID/schedstat (Documentation/scheduler/sched-stats.rst).
        """
        try:
            return int(os.pread(self._schedule, 100, 0).split()[1]) / 1e9
        except (OSError, IndexError, ValueError):
            return 0.0

    def _waiting(self) -> Callable[[], float]:
        """Says how many seconds have gone since now, without those that it was kept from a processor."""
        begun, kept = time.monotonic(), self._kept()
        return lambda: time.monotonic() - begun - max(0.0, self._kept() - kept)

    def end(self) -> None:
        """End it, whatever it does."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        os.close(self._handle)
        if "_schedule" in vars(self):
            os.close(self._schedule)
        self._channel.close()
        if self._shelf is not None:
            self._shelf.close()
