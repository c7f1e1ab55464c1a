"""The compiled walk over Avro bodies: one interpreter for all schemas, straight into Arrow's memory.

`Program` (schemas/avro/program.py) turns a writer schema into a program, a row of words for each of its
nodes. `walk` runs it over every body of a batch without the interpreter lock. Each *level* (the alert, each
array) has a row counter; a value goes to address + row x stride, with stride 0 for columns that are not
wanted, so that a projection needs no other program. Memory starts as zeros, so that a null writes nothing.
Strings are noted as (address, length) and gathered afterwards.

Bounds: an op reads at most 22 bytes before it checks its position. The last 32 bytes of a body are read from
a padded copy, so nothing outside a body is ever read; lengths and counts are compared with what is left
before they are used. Binary encoding: Avro specification 1.12, "Data Serialization and Deserialization".

Everything here is unsigned: signed indices would add wrap-around to each access, and numba makes int64 with
uint64 a float64.
numba's cache does not see changes in other modules, so the helpers stay in this file.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.core import cgutils
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
    MARK,  # reads nothing: notes the position (schemas/avro/rewrite.py)
    RUN,  # SIZE nullable floats at once, their columns CHILD bytes apart; their own ops follow
) = range(17)

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
    SHORT,  # not an error of the packet: the level needs memory for more rows
) = range(12)

MAX_ITEMS = 100_000
"""Items of one array. A year of Rubin visits to one place is about a thousand; more is not a real history."""

PADDED = 32
"""The last bytes of each body, read from a copy with as many zeros behind."""

U64 = np.uint64


def _compiled(function: Callable[..., Any]) -> Any:
    """Compile without the interpreter lock; keep the machine code beside this file or in the user's cache.

    Where neither can be written (a container that is read-only), each process compiles for itself: 5 s.
    """
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # "cannot cache function: no locator available"
        return njit(nogil=True)(function)


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


@intrinsic
def _copy(_typing: Any, source: Any, target: Any, count: Any) -> tuple[Any, Callable[..., Any]]:
    """memcpy."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        source, target = (builder.inttoptr(address, byte) for address in arguments[:2])
        cgutils.raw_memcpy(builder, target, source, arguments[2], 1)
        return _context.get_dummy_value()

    return types.void(types.uint64, types.uint64, types.uint64), generate


@_compiled
def _is_utf8(at: U64, end: U64) -> bool:
    """Whether [at, end) is UTF-8 as RFC 3629 has it: no overlong forms, no surrogates."""
    while at + U64(8) <= end and not load64(at) & U64(0x8080808080808080):
        at += U64(8)
    while at < end:
        lead = load8(at)
        at += U64(1)
        if lead < U64(0x80):
            continue
        if lead < U64(0xC2) or lead > U64(0xF4):
            return False
        low, top = U64(0x80), U64(0xBF)  # what the second byte may be
        if lead == U64(0xE0):
            low = U64(0xA0)
        elif lead == U64(0xED):
            top = U64(0x9F)
        elif lead == U64(0xF0):
            low = U64(0x90)
        elif lead == U64(0xF4):
            top = U64(0x8F)
        more = U64(1) + U64(lead >= U64(0xE0)) + U64(lead >= U64(0xF0))
        if more > end - at:
            return False
        for _ in range(more):
            byte = load8(at)
            if byte < low or byte > top:
                return False
            low, top = U64(0x80), U64(0xBF)
            at += U64(1)
    return True


@njit(inline="always")
def _varint(at: U64) -> tuple[U64, U64]:
    """The zigzag number at `at`, still unsigned, and where it ends; 0 as the end when it is too long."""
    byte = load8(at)
    at += U64(1)
    if byte < U64(0x80):
        return byte, at
    value = byte & U64(0x7F)
    shift = U64(7)
    while True:
        byte = load8(at)
        at += U64(1)
        value |= (byte & U64(0x7F)) << shift
        if byte < U64(0x80):
            return value, (U64(0) if shift == U64(63) and byte > U64(1) else at)
        shift += U64(7)
        if shift > U64(63):
            return value, U64(0)


