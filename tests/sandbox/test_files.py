"""Files that users send: good ones become columns, hostile ones end in a sentence, in another process."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from filters.files.child import EVERY
from filters.files.columns import packed, unpacked
from filters.files.sandboxed import MODELS, TABLES, FileRoom, Unreadable
from filters.files.tables import comma_separated
from filters.sandbox.errors import NoSandbox
from filters.sandbox.processes import Child
from filters.sandbox.wire import BadAnswer

IDS = [2**60 + 1, None, 3]


@pytest.fixture(scope="module")
def room(walls: None) -> Iterator[FileRoom]:
    made = FileRoom()
    yield made
    made.close()


def sources() -> Table:
    table = Table({"name": ["a", "b", "c d"], "ra": [1.5, 2.5, 3.5], "ok": [True, False, True]})
    table["id"] = MaskedColumn([2**60 + 1, 0, 3], mask=[False, True, False])
    table["mag"] = [18.0, math.nan, 20.0]
    table["mag"].unit, table["mag"].description = "mag", "how bright"
    table["several"] = [[1.0, 2.0]] * 3
    return table


def written(ending: str) -> bytes:
    """The same table in each format."""
    made, flat = io.BytesIO(), sources()
    flat.remove_column("several")
    frame = flat.to_pandas()
    if ending == ".parquet":
        frame["several"] = [[1.0, 2.0]] * 3
        frame.to_parquet(made)
    elif ending in (".csv", ".tsv"):
        frame.to_csv(made, index=False, sep="," if ending == ".csv" else "\t")
    else:
        sources().write(made, format="fits" if ending == ".fits" else "votable")
    return made.getvalue()


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet", ".fits", ".vot"])
def test_each_format_gives_the_same_columns(room: FileRoom, ending: str) -> None:
    frame, said = room.table(f"sources{ending}", written(ending))
    assert list(frame.columns) == ["name", "ra", "ok", "id", "mag"]
    assert list(frame["name"]) == ["a", "b", "c d"]
    assert frame["ra"].tolist() == [1.5, 2.5, 3.5]
    assert frame["ok"].tolist() == [True, False, True]
    assert [None if one is pd.NA else int(one) for one in frame["id"]] == IDS
    assert frame["mag"].isna().tolist() == [False, True, False]
    if ending in (".fits", ".vot"):
        assert said["mag"][0] == "mag"


def test_no_parser_runs_in_this_process(room: FileRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the one that does is behind the walls before it has a byte of the file."""
    files = {ending: written(ending) for ending in (".csv", ".parquet", ".fits", ".vot")}
    seen = []
    ask = Child.ask

    def looked_at(child: Child, *asked: Any, **more: Any) -> Any:
        told = Path(f"/proc/self/fdinfo/{child._handle}").read_text()
        number = next(line.split()[1] for line in told.splitlines() if line.startswith("Pid:"))
        lines = Path(f"/proc/{number}/status").read_text().splitlines()
        seen.append({line.split(":")[0]: line.split()[1] for line in lines if len(line.split()) > 1})
        return ask(child, *asked, **more)

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("a parser was called here")

    monkeypatch.setattr(Child, "ask", looked_at)
    for place, name in ((pq, "ParquetFile"), (pd, "read_csv"), (fits, "open"), (Table, "read")):
        monkeypatch.setattr(place, name, never)
    with pytest.raises(AssertionError):
        comma_separated(files[".csv"])
    for ending, raw in files.items():
        assert len(room.table(f"a{ending}", raw)[0]) == 3
    assert [one["Seccomp"] for one in seen] == ["2"] * 4
    assert [one["NoNewPrivs"] for one in seen] == ["1"] * 4
    assert all(one["Uid"] != "0" for one in seen)
    assert room._zygote is not None
    assert len(list(Path(f"/proc/{room._zygote._process.pid}/task").iterdir())) == 1  # else no safe fork


# Hostile files


def parquet(table: pa.Table, **how: Any) -> bytes:
    made = io.BytesIO()
    pq.write_table(table, made, **how)
    return made.getvalue()


def many_rows() -> bytes:
    return parquet(pa.table({"ra": pa.array(np.zeros(10**7))}), compression="zstd")


def few_bytes_of_much_text() -> bytes:
    """150,000 times the same text of 10,000 letters: 1.5 GB."""
    words = pa.DictionaryArray.from_arrays(pa.array(np.zeros(150_000, np.int32)), pa.array(["x" * 10_000]))
    return parquet(pa.table({"name": words}), store_schema=False)


