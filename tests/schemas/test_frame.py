"""Raw Arrow columns -> the frame of a filter: types, sentinels as NaN, derived columns, public rows only."""

import math
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from schemas.errors import CorruptValue, NoSuchColumn
from schemas.frame import frame_maker
from schemas.packets.reader import PacketReader
from schemas.surveys.registry import SURVEYS

ZTF = SURVEYS["ztf"]
JD = 2460236.7


def stored_columns(reads: list[str], survey: str = "ztf", public: bool = False) -> list[str]:
    return frame_maker(reads, survey, public).columns


def to_frame(rows: pa.Table, reads: list[str], survey: str = "ztf", public: bool = False) -> pd.DataFrame:
    return frame_maker(reads, survey, public).frame(rows)


def table(**columns: list[Any]) -> pa.Table:
    """A raw table; two underscores in a name stand for a dot; what always comes is filled in."""
    given = {name.replace("__", "."): values for name, values in columns.items()}
    rows = len(next(iter(given.values())))
    always: dict[str, list[Any]] = {
        "candid": list(range(1, rows + 1)),
        "objectId": ["ZTF18a"] * rows,
        "jd": [JD] * rows,
        "programid": [1] * rows,
    }
    return pa.table({name: pa.array(v, ZTF.arrow_type(name)) for name, v in {**always, **given}.items()})


def lists(frame: pd.DataFrame, name: str) -> list[list[Any]]:
    """A history column as plain lists, missing as None."""
    return [
        [None if x is None or x != x else x for x in row]
        for row in frame[name].array.__arrow_array__().to_pylist()
    ]


class TestStoredColumns:
    def test_always(self) -> None:
        assert stored_columns([]) == ["candid", "objectId"]
        assert stored_columns([], public=True) == ["candid", "objectId", "programid"]
        assert stored_columns([], survey="lsst") == ["candid", "diaObjectId", "ssObjectId"]

    def test_derived_are_made_from(self) -> None:
        assert set(stored_columns(["night", "positive", "flux"])) == {
            "candid", "objectId", "jd", "isdiffpos", "magpsf"
        }  # fmt: skip
        assert "ssnamenr" in stored_columns(["ssdistnr"])

    def test_histories_bring_their_times(self) -> None:
        assert stored_columns(["prv_candidates.flux"])[2:] == [
            "prv_candidates.magpsf", "prv_candidates.isdiffpos", "prv_candidates.jd"
        ]  # fmt: skip
        assert "prv_candidates.programid" in stored_columns(["prv_candidates.night"], public=True)
        assert "fp_hists.procstatus" in stored_columns(["fp_hists.usable"])

    @pytest.mark.parametrize("name", ["rbb", "prv_candidates.rbb", "prv.jd", "flux.jd"])
    def test_unknown(self, name: str) -> None:
        with pytest.raises(NoSuchColumn):
            stored_columns([name])
        with pytest.raises(NoSuchColumn, match="survey"):
            stored_columns(["rb"], survey="ztff")


