"""Lists that users own: from a file to alerts, edited while they flow, shared, and private otherwise."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from archive.read.archive import Archive
from archive.replay.replay import replay
from commands.external.lists import content
from filters.external import Store
from filters.external.externals import frames_of
from filters.external.store import owned
from filters.models import model
from pipeline.access.lists import MOST_FILE, ListRequest
from pipeline.access.requests import Answer, ask, write
from pipeline.access.uploads import ask_with_file, parts_of
from pipeline.broker.listen import listen
from pipeline.channels.models import model_store
from pipeline.channels.registry import read_registry
from pipeline.clients.publish import publish_packets
from schemas.packets.packet import read_packet
from tests.access.world import World
from tests.pipeline.night import REPOSITORY, night, running

MODELS = REPOSITORY / "filters" / "models"
HIDDEN = "veryhiddencolumn"


@pytest.fixture(scope="module", autouse=True)
def external(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the service keeps lists and the workers read them."""
    folder = tmp_path_factory.mktemp("external")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZADS_EXTERNAL", str(folder))
        yield folder


def packets() -> list[dict[str, Any]]:
    """The public alerts of the night, by fastavro alone."""
    every = [next(iter(fastavro.reader(io.BytesIO(alert.packet)))) for alert in night()]
    return [one for one in every if one["candidate"]["programid"] == 1]


def near(targets: pd.DataFrame, one: dict[str, Any]) -> bool:
    """Whether an alert is within a target's own radius."""
    seen = one["candidate"]
    across = np.cos(np.radians(seen["dec"])) * ((targets["ra"] - seen["ra"] + 180) % 360 - 180)
    return bool((np.hypot(across, targets["dec"] - seen["dec"]) * 3600 < targets["r"]).any())


def targets_of(some: list[dict[str, Any]]) -> pd.DataFrame:
    """Targets a little beside some alerts, with radii that reach them or do not."""
    rows = [
        {
            "name": f"t{n}",
            "ra": one["candidate"]["ra"],
            "dec": one["candidate"]["dec"] + 2 / 3600,
            "r": 4.0 if n % 3 else 1.0,
            HIDDEN: n,
        }
        for n, one in enumerate(some)
    ]
    return pd.DataFrame(rows)


def asked(world: World, who: str, **wish: Any) -> Answer:
    request = ListRequest(**wish)
    return ask(request, world.user(who), world.broker.bootstrap_servers, **world.settings[who])


def sent(frame: pd.DataFrame) -> dict[str, str]:
    return {"file": base64.b64encode(frame.to_csv(index=False).encode()).decode(), "file_name": "t.csv"}


def delivered(world: World, who: str, topic: str) -> dict[int, str]:
    """Candid -> version of the list that it was judged by."""
    heard = listen(topic, world.broker.bootstrap_servers, until_drained=True, **world.settings[who])
    return {one.candid: next(iter(json.loads(one.headers["external"]).values())) for one in heard}  # type: ignore[misc]