def table_of_fits(**header: Any) -> bytes:
    """A FITS file of three rows whose header says something else."""
    made = io.BytesIO()
    fits.BinTableHDU(Table({"ra": [1.0, 2.0, 3.0], "dec": [4.0, 5.0, 6.0]})).writeto(made)
    raw = made.getvalue()
    for key, value in header.items():
        at = raw.index(f"{key:8}= ".encode())
        raw = raw[:at] + f"{key:8}= {value:>20}".encode().ljust(80) + raw[at + 80 :]
    return raw


def heap_of_fits() -> bytes:
    """A column of arrays, one of which claims 2^30 numbers."""
    made = io.BytesIO()
    arrays = np.array([np.arange(3.0), np.arange(4.0)], object)
    fits.BinTableHDU.from_columns([fits.Column("x", "PD()", array=arrays)]).writeto(made)
    raw = made.getvalue()
    at = raw.index((3).to_bytes(4, "big") + (0).to_bytes(4, "big"))
    return raw[:at] + (2**30).to_bytes(4, "big") + raw[at + 4 :]


def votable(dtd: str = "", data: str = "<TABLEDATA><TR><TD>1</TD></TR></TABLEDATA>") -> bytes:
    return (
        f'<?xml version="1.0"?>{dtd}<VOTABLE version="1.4"><RESOURCE><TABLE>'
        f'<FIELD name="ra" datatype="double"/><DATA>{data}</DATA></TABLE></RESOURCE></VOTABLE>'
    ).encode()


def laughs() -> bytes:
    entities = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    lol = f'<!DOCTYPE lolz [<!ENTITY a0 "lol">{entities}]>'
    return votable(lol, "<TABLEDATA><TR><TD>&a9;</TD></TR></TABLEDATA>")


def another_file() -> bytes:
    system = '<!DOCTYPE v [<!ENTITY secret SYSTEM "file:///etc/passwd">]>'
    return votable(system, "<TABLEDATA><TR><TD>&secret;</TD></TR></TABLEDATA>")


