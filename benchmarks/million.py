"""Archives of a million alerts, made quickly: what the simulated sky looks like, many times over.

Some thousand simulated alerts go through the real ingest; their rows are then written again and again, each
time elsewhere on the sky, with names and measured values of their own, and with bodies of a few bytes (real
ones would take 53 GB). Of the histories the columns that the registered filters read are kept.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from archive.layout import BODY, HEALPIX, healpix29, table_of
from archive.read.archive import Archive
from archive.read.columns import PieceReader
from archive.read.fragments import Piece
from archive.tables.fingerprints import SchemaKeeper, schemas_of
from archive.tables.store import commit, survey_table, write_file
from archive.write.ingest import ingest
from filters import registered
from filters.external.externals import stored_columns
from schemas.avro.rewrite import rewrite
from schemas.avro.writer import WriterSchema, writer_schema
from simulator import simulate

FILE_ROWS = 131_072
TEMPLATES = 2_000
_LENGTH = "prv_candidates.jd"
MEASURED = ("rb", "magpsf", "sigmapsf", "fwhm", "elong", "magdiff", "jdstarthist", "distpsnr1", "sgscore1")


@dataclass(frozen=True)
class Made:
    """An archive, the packets that its rows are copies of, and how many rows a history has on average."""

    archive: Archive
    packets: list[bytes]
    history_rows: float


def make(folder: Path, alerts: int = 1_000_000, seed: int = 7) -> Made:
    """An archive of one public night with `alerts` alerts, two of three objects seen twice."""
    packets = _packets(seed)
    template, night, schemas = _template(packets)
    SchemaKeeper(str(folder), "ztf").keep(schemas, dict.fromkeys(schemas))
    address = table_of(str(folder), "ztf")
    table = survey_table(address)
    partition = {"night": night, "programid": "1"}
    commit(table, [write_file(address, rows, partition) for rows in _copies(template, alerts, seed)])
    return load(folder, seed)


def load(folder: Path, seed: int = 7) -> Made:
    """An archive that was made before."""
    archive = Archive(folder)
    [first, *_] = archive.files()
    table, _ = PieceReader(Piece(archive.root, first.path, first.night, 1, first.rows)).read([_LENGTH])
    rows = pc.mean(pc.list_value_length(table[_LENGTH])).as_py()
    return Made(archive, _packets(seed), float(rows))


def _packets(seed: int) -> list[bytes]:
    """Public packets as the survey gives them away: without history rows of other programs."""
    seen = simulate(TEMPLATES * 2, seed, stamps=False)
    return [rewrite(alert.packet, public_only=True) for alert in seen if alert.programid == 1][:TEMPLATES]


def _template(packets: list[bytes]) -> tuple[pa.Table, str, dict[str, WriterSchema]]:
    """The rows of the packets without the history columns that no filter reads, night, and writer schemas."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "packets"
        source.mkdir()
        for number, packet in enumerate(packets):
            (source / f"{number}.avro").write_bytes(packet)
        ingest(source, Path(folder) / "small")
        archive = Archive(Path(folder) / "small")
        ours = [f for f in registered().values() if "ztf" in f.surveys]
        read = {name for f in ours for name in stored_columns(f.reads or (), public=True)}
        parts = []
        for f in archive.files():
            reader = PieceReader(Piece(archive.root, f.path, f.night, f.program, f.rows))
            names = [n for n in reader.footer.columns if "." not in n or n in read]
            parts.append(reader.read([n for n in names if n != "_headers"])[0])
        schemas = {name: writer_schema(schema) for name, schema in schemas_of(archive.path).items()}
        return pa.concat_tables(parts).combine_chunks(), str(archive.files()[0].night), schemas


def _copies(template: pa.Table, alerts: int, seed: int) -> Iterator[pa.Table]:
    """Tables of FILE_ROWS rows, sorted by place, one after the other on the sky."""
    random = np.random.default_rng(seed)
    objects = -(-alerts * 3 // 5)
    ra = random.uniform(0, 360, objects)
    dec = np.degrees(np.arcsin(random.uniform(-0.5, 1, objects)))
    one = np.concatenate([np.arange(objects), random.permutation(objects)[: alerts - objects]])
    order = np.argsort(healpix29(ra, dec).to_numpy()[one], kind="stable")
    one = one[order]
    base = template["candid"].to_numpy().min() // 1_000_000_000 * 1_000_000_000
    candid = base + random.permutation(alerts)
    for start in range(0, alerts, FILE_ROWS):
        rows = slice(start, min(start + FILE_ROWS, alerts))
        yield _file(template, random, one[rows], candid[rows], ra[one[rows]], dec[one[rows]])


def _file(
    template: pa.Table,
    random: np.random.Generator,
    one: np.ndarray,
    candid: np.ndarray,
    ra: np.ndarray,
    dec: np.ndarray,
) -> pa.Table:
    count = len(one)
    table = template.take(pa.array(random.integers(0, template.num_rows, count)))
    new = {"candid": candid, "ra": ra, "dec": dec, HEALPIX: healpix29(ra, dec), "objectId": _names(one)}
    new[BODY] = pa.array([b"body"] * count, pa.binary())
    for name in MEASURED:  # so that values do not repeat, and compress as measured ones do
        values = table[name].to_numpy()
        new[name] = (values * (1 + random.normal(0, 1e-3, count))).astype(values.dtype)
    for name, values in new.items():
        at = table.schema.get_field_index(name)
        column = values if isinstance(values, pa.Array) else pa.array(values)
        table = table.set_column(at, name, column.cast(table.schema.field(name).type))
    return table


def _names(numbers: np.ndarray) -> pa.Array:
    """ZTF-like names: "ZTF25" and seven letters."""
    letters = (numbers[:, None] // 26 ** np.arange(6, -1, -1)) % 26 + ord("a")
    words = np.concatenate([np.tile(np.frombuffer(b"ZTF25", np.uint8), (len(numbers), 1)), letters], axis=1)
    joined = words.astype(np.uint8).tobytes()
    offsets = np.arange(len(numbers) + 1, dtype=np.int32) * 12
    return pa.StringArray.from_buffers(len(numbers), pa.py_buffer(offsets), pa.py_buffer(joined))
