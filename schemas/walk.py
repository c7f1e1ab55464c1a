"""The compiled walk over Avro bodies: one interpreter for all schemas, straight into Arrow's memory.

`Plan` (schemas/plan.py) turns a writer schema into a program, one row of words for each node of the schema.
`walk` runs it over every body of a batch without the interpreter lock. Each *level* (the alert, and each array)
has a row counter; a value goes to address + row x stride, with stride 0 for what nobody asked for, so that
projection needs no other program. Memory starts as zeros, so that a null writes nothing. Strings are noted as
(address, length) and gathered afterwards.

Bounds: an op reads at most 22 bytes before it looks where it is. The last 32 bytes of a body are read from a
padded copy, so nothing outside a body is ever read; lengths and counts are compared with what is left before
they are used.
Binary encoding: Avro specification 1.12, "Data Serialization and Deserialization".

Everything here is unsigned: signed indices would add wrap-around to each access, and numba makes int64 with
uint64 a float64.
numba's cache does not see changes in other modules, so the helpers stay in this file.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

(
    KIND,  # what to read, see below
    UNION,  # 1 when a branch comes first: [X], [X, null] or [null, X]
    VALUE,  # the byte of X's branch
    NULL,  # the byte of null's branch
    LEVEL,  # whose row counter
    DATA,  # address of the value column
    STRIDE,  # bytes from row to row
    VALID,  # address of the validity column, a byte a row
    VALID_STRIDE,
    JUMP,  # where to go on after a null, an array, a branch
    CHILD,  # the level of an array's items
    SIZE,  # bytes of a fixed, symbols of an enum, branches of a union, least bytes of an item
    WORDS,
) = range(13)

(
    END,  # of the record: next row
    BOOLEAN,
    INT,
    LONG,
    FLOAT,
    DOUBLE,
    STRING,
    BYTES,
    FIXED,
    ENUM,
    RECORD,  # only records that may be null need an op
    ARRAY,
    ARRAY_END,
    GOTO,
    BRANCHES,  # a union of several types: then one GOTO for each branch
) = range(15)

(
    OK,
    BEYOND,  # a value goes on after the end of the body
    NO_BRANCH,
    NEGATIVE,
    LONG_NUMBER,
    WIDE_INT,
    NOT_UTF8,
    NOT_BOOLEAN,
    NO_SYMBOL,
    TOO_MANY,
    LEFT_OVER,
) = range(11)

MAX_ITEMS = 100_000
"""Items of one array. A year of Rubin visits to one place is about a thousand; this is no science."""

PADDED = 32
"""The last bytes of each body, read from a copy with as many zeros behind."""

_U = np.uint64


def _memory(width: int) -> tuple[Any, Any]:
    """Intrinsics that load and store an unaligned little-endian number of `width` bits as uint64."""

    def load(_typing: Any, address: Any) -> tuple[Any, Callable[..., Any]]:
        def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            pointer = builder.inttoptr(arguments[0], ir.IntType(width).as_pointer())
            value = builder.load(pointer, align=1)
            return value if width == 64 else builder.zext(value, ir.IntType(64))

        return types.uint64(types.uint64), generate

    def store(_typing: Any, address: Any, value: Any) -> tuple[Any, Callable[..., Any]]:
        def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            pointer = builder.inttoptr(arguments[0], ir.IntType(width).as_pointer())
            number = arguments[1] if width == 64 else builder.trunc(arguments[1], ir.IntType(width))
            builder.store(number, pointer, align=1)
            return _context.get_dummy_value()

        return types.void(types.uint64, types.uint64), generate

    return intrinsic(load), intrinsic(store)


load8, store8 = _memory(8)
load32, store32 = _memory(32)
load64, store64 = _memory(64)


@njit(nogil=True, cache=True, inline="never")
def _copy(source: int, target: int, count: int) -> None:
    done = _U(0)
    while done + _U(8) <= count:
        store64(target + done, load64(source + done))
        done += _U(8)
    while done < count:
        store8(target + done, load8(source + done))
        done += _U(1)


@njit(nogil=True, cache=True)
def _is_utf8(at: int, end: int) -> bool:
    """Whether [at, end) is UTF-8 as RFC 3629 has it: no overlong forms, no surrogates."""
    high = _U(0x8080808080808080)
    while at + _U(8) <= end and not load64(at) & high:
        at += _U(8)
    while at < end:
        lead = load8(at)
        at += _U(1)
        if lead < _U(0x80):
            continue
        low, top = _U(0x80), _U(0xBF)  # what the second byte may be
        if lead >= _U(0xC2) and lead <= _U(0xDF):
            more = _U(1)
        elif lead >= _U(0xE0) and lead <= _U(0xEF):
            more = _U(2)
            if lead == _U(0xE0):
                low = _U(0xA0)
            elif lead == _U(0xED):
                top = _U(0x9F)
        elif lead >= _U(0xF0) and lead <= _U(0xF4):
            more = _U(3)
            if lead == _U(0xF0):
                low = _U(0x90)
            elif lead == _U(0xF4):
                top = _U(0x8F)
        else:
            return False
        if more > end - at:
            return False
        while more:
            byte = load8(at)
            if byte < low or byte > top:
                return False
            low, top = _U(0x80), _U(0xBF)
            at += _U(1)
            more -= _U(1)
    return True


@njit(nogil=True, cache=True, inline="always")
def _varint(at: int) -> tuple[int, int]:
    """The zigzag number at `at`, still unsigned, and where it ends; 0 as the end when it is too long."""
    byte = load8(at)
    at += _U(1)
    if byte < _U(0x80):
        return byte, at
    value = byte & _U(0x7F)
    shift = _U(7)
    while True:
        byte = load8(at)
        at += _U(1)
        value |= (byte & _U(0x7F)) << shift
        if byte < _U(0x80):
            return value, (_U(0) if shift == _U(63) and byte > _U(1) else at)
        shift += _U(7)
        if shift > _U(63):
            return value, _U(0)


@njit(nogil=True, cache=True, inline="always")
def _unzigzag(number: int) -> int:
    return (number >> _U(1)) ^ (_U(0) - (number & _U(1)))


@njit(nogil=True, cache=True)
def _rewind(program: np.ndarray, rows: np.ndarray, start: np.ndarray, capacity: np.ndarray) -> None:
    """Make zeros again of what a packet wrote that is then refused."""
    for op in range(_U(len(program))):
        if not program[op, STRIDE] and not program[op, VALID_STRIDE]:
            continue
        level = program[op, LEVEL]
        stop = min(rows[level] + _U(1), capacity[level])
        for row in range(start[level], stop):
            for byte in range(program[op, STRIDE]):
                store8(program[op, DATA] + row * program[op, STRIDE] + byte, _U(0))
            if program[op, VALID_STRIDE]:
                store8(program[op, VALID] + row, _U(0))
    for level in range(_U(len(rows))):
        rows[level] = start[level]


@njit(nogil=True, cache=True)
def walk(
    program: np.ndarray,
    messages: np.ndarray,
    first: int,
    rows: np.ndarray,
    capacity: np.ndarray,
    scratch: np.ndarray,
    padded: np.ndarray,
    result: np.ndarray,
) -> tuple[int, int, int]:
    """Run the program over messages[first:]; all arrays are uint64 but `padded` (uint8, 2 x PADDED).

    messages: (n, 4): address, bytes, records, packet; those of one packet stand together.
    rows, capacity: of each level, rows filled and rows that there is memory for.
    scratch: (3, levels): rows when the packet began, items left, rows when the array began.
    result: (packets, 4): error, byte of the body, op, rows of level 0; a refused packet leaves no rows.

    Returns (messages done, 0, 0), or when memory is short (first message of the packet to do again, level, rows).
    """
    start, left, began = scratch[0], scratch[1], scratch[2]
    tail = _U(padded.ctypes.data)
    message, count = _U(first), _U(len(messages))
    packet_first = message
    packet = _U(0xFFFFFFFFFFFFFFFF)
    while message < count:
        if messages[message, 3] != packet:
            packet, packet_first = messages[message, 3], message
            for level in range(_U(len(rows))):
                start[level] = rows[level]
        at = messages[message, 0]
        end = at + messages[message, 1]
        offset = _U(0)  # from the padded copy to the body
        in_tail = False
        records = messages[message, 2]
        op, error = _U(0), _U(OK)
        while records:
            if end - at < _U(PADDED) and not in_tail:
                _copy(at, tail, end - at)
                offset = at - tail
                end = tail + (end - at)
                at = tail
                in_tail = True
            if program[op, UNION]:
                branch = load8(at)
                at += _U(1)
                if branch != program[op, VALUE]:
                    if branch != program[op, NULL]:
                        error = _U(NO_BRANCH)
                        break
                    if at > end:
                        error = _U(BEYOND)
                        break
                    op = program[op, JUMP]
                    continue
            kind = program[op, KIND]
            level = program[op, LEVEL]
            row = rows[level]
            target = program[op, DATA] + row * program[op, STRIDE]
            if kind == _U(FLOAT):
                store32(target, load32(at))
                at += _U(4)
            elif kind == _U(DOUBLE):
                store64(target, load64(at))
                at += _U(8)
            elif kind == _U(INT):
                number, at = _varint(at)
                if at == _U(0) or number > _U(0xFFFFFFFF):
                    error = _U(LONG_NUMBER) if at == _U(0) else _U(WIDE_INT)
                    break
                store32(target, _unzigzag(number))
            elif kind == _U(LONG):
                number, at = _varint(at)
                if at == _U(0):
                    error = _U(LONG_NUMBER)
                    break
                store64(target, _unzigzag(number))
            elif kind == _U(STRING) or kind == _U(BYTES):
                number, at = _varint(at)
                if at == _U(0) or number & _U(1):
                    error = _U(LONG_NUMBER) if at == _U(0) else _U(NEGATIVE)
                    break
                number >>= _U(1)
                if at > end or number > end - at:
                    error = _U(BEYOND)
                    break
                if kind == _U(STRING) and not _is_utf8(at, at + number):
                    error = _U(NOT_UTF8)
                    break
                store64(target, at + offset)
                store64(target + _U(8), number)
                at += number
            elif kind == _U(BOOLEAN):
                value = load8(at)
                at += _U(1)
                if value > _U(1):
                    error = _U(NOT_BOOLEAN)
                    break
                store8(target, value)
            elif kind == _U(ARRAY) or kind == _U(ARRAY_END):
                child = program[op, CHILD]
                if kind == _U(ARRAY):
                    began[child] = rows[child]
                else:
                    rows[child] += _U(1)
                    left[child] -= _U(1)
                    if left[child]:
                        op = program[op, JUMP]
                        continue
                number, at = _varint(at)
                if at == _U(0):
                    error = _U(LONG_NUMBER)
                    break
                items = _unzigzag(number)
                if number & _U(1):  # a negative count: the block's size in bytes follows
                    items = _U(0) - items
                    number, at = _varint(at)
                    if at == _U(0) or number & _U(1):
                        error = _U(LONG_NUMBER) if at == _U(0) else _U(NEGATIVE)
                        break
                if at > end or items > (end - at) // program[op, SIZE]:
                    error = _U(BEYOND)
                    break
                if items == _U(0):
                    store64(target, rows[child] - began[child])
                    if kind == _U(ARRAY):
                        store8(program[op, VALID] + row * program[op, VALID_STRIDE], _U(1))
                        op = program[op, JUMP]
                    else:
                        op += _U(1)
                    continue
                if rows[child] - began[child] + items > _U(MAX_ITEMS):
                    error = _U(TOO_MANY)
                    break
                if rows[child] + items > capacity[child]:
                    need = rows[child] + items
                    for other in range(_U(len(rows))):
                        rows[other] = start[other]
                    return packet_first, child, need
                left[child] = items
                if kind == _U(ARRAY_END):
                    op = program[op, JUMP]
                    continue
            elif kind == _U(END):
                if at > end:
                    error = _U(BEYOND)
                    break
                rows[level] += _U(1)
                records -= _U(1)
                op = _U(0)
                continue
            elif kind == _U(GOTO):
                op = program[op, JUMP]
                continue
            elif kind == _U(FIXED):
                if program[op, SIZE] > end - at:
                    error = _U(BEYOND)
                    break
                at += program[op, SIZE]
            elif kind == _U(ENUM) or kind == _U(BRANCHES):
                number, at = _varint(at)
                if at == _U(0) or number & _U(1) or number >> _U(1) >= program[op, SIZE]:
                    error = _U(NO_SYMBOL) if kind == _U(ENUM) else _U(NO_BRANCH)
                    break
                if kind == _U(BRANCHES):
                    op += number >> _U(1)
            if at > end:
                error = _U(BEYOND)
                break
            store8(program[op, VALID] + row * program[op, VALID_STRIDE], _U(1))
            op += _U(1)
        if error == _U(OK) and at != end:
            error = _U(LEFT_OVER)
        message += _U(1)
        if error != _U(OK):
            result[packet, 0] = error
            result[packet, 1] = at + offset - messages[message - _U(1), 0]
            result[packet, 2] = op
            _rewind(program, rows, start, capacity)
            while message < count and messages[message, 3] == packet:
                message += _U(1)
        result[packet, 3] = rows[0] - start[0]
    return message, _U(0), _U(0)


@njit(nogil=True, cache=True)
def string_offsets(notes: int, rows: int, offsets: np.ndarray, width: int) -> int:
    """Write rows + 1 Arrow offsets of `width` bytes for strings noted as (address, length); returns the last."""
    target, total = _U(offsets.ctypes.data), _U(0)
    for row in range(rows + _U(1)):
        if width == _U(4):
            store32(target + row * _U(4), total)
        else:
            store64(target + row * _U(8), total)
        if row < rows:
            total += load64(notes + row * _U(16) + _U(8))
    return total


@njit(nogil=True, cache=True)
def gather(notes: int, rows: int, data: np.ndarray) -> None:
    """Copy strings noted as (address, length) one behind the other."""
    target = _U(data.ctypes.data)
    for row in range(rows):
        size = load64(notes + row * _U(16) + _U(8))
        _copy(load64(notes + row * _U(16)), target, size)
        target += size


@njit(nogil=True, cache=True)
def split_containers(packets: np.ndarray, found: np.ndarray) -> None:
    """Find the body of container files that have one block, not compressed (nearly all alerts).

    packets: (n, 3) uint64: address, bytes, bytes of the header before the sync marker.
    found: (n, 3) uint64 of zeros, becomes body address, bytes, records; all zero where it is anything else.
    """
    for place in range(_U(len(packets))):
        begin, size = packets[place, 0], packets[place, 1]
        at, end = begin + packets[place, 2] + _U(16), begin + size
        if size < packets[place, 2] + _U(16 + 2 + 16 + 20):
            continue
        sync = at - _U(16)
        records, at = _varint(at)
        if at == _U(0) or records & _U(1):
            continue
        length, at = _varint(at)
        if at == _U(0) or length & _U(1):
            continue
        length >>= _U(1)
        if at + _U(16) > end or length != end - at - _U(16):
            continue
        last = end - _U(16)
        if load64(last) != load64(sync) or load64(last + _U(8)) != load64(sync + _U(8)):
            continue
        found[place, 0], found[place, 1], found[place, 2] = at, length, records >> _U(1)