def graph(operator: str = "Relu", domain: str = "", external: bool = False, inner: bool = False) -> bytes:
    """A model of one operator."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1], [0.0])
    if external:
        weight.ClearField("float_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value="../../../etc/passwd")
    node = helper.make_node(operator, ["x"], ["y"], domain=domain)
    if inner:
        node = helper.make_node("Constant", [], ["y"], value=weight)
    made = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [] if inner else [weight],
    )
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(made, opset_imports=opsets, ir_version=9).SerializeToString()


def deep_graph() -> bytes:
    """Graphs in graphs in graphs, as bytes."""
    raw = b""
    for _ in range(200):
        attribute = b"\x32" + _length(raw) + raw  # field 6: a graph
        node = b"\x2a" + _length(attribute) + attribute  # field 5: an attribute
        raw = b"\x0a" + _length(node) + node  # field 1: a node
    return b"\x3a" + _length(raw) + raw


def _length(raw: bytes) -> bytes:
    value, made = len(raw), b""
    while value > 0x7F:
        made, value = made + bytes([value & 0x7F | 0x80]), value >> 7
    return made + bytes([value])


HOSTILE: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "Parquet of many rows": (".parquet", many_rows, "10,000,000 rows, 200,000 may be"),
    "Parquet that unfolds": (".parquet", few_bytes_of_much_text, "more than 768 MB of memory"),
    "Parquet cut short": (".parquet", lambda: written(".parquet")[:-20], "cannot be read as Parquet"),
    "no Parquet": (".parquet", lambda: b"PAR1" + b"\xff" * 1000 + b"PAR1", "cannot be read as Parquet"),
    "FITS of many rows": (".fits", lambda: table_of_fits(NAXIS2=10**12), "rows, 200,000 may be"),
    "FITS of wide rows": (".fits", lambda: table_of_fits(NAXIS1=10**12), "its header tells of"),
    "FITS of more rows": (".fits", lambda: table_of_fits(NAXIS2=150_000), "cannot be read as FITS"),
    "FITS of fewer than no rows": (".fits", lambda: table_of_fits(NAXIS2=-3), "cannot be read as FITS"),
    "FITS with a heap that lies": (".fits", heap_of_fits, "cannot be read as FITS|of memory"),
    "FITS cut short": (".fits", lambda: written(".fits")[:4000], "cannot be read as FITS"),
    "no FITS": (".fits", lambda: b"SIMPLE  =" + b"\x00" * 5000, "cannot be read as FITS"),
    "a picture": (".fits", lambda: picture(), "it has no table"),
    "VOTable with a billion laughs": (".vot", laughs, "document type or entities"),
    "VOTable that names a file": (".vot", another_file, "document type or entities"),
    "VOTable whose rows are elsewhere": (
        ".vot",
        lambda: votable("", '<BINARY><STREAM href="file:///etc/passwd"/></BINARY>'),
        "its rows are in another file",
    ),
    "VOTable in other letters": (".vot", lambda: laughs().decode().encode("utf-16"), "cannot be read as VOT"),
    "VOTable that is deep": (".vot", lambda: b"<VOTABLE>" + b"<RESOURCE>" * 150_000, "is not read|cannot be"),
    "CSV of many columns": (
        ".csv",
        lambda: b",".join([b"a"] * 100_000) + b"\n",
        "100,000 columns, 400 may be",
    ),
    "CSV of zeros": (".csv", lambda: b"\x00" * 10_000, "zero bytes"),
    "CSV of a long text": (".csv", lambda: b"name,ra\n" + b"x" * 10**6 + b",1\n", "more than 1,000 letters"),
    "CSV of many rows": (".csv", lambda: b"a\n" + b"1\n" * 300_000, "lines, .* may be"),
    "CSV of nothing": (".csv", lambda: b"", "no line with names"),
    "a large file": (".csv", lambda: bytes(100_000_001), "100.0 MB, 100 MB may be"),
    "ONNX with numbers in another file": (".onnx", lambda: graph(external=True), "in another file"),
    "ONNX with such in a node": (".onnx", lambda: graph(external=True, inner=True), "in another file"),
    "ONNX with an operator of its own": (".onnx", lambda: graph("Own", "com.evil"), "domain 'com.evil'"),
    "ONNX with an unknown operator": (".onnx", lambda: graph("Own"), "cannot be read as ONNX"),
    "ONNX cut short": (".onnx", lambda: graph()[:-5], "cannot be read as ONNX"),
    "ONNX that is deep": (".onnx", deep_graph, "deep in each other"),
    "no ONNX": (".onnx", lambda: b"\x80\x04pickle" * 10, "cannot be read as ONNX"),
    "another kind": (".pkl", lambda: b"", "files that end in"),
}


def picture() -> bytes:
    made = io.BytesIO()
    fits.PrimaryHDU(np.zeros((5, 5))).writeto(made)
    return made.getvalue()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_ends_in_a_sentence(room: FileRoom, name: str) -> None:
    """And the next file is read as if nothing had been."""
    ending, made, words = HOSTILE[name]
    with pytest.raises(Unreadable, match=words) as raised:
        room.columns(f"theirs{ending}", made())
    told = str(raised.value)
    assert told.startswith(f"theirs{ending}")
    assert len(told) < 700
    assert not {"Traceback", "/work", "site-packages", "root:"} & set(told.split())
    assert len(room.table("mine.csv", b"ra,dec\n1,2\n")[0]) == 1


def test_a_model_is_told_by_what_it_takes_and_gives(room: FileRoom) -> None:
    told = room.model("m.onnx", graph())
    assert [tuple(row.values()) for row in told] == [
        ("input", "x", "tensor(float)", "any x 2"),
        ("output", "y", "tensor(float)", "any x 2"),
    ]
    for wrong in (lambda: room.model("m.csv", b"a"), lambda: room.table("m.onnx", graph())):
        with pytest.raises(Unreadable, match="model"):
            wrong()
    assert onnx.checker.check_model(onnx.load_from_string(graph())) is None


def test_the_kinds_that_are_told_are_those_that_are_read() -> None:
    assert {ending: kind for ending, (kind, _) in EVERY.items()} == {**TABLES, **MODELS}


@given(st.binary(max_size=300))
def test_an_answer_that_anybody_has_made(body: bytes) -> None:
    """It is columns, or none: nothing else happens."""
    good = packed(comma_separated(b"name,ra,n\na,1.5,3\n,,\n"))
    for answer in (body, good[: len(body)] + body, good + body):
        with contextlib.suppress(BadAnswer):
            for one in unpacked(answer):
                assert len(one.values) == len(one.missing) <= 200_000


def test_without_walls_no_file_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZADS_SANDBOX", "off")
    with pytest.raises(NoSandbox, match="files of users are not read here: no switched on"):
        FileRoom().table("a.csv", b"ra,dec\n1,2\n")
