"""Replay: against the filters applied by hand, whichever way it runs."""

from __future__ import annotations

import threading
import time
from concurrent.futures import wait
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archive.read.archive import Archive
from archive.replay import trial
from archive.replay.replay import Progress, replay, variants
from archive.replay.results import Replay
from archive.tables import store
from archive.write.ingest import ingest
from filters import alert_filter, registered
from filters.errors import BadParameter, FilterError, ReadsRequired, UnknownFilter
from filters.external.externals import stored_columns, to_frame
from schemas.packets.reader import PacketReader
from simulator import SimulatedAlert, simulate
from tests.archive.helpers import write_packets

NAMES = ["real_bogus", "pure_transient", "two_detections_20min", "nuclear"]


@pytest.fixture(scope="module")
def alerts() -> list[SimulatedAlert]:
    return list(simulate(900, 5, nights=3, stamps=False))


@pytest.fixture(scope="module")
def archive(alerts: list[SimulatedAlert], tmp_path_factory: pytest.TempPathFactory) -> Archive:
    folder = tmp_path_factory.mktemp("replay")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "ROW_GROUP_ROWS", 50)
        for part in range(2):
            packets = [alert.packet for alert in alerts[part::2]]
            ingest(write_packets(folder / f"part{part}", packets), folder / "archive")
    return Archive(folder / "archive")


def frame_of(alerts: list[SimulatedAlert], reads: Any, public: bool) -> pd.DataFrame:
    """What the filters see, through the decoder alone."""
    packets = [a.packet for a in alerts if a.programid == 1 or not public]
    return to_frame(
        PacketReader(stored_columns(reads, public=public)).read(packets).table, reads, public=public
    )


@pytest.mark.parametrize("public", [True, False])
def test_every_filter_as_applied_by_hand(
    archive: Archive, alerts: list[SimulatedAlert], public: bool
) -> None:
    found = replay(list(registered("ztf").values()), archive, public=public)
    assert found.complete
    for number, f in enumerate(found.filters):
        frame = frame_of(alerts, f.require_reads(), public)
        mask = f.passes(frame)
        assert sorted(found.of(number)["candid"]) == sorted(frame["candid"][mask]), f.name
        by_hand = f.funnel(frame)
        told = found.funnel(number).groupby("cut", sort=False)["alerts"].sum()
        assert told.to_dict() == by_hand.set_index("cut")["alerts"].to_dict(), f.name


def test_objects_are_counted_once_a_night(archive: Archive, alerts: list[SimulatedAlert]) -> None:
    f = registered("ztf")["pure_transient"]
    frame = frame_of(alerts, [*f.require_reads(), "night"], True)
    found = replay(f, archive).funnel()
    for night, (_, rows) in zip(sorted(found["night"].unique()), frame.groupby("night"), strict=True):
        by_hand = f.funnel(rows.reset_index(drop=True))
        told = found[found["night"] == night]
        assert told["objects"].tolist() == by_hand["objects"].tolist()
        assert told["alerts"].tolist() == by_hand["alerts"].tolist()
    assert (found["objects"] < found["alerts"]).any(), "no object with two alerts: nothing is proved"


def assert_equal(one: Replay, other: Replay) -> None:
    pd.testing.assert_frame_equal(one.matches, other.matches)
    pd.testing.assert_frame_equal(one.funnel(), other.funnel())
    pd.testing.assert_frame_equal(one.nights(), other.nights())


def test_packet_by_packet_is_the_same(archive: Archive) -> None:
    nights = str(archive.nights()["night"][1])
    for public in (True, False):
        ways = [replay(NAMES, archive, nights, public=public, way=way) for way in ("dataframe", "bag")]
        assert_equal(*ways)
        assert len(ways[0].matches)


