"""Messages between a process of the pipeline and the process of a stranger's filter, over a socket.

A message is a kind, a length and so many bytes; batches come in memory whose file comes with a message. What
comes back is read as numbers and text of limited length, never as pickle: the other side may send anything.
"""

from __future__ import annotations

import re
import select
import signal
import socket
import struct
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

LOAD, JUDGE, PARSE = 1, 2, 3
"""Kinds of questions."""
DONE, RAISED = 1, 2
"""Kinds of answers."""
TELL = signal.SIGUSR1
"""To a child whose time is up: say where you are."""
MOST_BYTES = 64 * 2**20
"""Of an answer."""
MOST_CUTS = 200
_MOST_NAME, _MOST_TEXT = 500, 16_000
_AT_ONCE, _REST_SECONDS, _LOOK_SECONDS = 1 << 16, 0.01, 0.02
_HEAD = struct.Struct("<BI")
_COUNT = struct.Struct("<I")
_MISSING = 0xFFFFFFFF


class BadAnswer(Exception):
    """Bytes that are no answer."""


class NoLonger(Exception):
    """Who waits for an answer has a reason of their own to wait no longer."""


class Verdicts(NamedTuple):
    """What a filter says of a batch of n alerts, m of which pass.

    cuts: name -> (n,) bool. numbers: name -> (m,) float64. words: name -> m texts, None where missing.
    """

    cuts: dict[str, np.ndarray]
    numbers: dict[str, np.ndarray]
    words: dict[str, list[str | None]]

    def passing(self, rows: int) -> np.ndarray:
        """(rows,) bool, true where every cut is."""
        return np.logical_and.reduce(list(self.cuts.values())) if self.cuts else np.ones(rows, bool)


class Said(NamedTuple):
    """An answer of RAISED: class of the exception, its words, a traceback."""

    kind: str
    words: str
    traceback: str


def send(channel: socket.socket, kind: int, body: bytes, file: int | None = None) -> None:
    """Send a message.

    Parameters
    ----------
    channel
        The socket.
    kind
        Of the message.
    body
        Its bytes.
    file
        An open file that goes with it.
    """
    whole = memoryview(_HEAD.pack(kind, len(body)) + body)
    sent = 0 if file is None else socket.send_fds(channel, [whole], [file])
    if sent < len(whole):
        channel.sendall(whole[sent:])


def receive(channel: socket.socket) -> tuple[int, bytes, int | None]:
    """The next message of somebody who is trusted: kind, body, file. Raises EOFError at the end."""
    first, files, _, _ = socket.recv_fds(channel, _AT_ONCE, 1)
    got = bytearray(first)
    while len(got) < _HEAD.size or len(got) < _HEAD.size + _HEAD.unpack_from(got)[1]:
        more = channel.recv(_AT_ONCE)
        if not more:
            raise EOFError
        got += more
    kind, _ = _HEAD.unpack_from(got)
    return kind, bytes(got[_HEAD.size :]), files[0] if files else None


def never(used: float) -> bool:
    """Whether a caller waits no longer for a reason of its own, who has none."""
    return False


class Patience(NamedTuple):
    """How long an answer is waited for.

    seconds: processor time that the other side may use; used: how much it has used so far. most: seconds that
    it may be idle or at work; waited: how many of them have gone. Time that the machine kept it waiting for a
    processor counts in neither. enough: of the processor time used so far, whether the caller waits no longer
    for a reason of its own.
    """

    seconds: float
    used: Callable[[], float]
    most: float
    waited: Callable[[], float]
    enough: Callable[[float], bool] = never


def receive_until(channel: socket.socket, process: int, patience: Patience) -> tuple[int, bytes]:
    """The answer of somebody who is not trusted: kind and body.

    Parameters
    ----------
    channel
        The socket.
    process
        A pidfd of the other side: its end is an answer too.
    patience
        How long to wait.

    Raises
    ------
    TimeoutError
        When the time is up.
    NoLonger
        When the caller has had enough.
    EOFError
        When the process has ended.
    BadAnswer
        For what is no answer.
    """
    got, whole = bytearray(), _HEAD.size
    waiting = select.poll()
    waiting.register(channel, select.POLLIN)
    waiting.register(process, select.POLLIN)
    kind = 0
    while len(got) < whole:
        _wait(waiting, channel, patience)
        more = channel.recv(_AT_ONCE, socket.MSG_DONTWAIT)
        if not more:
            raise EOFError
        got += more
        if len(got) >= _HEAD.size:
            kind, length = _HEAD.unpack_from(got)
            if kind not in (DONE, RAISED) or length > MOST_BYTES:
                raise BadAnswer("its answer begins like none")
            whole = _HEAD.size + length
    if len(got) > whole:
        raise BadAnswer("its answer is too long")
    return kind, bytes(got[_HEAD.size :])