@njit(inline="always")
def _unzigzag(number: U64) -> U64:
    return (number >> U64(1)) ^ (U64(0) - (number & U64(1)))


@njit(inline="always")
def _number(kind: U64, at: U64, target: U64) -> tuple[U64, U64]:
    """Read an int or long; returns where it ends and the error."""
    number, at = _varint(at)
    if at == U64(0):
        return at, U64(LONG_NUMBER)
    if kind == U64(LONG):
        store64(target, _unzigzag(number))
    elif number > U64(0xFFFFFFFF):
        return at, U64(WIDE_INT)
    else:
        store32(target, _unzigzag(number))
    return at, U64(OK)


@njit(inline="always")
def _string(kind: U64, at: U64, end: U64, offset: U64, target: U64) -> tuple[U64, U64]:
    """Note a string or bytes as (address, length); returns where it ends and the error."""
    number, at = _varint(at)
    size = number >> U64(1)
    if at == U64(0) or number & U64(1):
        return at, (U64(LONG_NUMBER) if at == U64(0) else U64(NEGATIVE))
    if at > end or size > end - at:
        return at, U64(BEYOND)
    if kind == U64(STRING) and not _is_utf8(at, at + size):
        return at, U64(NOT_UTF8)
    store64(target, at + offset)
    store64(target + U64(8), size)
    return at + size, U64(OK)


@njit(inline="always")
def _choice(kind: U64, at: U64, choices: U64) -> tuple[U64, U64, U64]:
    """Read an enum's symbol or a union's branch; returns it, where it ends, the error."""
    number, at = _varint(at)
    if at == U64(0) or number & U64(1) or number >> U64(1) >= choices:
        return U64(0), at, (U64(NO_SYMBOL) if kind == U64(ENUM) else U64(NO_BRANCH))
    return number >> U64(1), at, U64(OK)


@njit(inline="always")
def _block(at: U64, end: U64, least: U64) -> tuple[U64, U64, U64]:
    """The head of an array's block; returns its items (of `least` bytes), where they begin, the error."""
    number, at = _varint(at)
    if at == U64(0):
        return U64(0), at, U64(LONG_NUMBER)
    items = _unzigzag(number)
    if number & U64(1):  # a negative count: the block's size in bytes follows
        items = U64(0) - items
        number, at = _varint(at)
        if at == U64(0) or number & U64(1):
            return U64(0), at, (U64(LONG_NUMBER) if at == U64(0) else U64(NEGATIVE))
    if at > end or items > (end - at) // least:
        return U64(0), at, U64(BEYOND)
    return items, at, U64(OK)


@njit(inline="always")
def _run(program: np.ndarray, op: U64, at: U64, end: U64, row: U64) -> tuple[U64, U64]:
    """Read nullable floats at once; returns where they end and the next op.

    When they may end too near to the body's end or have a wrong branch, nothing is read and the next op is
    the first of their own ops, which handle these cases.
    """
    count, value, null = program[op, SIZE], program[op, VALUE], program[op, NULL]
    if end - at < count * U64(5) + U64(PADDED):
        return at, op + U64(1)
    data, step = program[op, DATA] + row * program[op, STRIDE], program[op, CHILD]
    valid, valid_step = program[op, VALID] + row * program[op, VALID_STRIDE], step >> U64(2)
    here = at
    for _ in range(count):
        branch = load8(here)
        here += U64(1)
        if branch == value:
            store32(data, load32(here))
            store8(valid, U64(1))
            here += U64(4)
        elif branch != null:
            return at, op + U64(1)
        data += step
        valid += valid_step
    return here, program[op, JUMP]


@_compiled
def _rewind(program: np.ndarray, rows: np.ndarray, start: np.ndarray, capacity: np.ndarray) -> None:
    """Set to zero again what a refused packet has written."""
    for op in range(U64(len(program))):
        if not program[op, STRIDE] and not program[op, VALID_STRIDE]:
            continue
        level = program[op, LEVEL]
        for row in range(start[level], min(rows[level] + U64(1), capacity[level])):
            for byte in range(program[op, STRIDE]):
                store8(program[op, DATA] + row * program[op, STRIDE] + byte, U64(0))
            if program[op, VALID_STRIDE]:
                store8(program[op, VALID] + row, U64(0))
    rows[:] = start