class TestScalars:
    def test_columns_are_those_asked_for(self) -> None:
        assert to_frame(table(rb=[0.5], drb=[0.5]), ["rb"]).columns.tolist() == ["rb", "candid", "objectId"]

    def test_types_are_the_schemas_whatever_the_values(self) -> None:
        reads = [
            "rb",
            "jd",
            "fid",
            "nid",
            "pid",
            "objectidps1",
            "ssnamenr",
            "positive",
            "night",
            "flux",
            "drb",
        ]
        full = table(
            rb=[0.5],
            fid=[1],
            nid=[2],
            pid=[3],
            objectidps1=[4],
            ssnamenr=["x"],
            isdiffpos=["t"],
            magpsf=[18.5],
            drb=[1],
        )
        null = table(
            rb=[None], fid=[None], nid=[None], pid=[None], objectidps1=[None], ssnamenr=[None],
            isdiffpos=[None], magpsf=[None], drb=[None], jd=[None],
        )  # fmt: skip
        types = to_frame(full, reads).dtypes
        assert types.astype(str).to_dict() == {
            "rb": "float64", "jd": "float64", "fid": "float64", "nid": "float64", "pid": "Int64",
            "objectidps1": "Int64", "ssnamenr": "str", "positive": "bool", "night": "float64",
            "flux": "float64", "drb": "float64", "candid": "int64", "objectId": "str",
        }  # fmt: skip
        assert to_frame(null, reads).dtypes.equals(types)
        assert to_frame(full.slice(0, 0), reads).dtypes.equals(types)

    def test_floats_are_widened(self) -> None:
        frame = to_frame(table(rb=[0.65]), ["rb"])
        assert frame["rb"][0] == float(np.float32(0.65)) < 0.65

    @pytest.mark.parametrize(
        "name", ["sgscore1", "distpsnr2", "szmag3", "neargaia", "maggaiabright", "ssmagnr"]
    )
    def test_sentinels_are_missing(self, name: str) -> None:
        frame = to_frame(table(**{name: [-999.0, 1.0, None]}), [name])
        assert frame[name].isna().tolist() == [True, False, True]

    def test_a_sentinel_of_another_column_is_a_value(self) -> None:
        assert to_frame(table(magdiff=[-999.0]), ["magdiff"])["magdiff"].tolist() == [-999.0]

    def test_words_and_large_integers(self) -> None:
        big = 2**61 + 1
        frame = to_frame(
            table(ssnamenr=["null", "Ceres", None], objectidps1=[-999, big, None]),
            ["ssnamenr", "objectidps1"],
        )
        assert frame["ssnamenr"].isna().tolist() == [True, False, True]
        assert frame["objectidps1"].isna().tolist() == [True, False, True]
        assert frame["objectidps1"][1] == big

    def test_ssdistnr_of_rewritten_packets(self) -> None:
        raw = table(
            ssdistnr=[60.0, 60.0, 60.0, -999.0, 3.0], ssnamenr=["null", "142880", None, "null", "null"]
        )
        distance = to_frame(raw, ["ssdistnr"])["ssdistnr"]
        assert distance.isna().tolist() == [True, False, True, True, False]

    def test_derived(self) -> None:
        raw = table(isdiffpos=["t", "1", "f", "0", None], magpsf=[22.5, None, 22.5, 25.0, 25.0])
        frame = to_frame(raw, ["night", "positive", "flux"])
        assert frame["night"].tolist() == [2482] * 5
        assert frame["positive"].tolist() == [True, True, False, False, False]
        assert frame["flux"].fillna(0).tolist() == [10, 0, -10, -1, 0]

    def test_identity(self) -> None:
        with pytest.raises(CorruptValue, match="1 of 2 alerts have no candid"):
            to_frame(table(candid=[2**61 + 1, None]), [])
        assert to_frame(table(candid=[2**61 + 1]), [])["candid"].tolist() == [2**61 + 1]

    def test_a_column_that_was_not_brought(self) -> None:
        with pytest.raises(NoSuchColumn, match="'drb'"):
            to_frame(table(rb=[0.5]), ["drb"])