def test_from_a_file_to_alerts_and_an_edit_while_they_flow(world: World, external: Path) -> None:
    """As a user does it, by commands; a change takes effect within seconds, from one batch to the next."""
    public, ann = packets(), world.user("ann")
    name = owned(ann, "targets")
    targets = targets_of(public[::30])
    targets.to_csv(world.folder / "targets.csv", index=False)
    said = world.zads("ann", "watchlist", "add", "targets.csv", "--name", "targets", "--radius-column", "r")
    assert f"{name}: {len(targets)} sources, radius of each in r" in said
    assert "private" in said
    made = world.ask("ann", action="create", channel="near", where="targets.match and rb >= 0")
    assert made.done
    assert f"{name}.match and rb >= 0" in world.ask("ann", action="list").text
    assert not world.ask("ben", action="create", channel="near", where="targets.match").done
    assert world.ask("ann", action="enable", channel="near").done
    first = Store(external).current(name)
    half = len(public) // 2
    raws = [alert.packet for alert in night() if alert.programid == 1]
    topic, servers, pipe = f"channel.{ann}.near", world.broker.bootstrap_servers, world.settings["pipe"]
    flags = ("--channels", f"{ann}.near", "--as", f"{world.folder}/pipe.ini")
    publish_packets(raws[:half], servers, partitions=2, **pipe)
    with running(servers, world.folder, *flags) as run:
        before = {one["candid"] for one in public[:half] if near(targets, one)}
        run.until(lambda: _has(world, topic, before), "the alerts of the first half")
        assert asked(world, "ann", action="edit", name="targets", drop=("t1", "t2")).done
        moved = public[half + 5]["candidate"]
        row = (f"ra={moved['ra']}", f"dec={moved['dec']}", "r=3", f"{HIDDEN}=7")
        assert "1 new" in world.zads("ann", "watchlist", "set", "targets", "name=new", *row)
        second = Store(external).current(name)
        run.until(lambda: f"version {second} from now on" in " ".join(run.text().split()), "the new list", 30)
        publish_packets(raws[half:], servers, partitions=2, **pipe)
        new = pd.DataFrame([{"name": "new", "ra": moved["ra"], "dec": moved["dec"], "r": 3.0}])
        edited = pd.concat([targets[~targets["name"].isin(["t1", "t2"])], new])
        after = {one["candid"] for one in public[half:] if near(edited, one)}
        run.until(lambda: _has(world, topic, before | after), "the alerts of the second half")
    assert moved["candid"] in after
    found = delivered(world, "ann", topic)
    assert set(found) == before | after
    assert {found[one] for one in after} == {second}
    assert first in {found[one] for one in before}


def _has(world: World, topic: str, wanted: set[int]) -> bool:
    try:
        return wanted <= set(world.heard("ann", topic))
    except Exception:
        return False  # the topic is not there yet


def test_what_of_my_list_was_seen_last_month(world: World) -> None:
    """By objectId, over the archive; a public user is told of public alerts alone."""
    some = [alert for alert in night() if alert.programid != 1][:5]
    names = [next(iter(fastavro.reader(io.BytesIO(a.packet))))["objectId"] for a in some]
    names += [one["objectId"] for one in packets()[::50]]
    pd.DataFrame({"objectId": names}).to_csv(world.folder / "mine.csv", index=False)
    world.zads("ann", "watchlist", "add", "mine.csv", "--name", "mine")
    wanted = sorted(one["candid"] for one in packets() if one["objectId"] in names)
    said = world.zads("ann", "watchlist", "seen", "mine", "--out", "seen.csv")
    assert f"{len(wanted)} alerts" in said
    assert sorted(pd.read_csv(world.folder / "seen.csv")["candid"]) == wanted
    assert asked(world, "cora", action="add", name="mine", **sent(pd.DataFrame({"objectId": names}))).done
    assert len(asked(world, "cora", action="seen", name="mine").preview) > len(wanted)
    assert not asked(world, "ben", action="seen", name=owned(world.user("ann"), "mine")).done