@_compiled
def _records(
    program: np.ndarray,
    message: np.ndarray,
    rows: np.ndarray,
    capacity: np.ndarray,
    left: np.ndarray,
    began: np.ndarray,
    tail: U64,
) -> tuple[U64, U64, U64]:
    """Walk the records of one message.

    left, began: of each level, items left in the block, rows when the array began. tail: the padded copy.
    Returns the error, the byte of the body, the op; for SHORT instead of the last two: rows needed, level.
    """
    at, end, offset = message[0], message[0] + message[1], U64(0)  # offset: from the padded copy to the body
    records, op, error = message[2], U64(0), U64(OK)
    while records:
        if end - at < U64(PADDED) and offset == U64(0):
            _copy(at, tail, end - at)
            offset, end, at = at - tail, tail + (end - at), tail
        if program[op, UNION]:
            branch = load8(at)
            at += U64(1)
            if branch != program[op, VALUE]:
                if branch != program[op, NULL] or at > end:
                    error = U64(BEYOND) if at > end else U64(NO_BRANCH)
                    break
                op = program[op, JUMP]
                continue
        kind, level = program[op, KIND], program[op, LEVEL]
        row = rows[level]
        target = program[op, DATA] + row * program[op, STRIDE]
        if kind == U64(FLOAT):
            store32(target, load32(at))
            at += U64(4)
        elif kind == U64(DOUBLE):
            store64(target, load64(at))
            at += U64(8)
        elif kind == U64(INT) or kind == U64(LONG):
            at, error = _number(kind, at, target)
        elif kind == U64(STRING) or kind == U64(BYTES):
            at, error = _string(kind, at, end, offset, target)
        elif kind == U64(BOOLEAN):
            value = load8(at)
            at += U64(1)
            error = U64(OK) if value <= U64(1) else U64(NOT_BOOLEAN)
            store8(target, value & U64(1))
        elif kind == U64(ARRAY) or kind == U64(ARRAY_END):
            child = program[op, CHILD]
            if kind == U64(ARRAY):
                began[child] = rows[child]
                store8(program[op, VALID] + row * program[op, VALID_STRIDE], U64(1))
            else:
                rows[child] += U64(1)
                left[child] -= U64(1)
            if kind == U64(ARRAY) or not left[child]:
                left[child], at, error = _block(at, end, program[op, SIZE])
                need = rows[child] + left[child]
                if error or need - began[child] > U64(MAX_ITEMS):
                    error = error or U64(TOO_MANY)
                    break
                if need > capacity[child]:
                    return U64(SHORT), need, child
            if left[child]:
                op = op + U64(1) if kind == U64(ARRAY) else program[op, JUMP]
            else:
                store64(target, rows[child] - began[child])
                op = program[op, JUMP] if kind == U64(ARRAY) else op + U64(1)
            continue
        elif kind == U64(RUN):
            at, op = _run(program, op, at, end, row)
            continue
        elif kind == U64(END):
            rows[level] += U64(1)
            records -= U64(1)
            op = U64(0)
            continue
        elif kind == U64(GOTO):
            op = program[op, JUMP]
            continue
        elif kind == U64(FIXED):
            at += program[op, SIZE]
        elif kind == U64(ENUM) or kind == U64(BRANCHES):
            choice, at, error = _choice(kind, at, program[op, SIZE])
            if kind == U64(BRANCHES):
                op += choice
        elif kind == U64(MARK):
            store64(target, at + offset)
        if error or at > end:
            error = error or U64(BEYOND)
            break
        store8(program[op, VALID] + row * program[op, VALID_STRIDE], U64(1))
        op += U64(1)
    if error == U64(OK) and at != end:
        error = U64(LEFT_OVER)
    return error, at + offset - message[0], op


