"""Distinct things among many 64-bit keys: which rows name the same one.

NumPy's sort takes 65 ms for a million keys on the machine where this was written, its `unique` a second; a
table of slots takes 25, and says for each row which one it is.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numba import njit, uint64

_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: Knuth's multiplicative hashing


@njit(cache=True, nogil=True)
def _place(keys, table, slots):  # type: ignore[no-untyped-def]
    """Fill `slots`: for each key the number of its first equal, in order of appearance; returns how many."""
    bits = uint64(64 - np.int64(np.log2(len(table)) + 0.5))
    last = uint64(len(table) - 1)
    count = np.int32(0)
    firsts = np.empty(len(keys), np.uint64)
    for row in range(len(keys)):
        key = keys[row]
        at = (key * uint64(0x9E3779B97F4A7C15)) >> bits
        while True:
            slot = table[at]
            if slot < 0:
                table[at] = count
                firsts[count] = key
                slots[row] = count
                count += np.int32(1)
                break
            if firsts[slot] == key:
                slots[row] = slot
                break
            at = (at + uint64(1)) & last
    return count


def distinct(keys: np.ndarray) -> tuple[np.ndarray, int]:
    """For each key (any 64-bit integers) which distinct one it is, from 0 (int32), and how many there are."""
    slots = np.empty(len(keys), np.int32)
    if not len(keys):
        return slots, 0
    table = np.full(1 << max(4, int(2 * len(keys) - 1).bit_length()), -1, np.int32)
    return slots, int(_place(keys.view(np.uint64), table, slots))


@njit(cache=True, nogil=True)
def _deepest(slots, depths, best):  # type: ignore[no-untyped-def]
    for row in range(len(slots)):
        if depths[row] > best[slots[row]]:
            best[slots[row]] = depths[row]


def deepest(slots: np.ndarray, count: int, depths: np.ndarray) -> np.ndarray:
    """The greatest depth of each distinct key, (count,) uint8.

    Parameters
    ----------
    slots
        (n,) int32: for each row the number of its key, as `distinct` gives it.
    count
        How many distinct keys there are.
    depths
        (n,) uint8: for each row its depth.
    """
    best = np.zeros(count, np.uint8)
    _deepest(slots, depths, best)
    return best


def text_keys(words: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """uint64: a key for each word, the same whatever else is in the batch; missing is 0.

    Words of up to eight bytes and ZTF's objectIds ("ZTF18abcdefg": the first four bytes hardly vary) never
    share a key; of a million longer ones two do with a probability of 3e-8.
    """
    if isinstance(words, pa.ChunkedArray):
        words = (
            words.chunk(0)
            if words.num_chunks == 1
            else pa.concat_arrays(words.chunks or [pa.array([], words.type)])
        )
    kind = np.int64 if pa.types.is_large_string(words.type) else np.int32
    _, offsets, data = words.buffers()
    if not len(words) or data is None:
        return np.zeros(len(words), np.uint64)
    ends = np.frombuffer(offsets, kind)[words.offset : words.offset + len(words) + 1]
    lengths, letters = np.diff(ends), np.frombuffer(data, np.uint8)
    keys = np.zeros(len(words), np.uint64)
    first = int(lengths[0])
    if first and (lengths == first).all():
        return _folded(letters[ends[0] : ends[-1]].reshape(-1, first))
    for length in np.unique(lengths[lengths > 0]).tolist():
        rows = np.flatnonzero(lengths == length)
        keys[rows] = _folded(letters[ends[rows][:, None] + np.arange(length)])
    return keys


def _folded(letters: np.ndarray) -> np.ndarray:
    """Rows of bytes -> uint64."""
    rows, length = letters.shape
    words = -(-length // 8)
    padded = np.zeros((rows, words * 8), np.uint8)
    padded[:, words * 8 - length :] = letters
    columns = padded.view("<u8")
    keys = np.zeros(rows, np.uint64)
    for word in range(words):
        keys = keys * _MIX + columns[:, word].astype(np.uint64)
    return keys
