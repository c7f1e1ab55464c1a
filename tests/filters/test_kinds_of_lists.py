"""What lists are called and how they are told apart; what stands between the columns of a file in text."""

from __future__ import annotations

import itertools
import json
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from commands import application
from commands.external.catalogues import add_catalogue, read_table
from commands.external.lists import add_list, content, edit_list
from filters.external import Store
from filters.external.store import ExternalError, refuse_name
from filters.files.tables import comma_separated

PLACES = "name,ra,dec\nM31,10.68,41.27\nM33,23.46,30.66\n"


def zads(root: Path, *arguments: str) -> str:
    """What a command says, or how it refuses."""
    done = CliRunner().invoke(application(), [*arguments, "--root", str(root)])
    return done.output if done.exit_code == 0 else str(done.exception)


IN_TEXT = {
    "objectId\nZTF24wnzhkff\nZTF24abc\n": ["objectId"],
    "# of June\nobjectId# theirs\nZTF1\n": ["objectId"],
    "objectId,why\nZTF1,\nZTF2,odd\n": ["objectId", "why"],
    "a name;ra;dec\nM 31;1;2\n": ["a name", "ra", "dec"],
    "a name|ra|dec\nM 31|1|2\n": ["a name", "ra", "dec"],
    "name\tra\tdec\nM 31\t1\t2\n": ["name", "ra", "dec"],
    "  ra   dec\n  1   2\n": ["ra", "dec"],
    '"a, b" ra dec\nx 1 2\n': ["a, b", "ra", "dec"],
}


@pytest.mark.parametrize("text", IN_TEXT)
def test_the_columns_of_a_file_in_text_are_told_by_usual_marks(text: str, tmp_path: Path) -> None:
    """By an operator's reader and by the one for users' files alike; no letter is a mark."""
    (tmp_path / "t.csv").write_text(text)
    assert list(read_table(tmp_path / "t.csv")[0].columns) == IN_TEXT[text]
    assert [column.name for column in comma_separated(text.encode())] == IN_TEXT[text]


def test_an_object_goes_into_a_list_with_gaps(tmp_path: Path) -> None:
    store = Store(tmp_path)
    frame = pd.DataFrame({"objectId": ["ZTF1"], "why": pd.array(["odd"], "string")})
    add_list(frame, "fo", store)
    edit_list("fo", store, [{"objectId": "ZTF2"}])
    rows = content(store, "fo").rows
    assert rows["objectId"].tolist() == ["ZTF1", "ZTF2"]
    assert rows["why"].isna().tolist() == [False, True]


def test_nothing_replaces_or_removes_what_is_of_another_kind(tmp_path: Path) -> None:
    """Each command against each kind: all versions are as they were."""
    (tmp_path / "places.csv").write_text(PLACES)
    (tmp_path / "objects.csv").write_text("objectId\nZTF1\n")
    root, places, objects = tmp_path / "root", str(tmp_path / "places.csv"), str(tmp_path / "objects.csv")
    add = {
        "catalogue": lambda name: ("catalogue", "add", places, "--name", name),
        "watchlist": lambda name: ("watchlist", "add", places, "--name", name),
        "objects": lambda name: ("watchlist", "add", objects, "--name", name),
        "region": lambda name: ("region", "add", name, "cone 10 20 1"),
        "skymaps": lambda name: ("skymaps", "add", places, "--name", name),
    }
    change = {
        "catalogue": [lambda name: ("catalogue", "remove", name)],
        "watchlist": [
            lambda name: ("watchlist", "remove", name),
            lambda name: ("watchlist", "set", name, "name=M31", "ra=1"),
            lambda name: ("watchlist", "drop", name, "M31"),
        ],
        "region": [lambda name: ("region", "remove", name)],
        "skymaps": [],
    }
    for there in ("catalogue", "watchlist", "objects", "region"):
        zads(root, *add[there](f"{there}_x"))
    before = sorted(path.relative_to(root) for path in root.rglob("*"))
    kind_of = {"objects": "watchlist"}
    for there, other in itertools.product(("catalogue", "watchlist", "objects", "region"), add):
        kind, asked = kind_of.get(there, there), kind_of.get(other, other)
        if kind != asked:
            for words in (add[other], *change[asked]):
                said = zads(root, *words(f"{there}_x"))
                assert f"'{there}_x' is a {kind}, not a" in said, (words(f"{there}_x"), said)
    assert sorted(path.relative_to(root) for path in root.rglob("*")) == before
    assert "is gone" in zads(root, "region", "remove", "region_x")
    assert "is gone" in zads(root, "watchlist", "remove", "objects_x")


def test_a_list_of_which_nobody_has_said_what_it_is_may_be_both(tmp_path: Path) -> None:
    """As they were written before catalogues and watchlists were told apart."""
    store = Store(tmp_path)
    about = {"what": "catalogue", "name": "old"}
    store.add("old", "1", about, lambda folder: None)
    for kind in ("catalogue", "watchlist"):
        store.refuse_other("old", {kind})
    with pytest.raises(ExternalError, match="not a region"):
        store.remove("old", "region")


@pytest.mark.parametrize("name", ["skymaps", "annotations", "coords", "magpsf", "psfflux", "class"])
@pytest.mark.parametrize("kind", ["catalogue", "watchlist", "region", "model"])
def test_no_kind_has_a_name_that_filters_know(name: str, kind: str) -> None:
    with pytest.raises(ExternalError, match="choose another"):
        refuse_name(name, kind)
    refuse_name("skymaps", "skymaps")