def where(channel: socket.socket, file: str, seconds: float = 0.1) -> str:
    """Where a child was when its time was up, as far as it says so after TELL: lines of its text.

    Parameters
    ----------
    channel
        The socket.
    file
        The name of the text.
    seconds
        To wait for it.
    """
    got, patience = bytearray(), seconds
    waiting = select.poll()
    waiting.register(channel, select.POLLIN)
    while len(got) < _MOST_TEXT and waiting.poll(1000 * patience):
        more = channel.recv(_MOST_TEXT, socket.MSG_DONTWAIT)
        if not more:
            break
        got, patience = got + more, _REST_SECONDS
    lines = re.findall(r'File "([^"]*)", (line \d+ in \w+)', got.decode(errors="replace"))
    own = [f'  File "{file}", {printable(line)}\n' for name, line in lines if name == file]
    return "".join(["Traceback (most recent call last):\n", *reversed(own)]) if own else ""


def _wait(waiting: select.poll, channel: socket.socket, patience: Patience) -> None:
    """Until something can be read. Raises TimeoutError, NoLonger, EOFError."""
    left = min(patience.seconds, patience.most)
    while True:
        ready = dict(waiting.poll(1000 * max(0.001, min(left, _LOOK_SECONDS))))
        if ready.get(channel.fileno(), 0) & select.POLLIN:
            return
        if ready:
            raise EOFError
        used = patience.used()
        left = min(patience.seconds - used, patience.most - patience.waited())
        if left <= 0:
            raise TimeoutError
        if patience.enough(used):
            raise NoLonger


def pack_verdicts(rows: int, found: Verdicts) -> bytes:
    """An answer to JUDGE.

    Parameters
    ----------
    rows
        How many alerts there were.
    found
        What the filter said of them.
    """
    parts = [_COUNT.pack(rows), _COUNT.pack(len(found.cuts))]
    for name, mask in found.cuts.items():
        parts += [pack_text(name), np.packbits(mask).tobytes()]
    parts.append(_COUNT.pack(len(found.numbers)))
    for name, numbers in found.numbers.items():
        parts += [pack_text(name), np.asarray(numbers, "<f8").tobytes()]
    parts.append(_COUNT.pack(len(found.words)))
    for name, words in found.words.items():
        parts.append(pack_text(name))
        parts += [_COUNT.pack(_MISSING) if word is None else pack_text(word) for word in words]
    return b"".join(parts)


def unpack_verdicts(body: bytes, rows: int) -> Verdicts:
    """What an answer to JUDGE says of so many alerts. Raises BadAnswer."""
    reader = Reader(body)
    if reader.count() != rows:
        raise BadAnswer("its answer is about other alerts")
    cuts = {}
    for _ in range(reader.at_most(MOST_CUTS)):
        name = reader.text(_MOST_NAME)
        bits = np.frombuffer(reader.take((rows + 7) // 8), np.uint8)
        cuts[name] = np.unpackbits(bits, count=rows).view(bool)
    passing = int(Verdicts(cuts, {}, {}).passing(rows).sum())
    numbers = {}
    for _ in range(reader.at_most(MOST_CUTS)):
        name = reader.text(_MOST_NAME)
        numbers[name] = np.frombuffer(reader.take(8 * passing), "<f8")
    words: dict[str, list[str | None]] = {}
    for _ in range(reader.at_most(MOST_CUTS)):
        name = reader.text(_MOST_NAME)
        words[name] = [reader.word() for _ in range(passing)]
    reader.end()
    return Verdicts(cuts, numbers, words)


def pack_said(said: Said) -> bytes:
    """An answer of RAISED."""
    return b"".join(pack_text(_cut(one)) for one in said)


def unpack_said(body: bytes) -> Said:
    """What was raised; letters that would move a terminal's cursor are gone. Raises BadAnswer."""
    reader = Reader(body)
    said = Said(*(printable(reader.text(_MOST_TEXT)) for _ in range(3)))
    reader.end()
    return said


def _cut(text: str) -> str:
    """The end is kept: a traceback says there what was raised."""
    return text if len(text) < _MOST_TEXT // 4 else f"…{text[-_MOST_TEXT // 4 :]}"


def printable(text: str) -> str:
    """A stranger's text without what would move a terminal's cursor."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)


def pack_text(text: str) -> bytes:
    """A text of an answer."""
    raw = text.encode(errors="replace")
    return _COUNT.pack(len(raw)) + raw


class Reader:
    """Reads an answer from its beginning to its end."""

    def __init__(self, body: bytes) -> None:
        self._body, self._at = body, 0

    def take(self, count: int) -> bytes:
        """So many bytes. Raises BadAnswer."""
        if count > len(self._body) - self._at:
            raise BadAnswer("its answer is too short")
        self._at += count
        return self._body[self._at - count : self._at]

    def count(self) -> int:
        """A number. Raises BadAnswer."""
        return int(_COUNT.unpack(self.take(_COUNT.size))[0])

    def at_most(self, most: int) -> int:
        """A number up to `most`. Raises BadAnswer."""
        if (count := self.count()) > most:
            raise BadAnswer(f"its answer has {count:,} parts, {most:,} may be")
        return count

    def text(self, most: int) -> str:
        """A text of at most so many bytes. Raises BadAnswer."""
        return self.take(self.at_most(most)).decode(errors="replace")

    def word(self) -> str | None:
        """A text, or None where it is missing. Raises BadAnswer."""
        length = self.count()
        return None if length == _MISSING else self.take(length).decode(errors="replace")

    def end(self) -> None:
        """Raise BadAnswer unless all has been read."""
        if self._at != len(self._body):
            raise BadAnswer("its answer is too long")