@pytest.mark.usefixtures("walls")
def test_nobody_else_reads_or_uses_a_private_list(world: World) -> None:
    """Neither by naming it in any way, nor by what an error says; when it is shared, all of it works."""
    ann, ben = world.user("ann"), world.user("ben")
    name = owned(ann, "secret")
    assert asked(world, "ann", action="add", name="secret", **sent(targets_of(packets()[:20]))).done
    assert world.ask("ann", action="create", channel="open", where=f"{name}.match", readers=("*",)).done
    text = (
        f"from zads import alert_filter\n\n@alert_filter(survey='ztf', reads=['{name}.sep'])\n"
        f"def f(alerts):\n    return {{'near': alerts['{name}.sep'] < 1}}\n"
    )
    alert = str(packets()[0]["candid"])
    table = {"rb_min": {"by": f"{name}.{HIDDEN}", "1": 0.5, "else": 0.9}}
    wishes: dict[str, dict[str, Any]] = {
        "an expression": {"action": "create", "where": f"{name}.match and rb > 0.9"},
        "a column": {"action": "create", "where": f"{name}.{HIDDEN[:-1]} > 3"},
        "a near name": {"action": "create", "where": f"{name[:-1]}.match"},
        "values": {"action": "create", "where": f"rb > 0.9; x = ({name}.sep, 'arcsec')"},
        "a table": {"action": "create", "filter": "real_bogus", "parameters": table},
        "a clone": {"action": "clone", "source": f"{ann}.open"},
        "Python": {"action": "create", "filter": "theirs.py:f", "text": text},
        "an explanation": {"action": "explain", "channel": f"{ann}.open", "alert": alert},
        "a difference": {"action": "diff", "channel": f"{ann}.open", "source": "real_bogus"},
    }

    def tried(what: str) -> Answer:
        return world.ask("ben", **{"channel": what.replace(" ", "-").lower(), **wishes[what]})

    def check_refused(what: str) -> None:
        answer = tried(what)
        told = answer.text + answer.hint + answer.traceback
        assert not answer.done, what
        assert not answer.explained
        assert HIDDEN not in told.replace(str(wishes[what].get("where", "")), ""), what
        if what == "a near name":
            assert name not in told

    for what in wishes:
        check_refused(what)
    others = [(action, name) for action in ("show", "seen", "edit", "share", "remove", "add")]
    for action, named in [*others, ("show", "secret")]:
        answer = asked(world, "ben", action=action, name=named)
        assert not answer.done
        assert HIDDEN not in answer.text + answer.hint
    assert name not in asked(world, "ben", action="list").text
    assert name in asked(world, "ann", action="list").text

    assert asked(world, "ann", action="share", name="secret", readers=(ben,)).done
    assert HIDDEN in asked(world, "ben", action="show", name=name).text
    assert not asked(world, "ben", action="edit", name=name, drop=("t1",)).done
    for what in ("an expression", "values", "a clone", "Python", "an explanation", "a difference"):
        assert tried(what).done, what
    assert world.ask("ben", action="enable", channel="an-expression").done
    assert asked(world, "ann", action="share", name="secret", readers=()).done
    kept = read_registry(**world.operator())[f"{ben}.an-expression"]
    assert (kept.state, kept.who) == ("paused", "zads serve")
    assert "may not read" in kept.why
    for action in ("enable", "test"):
        answer = world.ask(
            "ben", action=action, channel="an-expression", preview=5 if action == "test" else 0
        )
        assert not answer.done
        assert not answer.preview
    assert asked(world, "ann", action="remove", name="secret").done
    assert not asked(world, "ann", action="show", name="secret").done


def test_a_file_that_is_hostile_or_too_much_is_refused_in_words(world: World) -> None:
    """The service goes on; nothing of it is kept."""
    bomb = io.BytesIO()
    pq.write_table(pa.table({"ra": pa.array(np.zeros(10**7))}), bomb)
    crowd = pd.DataFrame({"ra": [10.0] * 500, "dec": [5.0] * 500})
    wide = pd.DataFrame({"ra": [10.0], "dec": [5.0], "r": [5000.0]})
    (world.folder / "bomb.parquet").write_bytes(bomb.getvalue())
    said = world.zads("ben", "catalogue", "add", "bomb.parquet", "--name", "bad", refused=True)
    assert "10,000,000 rows, 200,000 may be" in said
    refused: dict[str, dict[str, Any]] = {
        "within about 6 arcsec of each other": sent(crowd),
        "is more than 600": {**sent(wide), "radius_column": "r"},
        "did not arrive": {"file": "????", "file_name": "a.csv"},
        "files that end in": {**sent(crowd), "file_name": "a.pkl"},
        "no column looks like ra": sent(pd.DataFrame({"x": [1]})),
        "cannot be read as FITS": {**sent(crowd), "file_name": "a.fits"},
    }
    for words, wish in refused.items():
        answer = asked(world, "ben", action="add", name="bad", **wish)
        assert not answer.done
        assert words in answer.text
    bad = MODELS / "stamp_real.toml"
    (world.folder / "bad.onnx").write_bytes(bad.read_bytes())
    assert "cannot be read as ONNX" in world.zads("ben", "model", "check", "bad.onnx", refused=True)
    good = world.zads("ben", "model", "check", str(bad.with_suffix(".onnx")))
    assert "stamp_real.onnx: a model of 1 inputs and 1 outputs" in good
    assert "small letter" in asked(world, "ben", action="add", name="Bad", **sent(wide)).text
    assert "bad" not in asked(world, "ben", action="list").text