@_compiled
def walk(
    program: np.ndarray,
    messages: np.ndarray,
    first: U64,
    rows: np.ndarray,
    capacity: np.ndarray,
    scratch: np.ndarray,
    padded: np.ndarray,
    result: np.ndarray,
) -> tuple[U64, U64, U64]:
    """Run the program over messages[first:]. Arrays are uint64 unless stated otherwise.

    Parameters
    ----------
    program
        (ops, WORDS): the program, with the addresses of the columns in it.
    messages
        (n, 4): address, length in bytes, number of records, packet. The messages of one packet are
        consecutive.
    first
        The message to begin with, the first of its packet.
    rows
        (levels,): rows filled, of each level. Changed in place.
    capacity
        (levels,): rows of each level that there is memory for.
    scratch
        (3, levels), for internal use: rows when the packet began, items left, rows when the array began.
    padded
        uint8 (2 x PADDED,), for internal use: the copy of a body's end.
    result
        (packets, 4): error, byte of the body, op, rows of level 0. Written in place. A refused packet leaves
        no rows.

    Returns
    -------
    tuple of uint64
        (messages done, 0, 0), or when memory is short (message to go on from, level, rows).
    """
    start, left, began = scratch[0], scratch[1], scratch[2]
    tail = U64(padded.ctypes.data)
    message, count, packet_first = U64(first), U64(len(messages)), U64(first)
    while message < count:
        packet = messages[message, 3]
        if message == packet_first:
            start[:] = rows
        error, byte, op = _records(program, messages[message], rows, capacity, left, began, tail)
        if error == U64(SHORT):
            rows[:] = start
            return packet_first, op, byte
        message += U64(1)
        if error:
            result[packet, 0], result[packet, 1], result[packet, 2] = error, byte, op
            _rewind(program, rows, start, capacity)
            while message < count and messages[message, 3] == packet:
                message += U64(1)
        if message == count or messages[message, 3] != packet:
            result[packet, 3] = rows[0] - start[0]
            packet_first = message
    return message, U64(0), U64(0)


@_compiled
def string_offsets(notes: U64, rows: U64, offsets: np.ndarray, width: U64) -> U64:
    """Write the Arrow offsets of strings and return the sum of their lengths in bytes.

    Parameters
    ----------
    notes
        Address of the strings' (address, length) pairs, two uint64 each.
    rows
        Number of strings.
    offsets
        The memory to write rows + 1 offsets to.
    width
        Bytes of an offset: 4 or 8.
    """
    target, total = U64(offsets.ctypes.data), U64(0)
    for row in range(rows + U64(1)):
        if width == U64(4):
            store32(target + row * U64(4), total)
        else:
            store64(target + row * U64(8), total)
        if row < rows:
            total += load64(notes + row * U64(16) + U64(8))
    return total


@_compiled
def gather(notes: U64, rows: U64, data: np.ndarray) -> None:
    """Copy strings one behind the other.

    Parameters
    ----------
    notes
        Address of the strings' (address, length) pairs, two uint64 each.
    rows
        Number of strings.
    data
        The memory to copy to, as long as all of them.
    """
    target = U64(data.ctypes.data)
    for row in range(rows):
        size = load64(notes + row * U64(16) + U64(8))
        _copy(load64(notes + row * U64(16)), target, size)
        target += size


@_compiled
def split_containers(packets: np.ndarray, found: np.ndarray) -> None:
    """Find the body of container files that have one block, not compressed (nearly all alerts).

    packets: (n, 3) uint64: address, bytes, bytes of the header before the sync marker.
    found: (n, 3) uint64 of zeros, becomes body address, bytes, records; all zero where it is anything else.
    """
    for place in range(U64(len(packets))):
        begin, size = packets[place, 0], packets[place, 1]
        at, end = begin + packets[place, 2] + U64(16), begin + size
        if size < packets[place, 2] + U64(16 + 2 + 16 + 20):
            continue
        sync = at - U64(16)
        records, at = _varint(at)
        if at == U64(0) or records & U64(1):
            continue
        length, at = _varint(at)
        if at == U64(0) or length & U64(1):
            continue
        length >>= U64(1)
        if at + U64(16) > end or length != end - at - U64(16):
            continue
        last = end - U64(16)
        if load64(last) != load64(sync) or load64(last + U64(8)) != load64(sync + U64(8)):
            continue
        found[place, 0], found[place, 1], found[place, 2] = at, length, records >> U64(1)