def test_small_shares_and_batches_are_the_same(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = replay(NAMES, archive)
    monkeypatch.setattr(trial, "BATCH_ROWS", 1)
    monkeypatch.setattr("archive.replay.replay.SHARE_ROWS", 40)
    assert_equal(replay(NAMES, archive, threads=4), whole)


def test_on_a_cluster_it_is_the_same(archive: Archive, tmp_path: Path) -> None:
    from distributed import Client

    from cluster.dask.local import local_cluster
    from filters import load

    own = tmp_path / "mine.py"
    own.write_text(
        "from zads import alert_filter\n\n@alert_filter(survey='ztf', reads=['rb'])\n"
        "def mine(alerts, *, least=0.9):\n    return {'sure': alerts['rb'] > least}\n"
    )
    chosen = [*NAMES, load(str(own))]
    here = replay(chosen, archive)
    with local_cluster(2) as cluster:
        assert_equal(replay(chosen, archive, cluster=cluster.scheduler_address), here)
        with Client(cluster.scheduler_address) as client:
            assert_equal(replay(chosen, archive, cluster=client), here)


def test_a_sweep_is_one_pass(archive: Archive) -> None:
    once = replay("real_bogus", archive)
    sweep = replay("real_bogus", archive, parameters={"rb_min": [i / 20 for i in range(20)]})
    assert len(sweep.filters) == 20
    assert sweep.tally.bytes == once.tally.bytes
    assert sweep.tally.rows == once.tally.rows
    counts = [len(sweep.of(number)) for number in range(20)]
    assert counts == sorted(counts, reverse=True)
    assert sorted(sweep.of(13)["candid"]) == sorted(once.of(0)["candid"])  # 0.65
    of_columns = [
        f for f in registered("ztf").values() if f.name != "stamp_point"
    ]  # which reads whole packets
    ten = replay(of_columns[:10], archive)
    each = [replay(f, archive) for f in ten.filters]
    assert ten.tally.bytes < sum(one.tally.bytes for one in each) / 2


def test_parameters_are_spelled_in_many_ways() -> None:
    def values(*given: Any) -> list[dict[str, Any]]:
        return [dict(f.values) for f in variants(*given)]

    assert values(["real_bogus"]) == [{"rb_min": 0.65}]
    assert values(["real_bogus"], {"rb_min": "0.7"}) == [{"rb_min": 0.7}]
    assert values(["real_bogus"], [{"rb_min": 0.7}, {}]) == [{"rb_min": 0.7}, {"rb_min": 0.65}]
    both = variants(["real_bogus", "pure"], {"real_bogus.rb_min": [0.1, 0.2], "fwhm_max": [3, 4]})
    assert [(f.name, f.values["rb_min"]) for f in both] == [
        ("real_bogus", 0.1),
        ("real_bogus", 0.2),
        ("pure", 0.65),
        ("pure", 0.65),
    ]
    assert len(variants(["pure"], {"rb_min": [0.5, 0.6], "fwhm_max": [3, 4, 5]})) == 6
    assert len(variants(["pure", "pure"])) == 1


@alert_filter(survey="lsst", reads=["psfFlux"])
def of_another_survey(alerts: pd.DataFrame) -> dict[str, Any]:
    """Never runs here."""
    return {"bright": alerts["psfFlux"] > 0}


@alert_filter(survey="ztf")
def without_reads(alerts: pd.DataFrame) -> dict[str, Any]:
    """A filter typed in a notebook."""
    return {"real": alerts["rb"] >= 0.65}


@pytest.mark.parametrize(
    ("filters", "parameters", "error", "words"),
    [
        (["real_bogus"], {"rb_mim": 0.5}, BadParameter, "rb_min"),
        (["real_bogus"], {"pure.rb_min": 0.5}, BadParameter, "rb_min"),
        (["real_bogus"], {"rb_min": "high"}, BadParameter, "number"),
        (["nothing"], None, UnknownFilter, "real_bogus"),
        ([of_another_survey], None, FilterError, "lsst"),
        ([without_reads], None, ReadsRequired, "reads"),
        ([], None, FilterError, "filter"),
    ],
)
def test_mistakes_are_told(archive: Archive, filters: Any, parameters: Any, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        replay(filters, archive, parameters=parameters)


def test_a_filter_without_reads_goes_packet_by_packet(archive: Archive) -> None:
    nights = str(archive.nights()["night"][1])
    typed = replay(without_reads, archive, nights, way="bag").matches["candid"]
    assert sorted(typed) == sorted(replay("real_bogus", archive, nights).matches["candid"])


@alert_filter(survey="ztf", reads=["rb", "candid"])
def raises_on_some(alerts: pd.DataFrame, *, every: Annotated[int, ""] = 97) -> dict[str, Any]:
    """A filter with a mistake that some alerts bring out."""
    if (alerts["candid"] % every == 7 % every).any():
        raise ValueError("seven")
    return {"real": alerts["rb"] >= 0.65}


def test_alerts_that_a_filter_cannot_bear_are_told_and_cost_no_other(
    archive: Archive, alerts: list[SimulatedAlert]
) -> None:
    found = replay(["real_bogus", raises_on_some], archive, public=False)
    bad = {a.candid for a in alerts if a.candid % 97 == 7}
    assert 0 < len(bad) <= 20
    assert set(found.failures["candid"]) == bad
    assert found.failures["error"].unique().tolist() == ["ValueError: seven"]
    assert set(found.of(1)["candid"]) == set(found.of(0)["candid"]) - bad


def test_a_filter_that_always_raises_is_given_up_and_the_others_go_on(archive: Archive) -> None:
    found = replay(["real_bogus", raises_on_some.using(every=1)], archive)
    assert len(found.of("real_bogus"))
    assert found.of(1).empty
    assert found.failures["filter"].unique().tolist() == [found.labels[1]]
    assert found.failures["candid"].isna().any(), "too many alerts to name each"
    assert found.complete
    table = found.nights()[found.nights()["filter"] == found.labels[1]]
    assert table["unjudged"].tolist() == table["of"].tolist()
    assert not table["complete"].any()
    assert_counts_are_matches(found)


def assert_counts_are_matches(found: Replay) -> None:
    """What the tables say passed is what the matches hold."""
    table = found.nights()
    for number, label in enumerate(found.labels):
        own, rows = found.of(number), table[table["filter"] == label].set_index("night")
        assert rows["alerts"].to_dict() == {n: int((own["night"] == n).sum()) for n in rows.index}
        objects = {n: own.loc[own["night"] == n, "objectId"].nunique() for n in rows.index}
        assert rows["objects"].to_dict() == objects
    assert dict(zip(found.labels, found.unjudged, strict=True)) == (
        table.groupby("filter")["unjudged"].sum()[found.labels].to_dict()
    )


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(every=st.sampled_from([1, 2, 3, 7, 20, 50, 97, 400]), rows=st.sampled_from([1, 5, 17, 60, 32_768]))
def test_however_often_a_filter_raises_counts_are_matches(
    archive: Archive, alerts: list[SimulatedAlert], every: int, rows: int
) -> None:
    """Giving up, single failures and both in one night: passed = matches, failures name real alerts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "BATCH_ROWS", rows)
        found = replay(["real_bogus", raises_on_some.using(every=every)], archive, public=False)
    assert_counts_are_matches(found)
    bad = {a.candid for a in alerts if a.candid % every == 7 % every}
    named = set(found.failures["candid"].dropna().tolist())
    assert named <= bad
    assert found.unjudged[0] == 0
    assert len(bad) <= found.unjudged[1] <= len(alerts)
    if not found.failures["candid"].isna().any():
        assert (named, found.unjudged[1]) == (bad, len(bad))
    good = set(found.of(0)["candid"])
    assert set(found.of(1)["candid"]) <= good - bad
    assert set(found.compare(0, 1).lost["candid"]) == good - set(found.of(1)["candid"])
    assert ("not judged" in str(found.compare(0, 1))) == bool(found.unjudged[1])


def last_first(pool: Any, under_way: Any) -> list[Any]:
    """All that is under way, done, in the order in which a slow machine may take it."""
    return sorted(wait(under_way).done, key=list(under_way).index, reverse=True)


@pytest.mark.parametrize("order", [None, last_first])
def test_what_is_there_by_then_when_it_is_ended_early(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, order: Any
) -> None:
    monkeypatch.setattr("archive.replay.replay.SHARE_ROWS", 50)
    if order is not None:
        monkeypatch.setattr("archive.replay.replay._Pool.next_done", order)
    seen: list[Progress] = []

    def stop(so_far: Progress) -> None:
        seen.append(so_far)
        if so_far.alerts > so_far.of / 2:
            raise KeyboardInterrupt

    whole, early = replay("real_bogus", archive), replay("real_bogus", archive, on_progress=stop, threads=1)
    assert not early.complete
    assert 0 < early.alerts < whole.alerts
    assert set(early.matches["candid"]) < set(whole.matches["candid"])
    assert seen[-1].of == whole.alerts
    nights = early.nights()
    done = nights[nights["complete"]]
    assert 0 < len(done) < len(nights)
    told = whole.nights().set_index("night").loc[done["night"], "alerts"]
    assert done["alerts"].tolist() == told.tolist()


def test_ctrl_c_from_outside(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal arrives while filters run."""
    import signal

    monkeypatch.setattr("archive.replay.replay.SHARE_ROWS", 50)
    threading.Timer(0.5, signal.raise_signal, [signal.SIGINT]).start()
    found = replay(slow, archive, threads=1)
    assert not found.complete
    assert found.alerts > 0


@alert_filter(survey="ztf", reads=["rb"])
def slow(alerts: pd.DataFrame) -> dict[str, Any]:
    """Takes its time."""
    time.sleep(0.2)
    return {"real": alerts["rb"] >= 0.65}


@alert_filter(survey="ztf", reads=["pid"], scope="exposure")
def crowded(alerts: pd.DataFrame, *, most: Annotated[int, ""] = 3) -> dict[str, Any]:
    """Of exposures with few alerts."""
    return {"few": alerts.groupby("pid")["candid"].transform("size") <= most}


def test_a_filter_on_exposures_sees_them_whole(
    archive: Archive, alerts: list[SimulatedAlert], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archive.replay.replay.SHARE_ROWS", 50)
    frame = frame_of(alerts, crowded.require_reads(), False)
    f = crowded.using(most=int(frame.groupby("pid").size().median()))
    found = replay(f, archive, public=False)
    assert sorted(found.matches["candid"]) == sorted(frame["candid"][f.passes(frame)])
    assert 0 < len(found.matches) < len(frame)
