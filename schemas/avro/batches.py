"""Packets of one writer schema, walked together."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.avro import walk as op
from schemas.avro.columns import Columns, Memory
from schemas.avro.fallback import MAX_RECORDS
from schemas.avro.framing import Block
from schemas.avro.program import Program
from schemas.errors import CorruptValue, PacketError, TooLarge, Truncated

_ERRORS: dict[int, tuple[type[PacketError], str]] = {
    op.BEYOND: (Truncated, "extends beyond the end of the body"),
    op.NO_BRANCH: (CorruptValue, "has a branch number that its union does not have"),
    op.NEGATIVE: (CorruptValue, "has a negative length"),
    op.LONG_NUMBER: (CorruptValue, "has a number of more than 64 bits"),
    op.WIDE_INT: (CorruptValue, "is an int of more than 32 bits"),
    op.NOT_UTF8: (CorruptValue, "is a string that is not UTF-8"),
    op.NOT_BOOLEAN: (CorruptValue, "is a boolean that is neither 0 nor 1"),
    op.NO_SYMBOL: (CorruptValue, "has a symbol number that its enum does not have"),
    op.TOO_MANY: (TooLarge, f"has more than {op.MAX_ITEMS:,} items"),
    op.LEFT_OVER: (CorruptValue, "is followed by more bytes"),
}

_FIRST_GUESS = 32.0  # items of an array: what a ZTF history has


class Group:
    """The packets of a batch that have one writer schema, by address.

    `add_container` is for uncompressed container files, whose bodies are found later, all at once; `add` for
    bodies that were taken out already. The caller keeps the packets alive.
    """

    def __init__(self) -> None:
        self._containers: list[int] = []  # flat: index, address, bytes, bytes of header
        self._messages: list[tuple[int, int, int, int]] = []
        self._alive: list[Any] = []
        self._found = np.zeros((0, 4), np.uint64)

    def add_container(self, index: int, raw: bytes, header: int) -> None:
        """Add a container file with the null codec.

        Parameters
        ----------
        index
            Place of the packet in the batch.
        raw
            The whole file. The caller keeps it alive.
        header
            Length of the file's header in bytes, without the sync marker.
        """
        self._containers += (index, pa.py_buffer(raw).address, len(raw), header)

    def add(self, index: int, blocks: Sequence[Block]) -> None:
        """A packet whose blocks are known."""
        for block in blocks:
            buffer = pa.py_buffer(block.body)
            self._alive.append(buffer)
            self._messages.append((buffer.address, len(block.body), block.records, index))

    def split(self) -> list[int]:
        """Find the containers' bodies; returns the indices of those that are not as simple as most."""
        containers = np.array(self._containers, np.uint64).reshape(-1, 4)
        found = np.zeros((len(containers), 3), np.uint64)
        op.split_containers(np.ascontiguousarray(containers[:, 1:]), found)
        simple = found[:, 2] > 0
        self._found = np.column_stack([found[simple], containers[simple, 0]])
        return [int(index) for index in containers[~simple, 0]]

    def messages(self) -> np.ndarray:
        """(n, 4) uint64: address, bytes, records, index of the packet, in the packets' order."""
        if not self._messages:
            return self._found
        all_of_them = np.vstack([self._found, np.array(self._messages, np.uint64)])
        return all_of_them[np.argsort(all_of_them[:, 3], kind="stable")]


class Walked:
    """What one walk left: `columns`, `packet` (for each row, the index of its packet) and the refusals."""

    def __init__(self, plan: Program, messages: np.ndarray) -> None:
        self._plan = plan
        self.refused: list[tuple[int, PacketError]] = []
        messages = self._possible(messages)
        index, local = np.unique(messages[:, 3], return_inverse=True)
        messages[:, 3] = local
        self._result = np.zeros((len(index), 4), np.uint64)
        self.columns = self._walk(messages)
        self.packet = np.repeat(index.astype(np.int64), self._result[:, 3].astype(np.int64))
        for place in np.flatnonzero(self._result[:, 0]):
            self.refused.append((int(index[place]), _error(plan, *map(int, self._result[place, :3]))))

    def _possible(self, messages: np.ndarray) -> np.ndarray:
        """Without the packets that announce more records than their bytes can hold."""
        least = np.uint64(max(self._plan.least, 1))
        bad = (messages[:, 2] > messages[:, 1] // least) | (messages[:, 2] > MAX_RECORDS)
        if not bad.any():
            return messages.copy()
        for index in np.unique(messages[bad, 3]):
            self.refused.append((int(index), Truncated("a block has more records than its bytes can hold")))
        return messages[~np.isin(messages[:, 3], messages[bad, 3])]

    def _walk(self, messages: np.ndarray) -> Columns:
        plan, records = self._plan, int(messages[:, 2].sum())
        levels = len(plan.levels)
        guesses = [int(records * 1.1 * (seen or _FIRST_GUESS)) + 64 for seen in plan.items]
        memory = Memory(plan, [records, *guesses[1:]])
        rows, scratch = np.zeros(levels, np.uint64), np.zeros((3, levels), np.uint64)
        padded = np.zeros(2 * op.PADDED, np.uint8)
        done, level = 0, -1
        while level:
            done, level, need = op.walk(
                memory.program,
                messages,
                np.uint64(done),
                rows,
                memory.capacity,
                scratch,
                padded,
                self._result,
            )
            if level:
                memory.grow(level, need, int(rows[level]))
        plan.items = [max(int(n) / max(records, 1), 0.9 * s) for n, s in zip(rows, plan.items, strict=True)]
        return memory.columns(rows)


def _error(plan: Program, code: int, byte: int, at: int) -> PacketError:
    kind, words = _ERRORS[code]
    return kind(f"{plan.paths[at]} {words}, before byte {byte:,} of the body")
