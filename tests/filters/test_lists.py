"""Lists that people keep: by place or objectId, edited row by row, and read by whom their owner names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from archive.write.ingest import ingest
from commands import application
from commands.external.lists import add_list, content, edit_list
from commands.external.seen import seen
from filters.external import Externals, NoSuchExternal, Store
from filters.external.externals import frames_of
from filters.external.store import Access, ExternalError, is_owned, owned, seen_by
from filters.testing import packet
from pipeline.channels.config import RunConfig, channel_set
from pipeline.channels.definition import Definition
from pipeline.channels.registry import Registry
from schemas.packets.packet import read_packet
from tests.archive.helpers import write_packets
from tests.pipeline.night import night

TARGETS = pd.DataFrame(
    {"name": ["M31", "M33"], "ra": [10.68, 23.46], "dec": [41.27, 30.66], "radius": [5.0, 60.0]}
)
OBJECTS = pd.DataFrame(
    {"objectId": ["ZTF1", "ZTF2"], "rank": pd.array([1, None], "Int64"), "z": [0.1, np.nan]}
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def told(store: Store, name: str, columns: str, alerts: list[Mapping[str, Any]]) -> list[list[Any]]:
    """Some columns of a list, of ZTF packets with these values."""
    reads = [f"{name}.{column}" for column in columns.split()]
    frame = frames_of(reads, externals=Externals(store.root)).of_packets([packet("ztf", **a) for a in alerts])
    return [[None if pd.isna(value) else value for value in frame[c]] for c in reads]


def test_each_row_has_its_own_radius_and_is_edited_by_name(store: Store) -> None:
    near = [{"ra": 10.68, "dec": 41.27 + 8 / 3600}, {"ra": 23.46, "dec": 30.66 + 50 / 3600}]
    add_list(TARGETS, "targets", store, radius_column="radius", owner="ann")
    assert told(store, "targets", "match name", near) == [[False, True], [None, "M33"]]
    before = store.current("targets")
    rows = [{"name": "M31", "radius": 10}, {"name": "new", "ra": 1, "dec": 2.5, "radius": 3}]
    edit_list("targets", store, rows, ["M33"], owner="ann")
    assert told(store, "targets", "match name", near) == [[True, False], ["M31", None]]
    kept = content(store, "targets").rows.sort_values("name").to_dict("list")
    assert kept == {"name": ["M31", "new"], "ra": [10.68, 1.0], "dec": [41.27, 2.5], "radius": [10.0, 3.0]}
    assert (
        Store(store.root).about("targets", before)["rows"] == 2
    )  # who reads the version before has it still


def test_a_list_of_objects_needs_no_place(store: Store) -> None:
    assert "2 objects by objectId" in add_list(OBJECTS, "mine", store)
    alerts = [{"objectId": "ZTF2"}, {"objectId": "ZTF3", "ra": None}, {"objectId": "ZTF1"}]
    assert told(store, "mine", "match rank z", alerts) == [
        [True, False, True],
        [None, None, 1],
        [None, None, 0.1],
    ]
    edit_list("mine", store, [{"objectId": "ZTF3", "rank": 7}, {"objectId": "ZTF1", "z": 0.5}], ["ZTF2"])
    assert told(store, "mine", "match rank z", alerts) == [
        [False, True, True],
        [None, 7, 1],
        [None, None, 0.5],
    ]
    empty = frames_of(["mine.match", "mine.rank"], externals=Externals(store.root)).of_packets([])
    assert [str(empty[c].dtype) for c in ("mine.match", "mine.rank")] == ["bool", "Int64"]


WRONG = {
    "no row M32; did you mean": {"drop": ["M32"]},
    "no column 'radus'": {"rows": [{"name": "M31", "radus": 3}]},
    "is told by its name": {"rows": [{"ra": 3.0}]},
    "nothing would be left": {"drop": ["M31", "M33"]},
    "'wide' is none": {"rows": [{"name": "M31", "radius": "wide"}]},
}


@pytest.mark.parametrize("words", WRONG)
def test_an_edit_that_cannot_be_changes_nothing(store: Store, words: str) -> None:
    add_list(TARGETS, "targets", store, radius_column="radius")
    before = store.current("targets")
    with pytest.raises(ExternalError, match=words):
        edit_list("targets", store, **WRONG[words])  # type: ignore[arg-type]
    assert store.current("targets") == before
    with pytest.raises(ExternalError, match="no column looks like ra"):
        add_list(pd.DataFrame({"x": [1]}), "nothing", store)


def test_who_may_not_read_a_list_finds_nothing_of_it(store: Store) -> None:
    """Neither its name among those that are near, nor its columns."""
    name = owned("ann", "secret_targets")
    add_list(TARGETS, name, store, radius_column="radius")
    add_list(TARGETS, "open", store)
    asked = (f"{name}.match", f"{name}.radiuss", f"{owned('ann', 'secret_target')}.match")

    def tried(user: str) -> list[str]:
        said = []
        with seen_by(user):
            for column in asked:
                try:
                    told(store, *column.split("."), [{}])
                except Exception as error:
                    said.append(str(error))
        return said

    for user in ("ann", "ben"):  # nobody has said yet whose it is
        assert len(tried(user)) == 3
    store.share(name, Access("ann"))
    assert len(tried("ann")) == 2
    assert "did you mean 'ann__secret_targets'" in tried("ann")[1]
    for said in tried("ben"):
        assert said.startswith("no catalogue, region or sky map 'ann__secret_")
        assert said.count("secret") == 1
        assert str(store.root) not in said
        assert "radius'" not in said
    with seen_by("ben"):
        assert store.names() == ["open"]
        assert store.versions(name) == []
    for readers in (("ben",), ("*",)):
        store.share(name, Access("ann", readers))
        assert len(tried("ben")) == 2
    with seen_by(""):
        assert store.names() == [name, "open"]


def test_a_run_has_no_channel_that_reads_what_its_owner_may_not(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the registry says: the service is one wall, the run another."""
    monkeypatch.setenv("ZADS_EXTERNAL", str(store.root))
    name = owned("ann", "targets")
    add_list(TARGETS, name, store)
    store.share(name, Access("ann"))
    every = {
        f"{who}.near": Definition(name=f"{who}.near", filter=f"{name}.match and rb > 0", state="enabled")
        for who in ("ann", "ben")
    }
    made = channel_set(RunConfig(), list(every), Registry(definitions=every))
    assert [refused for refused, _ in made.refused] == ["ben.near"]
    assert made.externals.versions.keys() == {name}