def test_a_request_replaces_or_removes_nothing_of_another_kind(world: World) -> None:
    table = sent(pd.DataFrame({"name": ["a"], "ra": [10.0], "dec": [5.0]}))
    assert asked(world, "ben", kind="catalogue", action="add", name="stars", **table).done
    raw = (MODELS / "light_curve_class.onnx").read_bytes()
    refused: dict[str, list[dict[str, Any]]] = {
        "is a catalogue, not a watchlist": [
            {"kind": "watchlist", "action": "add", "name": "stars", **table},
            {"kind": "watchlist", "action": "edit", "name": "stars", "drop": ("a",)},
            {"kind": "watchlist", "action": "remove", "name": "stars"},
        ],
        "you have a catalogue or watchlist called 'stars'": [of_model(raw, name="stars")],
        "choose another": [
            {"action": "add", "name": "skymaps", **table},
            of_model(raw, name="annotations"),
        ],
    }
    for words, wishes in refused.items():
        for wish in wishes:
            answer = asked(world, "ben", **wish)
            assert not answer.done
            assert words in answer.text
    assert asked(world, "ben", action="add", name="stars", **table).done
    assert asked(world, "ben", kind="catalogue", action="remove", name="stars").done


def test_a_file_longer_than_a_record_comes_in_parts(world: World, external: Path) -> None:
    """By a command; and where a part got lost the answer says which, and it is sent again."""
    rng = np.random.default_rng(7)
    count = 60_000
    ra, dec = rng.uniform(0, 360, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count)))
    many = pd.DataFrame({"name": [f"t{n}" for n in range(count)], "ra": ra, "dec": dec})
    many.to_csv(world.folder / "many.csv", index=False)
    raw = (world.folder / "many.csv").read_bytes()
    assert len(raw) > MOST_FILE
    said = world.zads("cora", "catalogue", "add", "many.csv", "--name", "many")
    assert "60,000 sources" in said
    sha256, topic = hashlib.sha256(raw).hexdigest(), f"zads.requests.{world.user('ben')}"
    every = list(parts_of(raw, sha256))
    servers, ben = world.broker.bootstrap_servers, world.settings["ben"]
    for part in (every[1], every[1]):
        write(topic, part, servers, **ben)
    wish: dict[str, Any] = {"action": "add", "name": "many", "file_name": "many.csv"}
    answer = asked(world, "ben", **wish, file_hash=sha256, parts=len(every))
    assert answer.missing == tuple(set(range(len(every))) - {1})
    whole = ask_with_file(ListRequest(**wish), raw, world.user("ben"), servers, **ben)
    assert whole.done, whole.text
    cora, ben_has = (content(Store(external), owned(world.user(who), "many")).rows for who in ("cora", "ben"))
    pd.testing.assert_frame_equal(cora, ben_has)
    assert len(cora) == count


def judged_in_process(least: float) -> set[int]:
    """Who passes `rb > 0.2 and snn.supernova > least`, by the model without the sandbox."""
    ours = model("light_curve_class")
    columns = list(dict.fromkeys(["candid", "rb", "programid", *ours.reads]))
    frame = frames_of(columns, public=True).of_packets([read_packet(a.packet)[0] for a in night()])
    frame = frame[(frame["programid"] == 1).to_numpy()]
    wanted = (frame["rb"].to_numpy() > 0.2) & (ours(frame)["supernova"].to_numpy() > least)
    return set(frame["candid"][wanted].tolist())


def of_model(raw: bytes, **more: Any) -> dict[str, Any]:
    """A request to add a model."""
    table = (MODELS / "light_curve_class.toml").read_text()
    wish = {"kind": "model", "action": "add", "name": "snn", "file_name": "snn.onnx", "table": table}
    return {**wish, "file": base64.b64encode(raw).decode(), **more}


