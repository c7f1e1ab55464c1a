"""Packets for load tests, made as fast as memory is copied, so that only the broker limits a benchmark.

A few hundred alerts are simulated once, stamps and histories included. Then each packet that is asked for is
one of them with other numbers: candid, objectId, time, place and magnitudes are new, all lengths stay the
same, and the packet stays valid. Histories and stamps are those of the prepared alert: they are not for
science.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from simulator.identity import object_name
from simulator.packets.encode import zigzag
from simulator.packets.packet import PacketWriter, packet_writer
from simulator.packets.stream import Staged

_CANDID = 1 << 56  # candids from here to 2^62 take nine bytes
_MOST = 26**7
_CHANGING = ("objectId", "candid", "candidate")
_VARIED = ("jd", "ra", "dec", "magpsf", "sigmapsf", "rb")
_DOUBLES = ("jd", "ra", "dec")


@dataclass(frozen=True)
class _Template:
    head: bytes
    tail: bytes
    record: bytes
    objectId_at: int
    candid_at: tuple[int, int]
    places: dict[str, int]
    values: dict[str, float]


class LoadTest:
    """Any number of distinct valid packets, varied over a few simulated alerts.

    Parameters
    ----------
    prepared
        Number of alerts to simulate.
    seed
        Of the simulated sky.
    schema
        A schema version.
    stamps
        With image cut-outs.

    Raises
    ------
    ValueError
        For a schema that cannot be simulated.
    """

    def __init__(self, prepared: int = 200, seed: int = 1, schema: str = "4.01", stamps: bool = True) -> None:
        writer = packet_writer(schema)
        self._templates: list[_Template] = []
        for cell in Staged(prepared, seed, schema=schema).cells():
            for parts in cell.prepared(writer, stamps):
                self._templates.append(_template(writer, parts))

    def __len__(self) -> int:
        return len(self._templates)

    def packets(self, number: int, first: int = 0) -> Iterator[bytes]:
        """`number` packets; the same `first` gives the same ones, others give others."""
        templates = self._templates
        for k in range(first, first + number):
            yield _varied(templates[k % len(templates)], k)


def _template(writer: PacketWriter, parts: dict[str, Any]) -> _Template:
    head, tail = writer.split(parts, parts["sync"], _CHANGING)
    candidate: bytes = parts["candidate"]
    rows = parts["rows"]
    places = {name: writer.candidate.offset(rows, parts["row"], name) for name in (*_VARIED, "candid")}
    name, candid = parts["objectId"].encode(), zigzag(parts["candid"])
    record = zigzag(len(name)) + name + candid + candidate
    begin = len(record) - len(candidate)
    unpacked = {
        n: struct.unpack_from("<d" if n in _DOUBLES else "<f", candidate, places[n])[0] for n in _VARIED
    }
    return _Template(
        head,
        tail,
        record,
        objectId_at=len(record) - len(candidate) - len(candid) - len(name),
        candid_at=(begin - len(candid), begin + places["candid"]),
        places={n: begin + places[n] for n in _VARIED},
        values=unpacked,
    )


def _varied(template: _Template, k: int) -> bytes:
    """The template with the numbers of packet `k`."""
    record = bytearray(template.record)
    candid, values, places = zigzag(_CANDID + k), template.values, template.places
    for at in template.candid_at:
        record[at : at + len(candid)] = candid
    name = object_name(25, (k * 7_919_117 + 1) % _MOST)
    record[template.objectId_at : template.objectId_at + len(name)] = name.encode()
    step = k % 9973 / 9973
    struct.pack_into("<d", record, places["jd"], values["jd"] + step / 1440)
    struct.pack_into("<d", record, places["ra"], (values["ra"] + step) % 360)
    struct.pack_into("<d", record, places["dec"], values["dec"] * (1 - 0.01 * step))
    struct.pack_into("<f", record, places["magpsf"], values["magpsf"] + step - 0.5)
    struct.pack_into("<f", record, places["sigmapsf"], values["sigmapsf"] * (0.5 + step))
    struct.pack_into("<f", record, places["rb"], (values["rb"] + step) % 1)
    return b"".join((template.head, record, template.tail))