def test_an_operator_does_not_take_a_users_name(tmp_path: Path) -> None:
    TARGETS.to_csv(tmp_path / "t.csv", index=False)
    for group in ("catalogue", "watchlist"):
        add = [group, "add", f"{tmp_path}/t.csv", "--name", "ann__t", "--root", f"{tmp_path}/external"]
        done = CliRunner().invoke(application(), add)
        assert "belong to users" in str(done.exception)


users = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
lists = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(lambda name: "__" not in name)


@given(users, lists, users, lists)
def test_two_lists_never_have_one_name(user: str, name: str, other: str, its: str) -> None:
    assert is_owned(owned(user, name))
    assert (owned(user, name) == owned(other, its)) == ((user, name) == (other, its))


def test_what_of_a_list_was_seen_last_month(store: Store, tmp_path: Path) -> None:
    """By place and by object, of public alerts alone; by reading each packet."""
    archive = str(tmp_path / "archive")
    ingest([write_packets(tmp_path / "packets", [alert.packet for alert in night()])], archive)
    every = [read_packet(alert.packet)[0] for alert in night()]
    some = every[::40]
    public = [one for one in every if one["candidate"]["programid"] == 1]
    targets = pd.DataFrame([{k: one["candidate"][k] for k in ("ra", "dec")} for one in some])
    add_list(targets.assign(name=[f"t{n}" for n in range(len(some))]), "places", store, radius=0.01)
    add_list(pd.DataFrame({"objectId": [one["objectId"] for one in some]}), "objects", store)
    wanted = {one["objectId"] for one in some}
    expected = sorted(one["candid"] for one in public if one["objectId"] in wanted)
    found = seen("objects", archive, Externals(store.root))
    assert sorted(found["candid"]) == expected
    assert len(seen("objects", archive, Externals(store.root), public=False)) > len(expected)
    near = seen("places", archive, Externals(store.root))
    assert {one["candid"] for one in some if one in public} <= set(near["candid"])
    assert near["places.name"].notna().all()
    assert near["jd"].is_monotonic_decreasing
    with seen_by("ben"), pytest.raises(NoSuchExternal):
        seen(owned("ann", "x"), archive, Externals(store.root))
