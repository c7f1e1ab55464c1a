"""What a replay's result tells: comparisons, labels, files, pictures, packets in the order of time."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import BarycentricMeanEcliptic, SkyCoord
from astropy.io.votable import parse as parse_votable
from astropy.table import Table
from astropy.time import Time

from archive.plots.replays import plot_examples, plot_funnel, plot_nights, plot_sky, save_plots
from archive.read.archive import Archive
from archive.read.stream import in_time_order
from archive.replay.matches import match_columns
from archive.replay.replay import replay
from archive.replay.results import Replay
from archive.write.ingest import ingest
from filters import alert_filter
from filters.errors import FilterError
from schemas.errors import NoSuchColumn
from schemas.tabular import NoSuchFormat, write_table
from simulator import simulate
from tests.archive.helpers import records_in, write_packets

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    folder = tmp_path_factory.mktemp("results")
    packets = [alert.packet for alert in simulate(240, 5, nights=2)]
    ingest(write_packets(folder / "in", packets), folder / "archive")
    return Archive(folder / "archive")


@pytest.fixture(scope="module")
def found(archive: Archive) -> Replay:
    return replay(["real_bogus", "nuclear"], archive, parameters={"rb_min": [0.5, 0.8]})


def test_labels_tell_filters_apart(found: Replay) -> None:
    assert found.labels == ["real_bogus rb_min=0.5", "real_bogus rb_min=0.8", "nuclear"]
    assert found.which("nuclear") == found.which(2) == found.which(-1) == found.which(found.filters[2]) == 2
    with pytest.raises(FilterError, match="2 of the filters"):
        found.which("real_bogus")
    with pytest.raises(FilterError, match="nuclear"):
        found.which(7)


def test_matches_say_all_that_a_header_says(found: Replay) -> None:
    rows = found.of(1)
    assert rows.columns.tolist() == [*match_columns("ztf"), *VALUES, "variant"]
    assert json.loads(rows["parameters"][0]) == {"rb_min": 0.8}
    assert set(rows["version"]) == {found.filters[1].version}
    assert set(rows["programid"]) == {1}


VALUES = ["rb", "positive", "distpsnr1", "sgscore1", "ssdistnr"]
"""What the two filters read of an alert itself, beside what all matches have."""


def test_matches_carry_the_values_of_the_alert(found: Replay, archive: Archive) -> None:
    for number in range(3):
        rows = found.of(number)
        assert len(rows) > 3
        for row in rows.iloc[:: max(1, len(rows) // 5)].to_dict("records"):
            [packet] = records_in(archive.packet(row["candid"]))
            candidate = packet["candidate"]
            for name in ("ra", "dec", "jd", "rb"):
                if name in candidate and (name != "rb" or number < 2):
                    assert row[name] == candidate[name], name
            assert (row["mag"], row["band"]) == (candidate["magpsf"], " gri"[candidate["fid"]])
            assert abs((Time(row["utc"]) - Time(candidate["jd"], format="jd")).sec) < 0.001
            if number == 2:
                assert row["positive"] == (candidate["isdiffpos"] in ("t", "1"))


@pytest.mark.parametrize("name", ["m.vot", "m.ecsv", "m.fits", "m.csv", "m.parquet", "m.xml"])
def test_matches_travel(found: Replay, tmp_path: Path, name: str) -> None:
    """As astropy reads them: every row, every digit of a candid, units."""
    read = Table.read(found.write(tmp_path / "new" / name))
    rows = found.matches
    assert [int(c) for c in read["candid"]] == rows["candid"].tolist()
    assert np.allclose(read["ra"], rows["ra"])
    assert [str(o) for o in read["objectId"]] == rows["objectId"].tolist()
    assert str(read["utc"][0])[:19].replace(" ", "T") == rows["utc"][0].isoformat()[:19]
    assert str(read["night"][0])[:10] == str(rows["night"][0])[:10]
    if name not in ("m.csv", "m.parquet"):
        assert (str(read["ra"].unit), str(read["jd"].unit)) == ("deg", "d")
        assert len(read["mag"].description) > 5
    assert len(found.to_astropy()) == len(rows)
    found.to_astropy().pprint(max_lines=4)


@alert_filter(reads=["rb", "magpsf", "nbad", "coords.gal_lat"], gives={"rate": "mag/d", "how": "text"})
def valued(alerts: pd.DataFrame, *, rb_min: float = 0.5) -> Any:
    """Gives values."""
    words = pd.Series("real", index=alerts.index, dtype="str")
    return {"real": alerts["rb"] >= rb_min}, {"rate": alerts["magpsf"] / 2, "how": words}


@pytest.mark.parametrize("rb_min", [0.5, 2.0], ids=["some pass", "none passes"])
def test_every_column_of_a_votable_says_what_it_is(archive: Archive, tmp_path: Path, rb_min: float) -> None:
    """Units, meanings, UCDs and systems; whole numbers whole; the same columns when nothing passes."""
    found = replay(valued, archive, parameters={"rb_min": rb_min})
    file = parse_votable(found.write(tmp_path / "m.vot"), verify="exception")
    fields = {field.name: field for field in file.get_first_table().fields}
    assert list(fields) == [*match_columns("ztf"), "rb", "magpsf", "nbad", "coords.gal_lat", "rate", "how"]
    assert not [name for name, field in fields.items() if not field.description]
    assert not [f.description for f in fields.values() if f.description != " ".join(f.description.split())]
    assert (str(fields["rate"].unit), str(fields["coords.gal_lat"].unit)) == ("mag / d", "deg")
    assert fields["night"].unit is None
    assert fields["nbad"].datatype == "long"
    assert {n: fields[n].ucd for n in ("ra", "jd", "mag")} == {
        "ra": "pos.eq.ra;meta.main",
        "jd": "time.epoch",
        "mag": "phot.mag",
    }
    assert [one.system for one in file.resources[0].coordinate_systems] == ["ICRS"]
    assert [one.timescale for one in file.resources[0].time_systems] == ["UTC"]
    assert fields["ra"].ref == "icrs"
    for table in (found.to_astropy(), Table.read(found.write(tmp_path / "m.ecsv"))):
        assert (str(table["rate"].unit), len(table)) == ("mag / d", len(found.matches))
        assert (len(table) > 0) == (rb_min < 1)


def test_more_columns_travel(archive: Archive, tmp_path: Path) -> None:
    """Of the alert and of coordinates, though no filter reads them; also where nothing passes."""
    more = ["coords.ecl_lat", "drb", "nbad"]
    found, none = (replay(text, archive, values=more) for text in ("rb > 0.5", "rb > 2"))
    assert found.matches.columns.tolist() == [*match_columns("ztf"), "rb", *more, "variant"]
    assert none.matches.columns.tolist() == found.matches.columns.tolist()
    for row in found.matches.head(5).to_dict("records"):
        [packet] = records_in(archive.packet(row["candid"]))
        assert (row["drb"], row["nbad"]) == (packet["candidate"]["drb"], packet["candidate"]["nbad"])
        place = SkyCoord(row["ra"], row["dec"], unit="deg").transform_to(BarycentricMeanEcliptic)
        assert row["coords.ecl_lat"] == pytest.approx(place.lat.deg, abs=0.01)
    assert str(found.to_astropy()["coords.ecl_lat"].unit) == "deg"
    with pytest.raises(NoSuchColumn, match="nbat"):
        replay("rb > 2", archive, values=["nbat"])
    out = tmp_path / "m.ecsv"
    done = zads("rb > 0.5", "--archive", archive.path, "--values", "nbad,drb", "--out", out)
    assert done.returncode == 0, done.stderr
    assert Table.read(out).colnames == [*match_columns("ztf"), "rb", "nbad", "drb"]


def test_an_expression_is_named_by_its_text(archive: Archive) -> None:
    found = replay(["rb > 0.5 and magpsf < 19", "rb  >  0.9"], archive)
    assert found.labels == ["rb > 0.5 and magpsf < 19", "rb > 0.9"]
    assert set(found.of(1)["filter"]) == {"rb > 0.9"}


def test_an_ending_that_names_no_format(found: Replay, tmp_path: Path) -> None:
    with pytest.raises(NoSuchFormat, match=r"\.vot"):
        found.write(tmp_path / "m.doc")


NOW = "2020-01-01T10:00:00"
FRAMES = {
    "nothing there": ([None], [None], [None], [None], [None]),
    "some missing": ([1, None], [1.5, None], [True, None], ["é", None], [NOW[:10], None]),
    "large numbers": ([2**62, -1], [0.0, 1.0], [True, False], ["", ""], [NOW, NOW[:10]]),
    "no date": ([None, None], [1.0, 1.0], [None, True], ["a", "b"], [None, None]),
}


@pytest.mark.parametrize("name", ["t.vot", "t.ecsv", "t.fits", "t.parquet", "t.csv"])
@pytest.mark.parametrize("columns", FRAMES.values(), ids=FRAMES)
def test_any_frame_is_read_by_astropy(tmp_path: Path, name: str, columns: tuple[list, ...]) -> None:
    """Missing numbers, dates, words and truths too."""
    kinds = {
        "whole": "Int64",
        "number": "float64",
        "truth": "boolean",
        "word": "str",
        "date": "datetime64[s]",
    }
    made = {n: pd.array(v, dtype=k) for (n, k), v in zip(kinds.items(), columns, strict=True)}
    with warnings.catch_warnings(action="ignore"):
        read = Table.read(write_table(pd.DataFrame(made), tmp_path / name))
    assert len(read) == len(columns[0])
    if name in ("t.csv", "t.parquet"):  # which have no types for what is missing, or others
        return
    for value, told in zip(read["whole"], columns[0], strict=True):
        missing = value is np.ma.masked or int(value) == np.iinfo(np.int64).min
        assert (None if missing else int(value)) == told
    words = ["" if w is np.ma.masked else str(w) for w in read["word"]]
    assert words == [
        "" if w is None else w.encode("ascii", "replace").decode() if ".fits" in name else w
        for w in columns[3]
    ]


def test_a_comparison_by_sets(found: Replay) -> None:
    low, high = (set(found.of(n)["candid"]) for n in (0, 1))
    change = found.compare(0, 1)
    assert set(change.lost["candid"]) == low - high
    assert set(change.gained["candid"]) == high - low == set()
    assert change.kept == len(low & high)
    assert change.nights()["lost"].sum() == len(low - high)
    examples = change.examples(3)
    assert examples["change"].tolist() == ["lost"] * 3
    assert set(examples["candid"]) <= low - high
    assert f"{len(low - high)} lost" in str(change)
    back = found.compare("real_bogus rb_min=0.8", "real_bogus rb_min=0.5")
    assert set(back.gained["candid"]) == low - high


def test_json_and_parquet(found: Replay, tmp_path: Path) -> None:
    told = json.loads(found.to_json())
    assert [m["candid"] for m in told["matches"]] == found.matches["candid"].tolist()
    assert told["filters"][1] == {
        "filter": "real_bogus",
        "version": found.filters[1].version,
        "parameters": {"rb_min": 0.8},
    }
    found.to_parquet(tmp_path / "matches.parquet")
    table = pq.read_table(tmp_path / "matches.parquet")
    assert table["candid"].to_pylist() == found.matches["candid"].tolist()
    assert json.loads(table.schema.metadata[b"zads"])["alerts"] == found.alerts


def test_nothing_found_is_a_result_too(archive: Archive, tmp_path: Path) -> None:
    nothing = replay("real_bogus", archive, parameters={"rb_min": 2})
    assert nothing.matches.empty
    assert nothing.funnel()["alerts"].tolist()[1::2] == [0, 0]
    assert json.loads(nothing.to_json())["matches"] == []
    nothing.to_parquet(tmp_path / "none.parquet")
    no_night = replay("real_bogus", archive, "1999-01-01")
    assert (no_night.alerts, len(no_night.nights())) == (0, 0)
    assert no_night.compare(0, 0).kept == 0
    for figure in (plot_examples(nothing), plot_nights(nothing), plot_sky(nothing), plot_nights(no_night)):
        assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    assert "nothing passed" in plot_examples(nothing).texts[0].get_text()


def test_pictures(found: Replay, tmp_path: Path) -> None:
    for figure in (
        plot_nights(found),
        plot_funnel(found, 2),
        plot_sky(found, 0),
        plot_examples(found, 1, limit=2),
    ):
        assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    one = replay("nuclear", found.archive)
    written = save_plots(one, tmp_path / "pictures")
    assert [path.stem.partition("_")[0] for path in written] == ["nights", "funnel", "sky", "examples"]
    bars = [int(bar.get_width()) for bar in plot_funnel(found, 0).axes[0].patches]
    assert bars == found.funnel(0).groupby("cut", sort=False)["alerts"].sum().tolist()


def test_packets_in_the_order_of_time(archive: Archive, found: Replay) -> None:
    every = list(in_time_order(archive, public=False))
    read = [records_in(raw)[0] for raw, _ in every]
    assert len(every) == 240
    assert [p["candidate"]["jd"] for p in read] == sorted(p["candidate"]["jd"] for p in read)
    assert every[0][1] == pytest.approx((read[0]["candidate"]["jd"] - 2440587.5) * 86400)
    some = [records_in(raw)[0] for raw, _ in in_time_order(archive, wanted=found.of(1))]
    assert {p["candid"] for p in some} == set(found.of(1)["candid"])
    rows = [row for p in some for row in (p["prv_candidates"] or [])]
    assert {row["programid"] for row in rows} == {1}
    assert {row["programid"] for p in read for row in (p["prv_candidates"] or [])} > {1}


def zads(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "zads", "replay", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=120)


def test_the_command(archive: Archive, found: Replay, tmp_path: Path) -> None:
    out = tmp_path / "m.parquet"
    sweep = ["--param", "rb_min=0.5,0.8"]
    done = zads("real_bogus", "nuclear", "--archive", archive.path, *sweep, "--json", "--out", out)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [m["candid"] for m in told["matches"]] == found.matches["candid"].tolist()
    assert "lost" in done.stderr
    assert pd.read_parquet(out)["candid"].tolist() == found.matches["candid"].tolist()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["real_bogus", "--param", "rb=1"], "rb_min"),
        (["real_bogus", "--nights", "today"], "2023-10-12"),
        (["real_bogus", "--cone", "1 2"], "1arcmin"),
        ([], "zads filters"),
    ],
)
def test_the_commands_mistakes(archive: Archive, arguments: list[str], words: str) -> None:
    done = zads(*arguments, "--archive", archive.path)
    assert done.returncode != 0
    assert done.stdout == ""
    assert words in done.stderr