LEFT_OUT = {
    "name,ra,dec\nA,1,2\nB,,3\nC,400,3\nD,5,x\n": "3 rows are left out, without ra from 0 to 360 and",
    "objectId,why\nZTF1,a\n,b\nZTF1,c\n": "1 row is left out, without an objectId in objectId",
}


@pytest.mark.parametrize("text", LEFT_OUT)
def test_rows_that_are_left_out_are_said(text: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text)
    told = " ".join(
        zads(tmp_path / "root", "watchlist", "add", str(tmp_path / "t.csv"), "--name", "t").split()
    )
    assert LEFT_OUT[text] in told
    assert "(the first is row 2)" in told
    if "objectId" in text:
        assert "1 more had the objectId of a later row" in told
    else:
        add = ("catalogue", "add", str(tmp_path / "t.csv"), "--name", "c")
        assert LEFT_OUT[text] in " ".join(zads(tmp_path / "root", *add).split())
        with pytest.warns(UserWarning, match="the first is row 2"):
            add_catalogue(tmp_path / "t.csv", "c", 3.0, root=tmp_path / "root")


@pytest.mark.parametrize("wrong", ["abc", "", "0", "-3", "inf"])
def test_a_row_without_a_usable_radius_is_refused_by_its_number(wrong: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"name,ra,dec,radius\nA,,,7\nB,1,2,5\nC,3,4,{wrong}\n")
    own: list[str] = []
    with pytest.raises(ExternalError, match=r"radius of row 3 is .*above 0"):
        add_catalogue(tmp_path / "t.csv", "t", 3.0, radius_column="radius", root=tmp_path, tell=own.append)
    assert "(the first is row 1)" in own[0]
    assert not (tmp_path / "t").exists()


INCOMPLETE: dict[str, list[dict[str, object]]] = {
    "Q of targets has no place": [{"name": "Q", "radius": 3}],
    "M31 of targets has no place": [{"name": "M31", "dec": 95}],
    "Z of targets has no radius": [{"name": "Z", "ra": 1, "dec": 2}],
    "M33 of targets has no radius": [{"name": "M33", "radius": -1}],
    "2 rows of targets are called twin": [{"name": "twin", "ra": 1}],
}


@pytest.mark.parametrize("words", INCOMPLETE)
def test_an_edit_leaves_no_row_that_nothing_could_match(words: str, tmp_path: Path) -> None:
    """Nor does it touch two rows that have one name."""
    store, places = Store(tmp_path), [1.0, 2.0, 3.0, 4.0]
    names = ["M31", "M33", "twin", "twin"]
    frame = pd.DataFrame({"name": names, "ra": places, "dec": places, "radius": places})
    add_list(frame, "targets", store, radius_column="radius")
    with pytest.raises(ExternalError, match=words):
        edit_list("targets", store, INCOMPLETE[words])
    with pytest.raises(ExternalError, match="2 rows of targets are called twin"):
        edit_list("targets", store, drop=["twin"])
    assert len(store.versions("targets")) == 1


def test_rows_of_a_catalogue_are_not_edited_and_it_is_said_what_to_do(tmp_path: Path) -> None:
    """As a watchlist they are: the way that the refusal tells."""
    store, frame = Store(tmp_path), pd.read_csv(StringIO(PLACES))
    add_catalogue(frame, "near", 3.0, root=tmp_path)
    with pytest.raises(ExternalError, match="not a watchlist, whose rows can") as refused:
        edit_list("near", store, drop=["M31"])
    assert "`zads catalogue remove near`" in str(refused.value.hint)
    assert "listed=True" in str(refused.value.hint)
    store.remove("near", "catalogue")
    add_catalogue(frame, "near", 3.0, root=tmp_path, listed=True)
    edit_list("near", store, drop=["M31"])
    assert content(store, "near").rows["name"].tolist() == ["M33"]


def test_regions_and_sky_maps_lie_where_the_configuration_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As catalogues and watchlists do: a zads.toml in this folder, or one that is named."""
    monkeypatch.delenv("ZADS_EXTERNAL", raising=False)
    monkeypatch.setenv("ZADS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zads.toml").write_text(f'external = "{tmp_path}/lists"\n')
    (tmp_path / "other.toml").write_text(f'external = "{tmp_path}/others"\n')
    circle = json.dumps(
        {
            "mission": "IceCube",
            "id": ["1_2"],
            "trigger_time": "2023-10-12T05:00:00Z",
            "ra": 10.0,
            "dec": 20.0,
            "ra_dec_error": 0.5,
        }
    )
    (tmp_path / "notice.json").write_text(circle)

    def ran(*arguments: str) -> str:
        done = CliRunner().invoke(application(), arguments)
        assert done.exit_code == 0, done.exception
        return done.output

    for config in ((), ("--config", "other.toml")):
        ran("region", "add", "circle", "cone 10 20 1", *config)
        ran("skymaps", "add", "notice.json", *config)
        assert "circle" in ran("region", "list", *config)
        assert "IceCube" in ran("skymaps", "list", *config)
    for folder in ("lists", "others"):
        assert Store(tmp_path / folder).names() == ["circle", "skymaps"]
    ran("region", "remove", "circle")
    assert Store(tmp_path / "lists").names() == ["skymaps"]
    assert Store().names() == []