class TestHistories:
    def test_numbers_are_doubles_and_missing_is_nan(self) -> None:
        raw = table(
            prv_candidates__jd=[[1.0, 2.0], [], [3.0]], prv_candidates__magpsf=[[18.5, None], [], [19.0]]
        )
        frame = to_frame(raw, ["prv_candidates.magpsf"])
        assert frame["prv_candidates.magpsf"].dtype == pd.ArrowDtype(pa.large_list(pa.float64()))
        assert lists(frame, "prv_candidates.magpsf") == [[18.5, None], [], [19.0]]

    def test_derived(self) -> None:
        raw = table(
            prv_candidates__jd=[[2457754.6, 2457755.6]],
            prv_candidates__magpsf=[[22.5, None]],
            prv_candidates__isdiffpos=[["f", None]],
        )
        frame = to_frame(raw, ["prv_candidates.night", "prv_candidates.positive", "prv_candidates.flux"])
        assert lists(frame, "prv_candidates.night") == [[0, 1]]
        assert lists(frame, "prv_candidates.positive") == [[False, False]]
        assert lists(frame, "prv_candidates.flux") == [[-10, None]]

    def test_forced_photometry(self) -> None:
        raw = table(
            fp_hists__jd=[[1.0, 2.0, 3.0, 4.0]],
            fp_hists__forcediffimflux=[[100.0, -99999.0, 100.0, -5.0]],
            fp_hists__procstatus=[["0", "0", "56", "0"]],
            fp_hists__magzpsci=[[26.0, 26.0, -99999.0, 26.0]],
        )
        frame = to_frame(raw, [f"fp_hists.{n}" for n in ("forcediffimflux", "usable", "mag", "procstatus")])
        assert lists(frame, "fp_hists.forcediffimflux") == [[100.0, None, 100.0, -5.0]]
        assert lists(frame, "fp_hists.usable") == [[True, False, False, True]]
        assert lists(frame, "fp_hists.mag") == [[21.0, None, None, None]]
        assert lists(frame, "fp_hists.procstatus") == [["0", "0", "56", "0"]]

    def test_null_histories_are_empty(self) -> None:
        raw = table(prv_candidates__jd=[None, [1.0]], prv_candidates__magpsf=[None, [18.5]])
        assert lists(to_frame(raw, ["prv_candidates.magpsf"]), "prv_candidates.magpsf") == [[], [18.5]]

    def test_a_field_of_newer_schemas_only(self) -> None:
        raw = table(prv_candidates__jd=[[1.0, 2.0], [3.0], []], prv_candidates__magzpsci=[None, [26.0], None])
        frame = to_frame(raw, ["prv_candidates.magzpsci"])
        assert lists(frame, "prv_candidates.magzpsci") == [[None, None], [26.0], []]

    def test_a_field_that_no_alert_has(self) -> None:
        raw = table(prv_candidates__jd=[[1.0, 2.0], []], fp_hists__jd=[None, None], rb=[1, 2])
        raw = raw.append_column("prv_candidates.magzpsci", pa.nulls(2)).append_column("drb", pa.nulls(2))
        frame = to_frame(raw, ["prv_candidates.magzpsci", "fp_hists.jd", "drb"])
        assert lists(frame, "prv_candidates.magzpsci") == [[None, None], []]
        assert lists(frame, "fp_hists.jd") == [[], []]
        assert frame["drb"].isna().all()

    def test_columns_of_one_history_that_disagree(self) -> None:
        raw = table(prv_candidates__jd=[[1.0, 2.0]], prv_candidates__magpsf=[[18.5]])
        with pytest.raises(CorruptValue, match=r"row 0: prv_candidates\.magpsf has 1 values"):
            to_frame(raw, ["prv_candidates.magpsf"])

    def test_public_rows(self) -> None:
        raw = table(
            prv_candidates__jd=[[1.0, 2.0, 3.0], [], [4.0], [5.0]],
            prv_candidates__programid=[[1, 2, None], [], [3], [1]],
            prv_candidates__magpsf=[[18.0, 19.0, 20.0], [], [21.0], [22.0]],
        )
        frame = to_frame(raw, ["prv_candidates.magpsf", "prv_candidates.jd"], public=True)
        assert lists(frame, "prv_candidates.magpsf") == [[18.0], [], [], [22.0]]
        assert lists(frame, "prv_candidates.jd") == [[1.0], [], [], [5.0]]

    def test_slices_chunks_and_32_bit_offsets(self) -> None:
        raw = table(prv_candidates__jd=[[1.0], [2.0, 3.0], [], [4.0]], rb=[1, 2, 3, 4])
        reads = ["rb", "prv_candidates.jd"]
        small = raw.set_column(
            raw.column_names.index("prv_candidates.jd"),
            "prv_candidates.jd",
            raw["prv_candidates.jd"].cast(pa.list_(pa.float64())),
        )
        for given in (raw, small, pa.concat_tables([raw.slice(0, 1), raw.slice(1)]), raw.to_batches()[0]):
            assert lists(to_frame(given, reads), "prv_candidates.jd") == [[1.0], [2.0, 3.0], [], [4.0]]
        assert lists(to_frame(raw.slice(1, 2), reads), "prv_candidates.jd") == [[2.0, 3.0], []]
        assert to_frame(raw.slice(1, 2), reads)["rb"].tolist() == [2, 3]


def test_every_column_of_every_real_packet(real_alerts: Path) -> None:
    """All scalars and history fields, through the batch reader, are what fastavro and the definitions say."""
    reads = [name for name in ZTF.names() if ZTF.how(name) is None or name.endswith("ssdistnr")]
    paths = [
        p
        for v in ("3.2", "3.3", "4.01", "4.02_spark", "snappy")
        for p in sorted((real_alerts / f"ztf_{v}").glob("*"))
    ]
    frame = to_frame(PacketReader(stored_columns(reads)).read([p.read_bytes() for p in paths]).table, reads)
    packets = [record for p in paths for record in fastavro.reader(p.open("rb"))]
    assert len(frame) == len(packets) >= 203
    for name in reads:
        shown = lists(frame, name) if "." in name else [None if pd.isna(x) else x for x in frame[name]]
        assert shown == [_expected(packet, name) for packet in packets], name


def _expected(packet: Any, name: str) -> Any:
    history, dot, field = name.partition(".")
    if dot:
        return [_seen(row, field, history) for row in packet.get(history) or []]
    return _seen({**packet["candidate"], **packet}, name, "")


def _seen(record: Any, field: str, where: str) -> Any:
    value = record.get(field)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    ps1_or_gaia = (
        field[:-1] in ("sgscore", "distpsnr", "sgmag", "srmag", "simag", "szmag", "objectidps")
        or "gaia" in field
    )
    if value == -999 and (ps1_or_gaia or field in ("ssdistnr", "ssmagnr")) and where != "fp_hists":
        return None
    if field == "ssdistnr" and value == 60 and record.get("ssnamenr") in (None, "null"):
        return None
    if (field == "ssnamenr" and value == "null") or (where == "fp_hists" and value == -99999):
        return None
    return value
