"""The process that reads one file of a user: confined before it sees the first byte of it."""

from __future__ import annotations

import gc
import json
import mmap
import os
import socket
from collections.abc import Callable

import pyarrow as pa

from filters.files.columns import Column, packed
from filters.files.graph import onnx
from filters.files.tables import READERS, BadFile
from filters.sandbox import wire
from filters.sandbox.inside.zygote import run
from schemas.errors import one_line

EVERY: dict[str, tuple[str, Callable[[bytes], list[Column]]]] = {**READERS, ".onnx": ("ONNX", onnx)}
"""Ending of a file's name -> what it is called, and how it is read."""


def main(control: int) -> None:
    """The zygote that such processes are forked from. control: its socket."""
    run(control, _warm, __name__)


def serve(channel: socket.socket) -> None:
    """Read files as they come, until there are no more."""
    while True:
        kind, body, file = wire.receive(channel)
        if kind != wire.PARSE or file is None:
            return
        asked = json.loads(body)
        try:
            answer = packed(EVERY[asked["ending"]][1](_content(file, asked["bytes"])))
        except MemoryError:
            wire.send(channel, wire.RAISED, wire.pack_said(wire.Said("MemoryError", "", "")))
        except BaseException as error:  # a parser of any format may raise anything
            kind_of = "" if isinstance(error, BadFile) else type(error).__name__
            wire.send(channel, wire.RAISED, wire.pack_said(wire.Said(kind_of, one_line(error), "")))
        else:
            wire.send(channel, wire.DONE, answer)
        gc.collect()


def _content(file: int, size: int) -> bytes:
    """The file's bytes, which come as the only value of a batch."""
    try:
        shelf = mmap.mmap(file, os.lseek(file, 0, os.SEEK_END), prot=mmap.PROT_READ)
    finally:
        os.close(file)
    with pa.ipc.open_stream(pa.py_buffer(shelf[:size])) as stream:
        return bytes(stream.read_next_batch().column(0)[0].as_buffer())


def _warm() -> None:
    """Read a small file of each kind: what parsers import when they are first used, a child cannot."""
    from filters.files.rehearsal import rehearse

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    rehearse(EVERY)
