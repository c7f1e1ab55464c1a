"""A small file of each kind, good and bad, read before there is a child.

Parsers import parts of themselves when these are first used. A child reads no file, so the zygote does it.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

_WHOLE = ("astropy.table", "astropy.io.fits", "astropy.io.votable", "astropy.units.format", "astropy.time")
_CSV = b"name,ra,dec,good,n\na,10.5,5,true,1\nb,11,,false,\n"


def rehearse(readers: Mapping[str, tuple[str, Callable[[bytes], Any]]]) -> None:
    """Read files of each kind that there is.

    readers: ending of a file's name -> what it is called, and how it is read.
    """
    _import_whole(_WHOLE)
    for ending, raw in _files():
        for part in (raw, raw[: len(raw) // 2], b"x" * 100, b""):
            with contextlib.suppress(Exception):
                readers[ending][1](part)


def _import_whole(packages: Iterable[str]) -> None:
    """Every module of some packages, their tests apart."""
    for name in packages:
        package = importlib.import_module(name)
        for found in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not re.search(r"[.](tests|scripts|volint|conftest|__main__)\b", found.name):
                with contextlib.suppress(ImportError):  # it wants a package that is not here
                    importlib.import_module(found.name)


def _files() -> Iterator[tuple[str, bytes]]:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq
    from astropy.table import MaskedColumn, Table

    yield ".csv", _CSV
    yield ".csv", _CSV.replace(b",", b"\t")
    yield ".csv", _CSV.replace(b",,", b",0,").replace(b",", b" ")
    frame = pd.read_csv(io.BytesIO(_CSV))
    frame["long"], frame["maybe"] = pd.array([2**60, None], "Int64"), pd.array([True, None], "boolean")
    for codec in ("snappy", "zstd", "gzip", "none"):
        parquet = io.BytesIO()
        pq.write_table(pa.Table.from_pandas(frame), parquet, compression=codec)
        yield ".parquet", parquet.getvalue()
    table = Table.from_pandas(frame[["name", "ra", "dec"]].fillna(0))
    table["long"] = MaskedColumn([2**60, 0], mask=[False, True])
    table["ra"].description = "right ascension"
    table["ra"].unit, table["several"] = "deg", [[1.0, 2.0]] * 2
    for ending, form in ((".fits", "fits"), (".vot", "votable")):
        made = io.BytesIO()
        table.write(made, format=form)
        yield ending, made.getvalue()
    for kind in ("binary", "binary2"):
        made = io.BytesIO()
        table[:1].filled().write(made, format="votable", tabledata_format=kind)
        yield ".vot", made.getvalue()
    models = Path(__file__).resolve().parents[1] / "models"
    yield from ((".onnx", file.read_bytes()) for file in sorted(models.glob("*.onnx"))[:1])