@pytest.mark.usefixtures("walls")
def test_a_users_own_model_judges_their_channel(world: World, external: Path) -> None:
    """Live as in process and in a replay, by the version that it was made with."""
    ann, raw = world.user("ann"), (MODELS / "light_curve_class.onnx").read_bytes()
    name, where = owned(ann, "snn"), "rb > 0.2 and snn.supernova > 0.3"
    for ending in (".toml", ".onnx"):
        shutil.copy(MODELS / f"light_curve_class{ending}", world.folder)
    said = world.zads("ann", "model", "add", "light_curve_class.toml", "--name", "snn")
    assert "snn.supernova" in said
    made = world.ask("ann", action="create", channel="mine", where=where)
    assert f"created it with {where}" in made.text
    assert world.ask("ann", action="enable", channel="mine").done
    pinned = read_registry(**world.operator())[f"{ann}.mine"]
    assert pinned.models == {"snn": f"{name}@{model_store(external).current(name)}"}
    assert f"{ann}.mine: enabled, {where}" in world.ask("ann", action="list").text
    newer = of_model(raw)["table"].replace('version = "1"', 'version = "2"')
    assert asked(world, "ann", **of_model(raw, table=newer)).done
    assert len(model_store(external).versions(name)) == 2

    raws = [alert.packet for alert in night() if alert.programid == 1]
    publish_packets(raws, world.broker.bootstrap_servers, partitions=2, **world.settings["pipe"])
    world.zads("pipe", "run", "--until-drained", "--plain", "--channels", f"{ann}.mine", "--workers", "1")
    wanted = judged_in_process(0.3)
    assert len(wanted) > 5
    assert set(world.heard("ann", f"channel.{ann}.mine")) == wanted
    again = replay(pinned.channel().filter, Archive(world.archive), public=True)
    assert set(again.of(0)["candid"]) == wanted


@pytest.mark.usefixtures("walls")
def test_nobody_else_uses_a_private_model(world: World) -> None:
    """What is no model is refused in words; one that is shared no more pauses the channels that ask it."""
    raw, ben = (MODELS / "light_curve_class.onnx").read_bytes(), world.user("ben")
    name, kafka = owned(world.user("cora"), "own"), world.operator()
    stamps, table = (MODELS / "stamp_real.onnx").read_bytes(), of_model(raw)["table"]
    wrong = {
        "its graph has the inputs": of_model(stamps),
        "cannot be read as ONNX": of_model(raw[:100]),
        "its table is no TOML": of_model(raw, table="]"),
        "Extra inputs": of_model(raw, table=f"{table}\n[more]\nx = 1\n"),
        "its table: inputs": of_model(raw, table="outputs = []"),
    }
    for words, wish in wrong.items():
        answer = asked(world, "cora", **{**wish, "name": "bad"})
        assert not answer.done
        assert words in answer.text, answer.text
    assert asked(world, "cora", **of_model(raw, name="own")).done
    theirs = {"action": "create", "channel": "stolen", "where": f"{name}.supernova > 0.3"}
    text = f"from zads import alert_filter, model\n\nm = model('{name}')\n"
    for wish in (theirs, {**theirs, "where": "", "filter": "f.py:f", "text": text}):
        refused = world.ask("ben", **wish)
        assert not refused.done
        assert "that you may read" in refused.text
    assert name not in asked(world, "ben", kind="model", action="list").text
    share = {"kind": "model", "action": "share", "name": "own"}
    assert asked(world, "cora", **share, readers=(ben,)).done
    assert world.ask("ben", **theirs).done
    assert world.ask("ben", action="enable", channel="stolen").done
    assert asked(world, "cora", **share, readers=()).done
    kept = read_registry(**kafka)[f"{ben}.stolen"]
    assert (kept.state, kept.who) == ("paused", "zads serve")
    assert f"the model {name}" in kept.why
    assert not world.ask("ben", action="enable", channel="stolen").done
    assert asked(world, "cora", kind="model", action="remove", name="own").done
    assert "no models" in asked(world, "cora", kind="model", action="list").text
