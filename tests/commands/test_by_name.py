"""An alert, an object, a channel by its name: `zads explain | show | light-curve | cutouts`."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from typer.testing import CliRunner, Result

from archive.read.archive import Archive
from archive.read.objects import NoSuchAlert
from archive.replay.replay import replay
from archive.write.ingest import ingest
from cluster.kafka.broker import Broker
from commands import application
from filters import load
from pipeline.channels.definition import Definition
from pipeline.channels.registry import write_registry
from schemas.errors import ZadsError
from schemas.packets.packet import read_packet, stamp
from simulator import SimulatedAlert, simulate
from tests.archive.helpers import write_packets


@pytest.fixture(scope="module")
def alerts() -> list[SimulatedAlert]:
    return list(simulate(150, 5, nights=3))


@pytest.fixture(scope="module")
def archive(alerts: list[SimulatedAlert], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("by-name")
    ingest(write_packets(folder / "in", [alert.packet for alert in alerts]), folder / "archive")
    return folder / "archive"


@pytest.fixture(scope="module")
def most_seen(alerts: list[SimulatedAlert]) -> str:
    return Counter(alert.objectId for alert in alerts).most_common(1)[0][0]


def zads(archive: Path, *words: str, expect: int = 0) -> Result:
    result = CliRunner().invoke(application(), [*words, "--archive", str(archive)], env={"COLUMNS": "200"})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == expect, result.output
    return result


def test_explain_from_the_archive_is_as_from_the_file(
    archive: Path, alerts: list[SimulatedAlert], tmp_path: Path
) -> None:
    for alert in alerts[:5]:
        file = tmp_path / "one.avro"
        file.write_bytes(alert.packet)
        words = ["explain", "pure_transient", "--json"]
        whole = zads(archive, *words, str(alert.candid), "--collaboration").stdout
        assert whole == zads(archive, *words, str(file)).stdout


def test_explain_says_what_a_replay_says(archive: Path, alerts: list[SimulatedAlert]) -> None:
    """Also of alerts whose verdict depends on history that is not public."""
    names = ["two_detections_30min", "two_detections_20min", "pure_transient", "young_supernova"]
    differing = []
    for name in names:
        public = set(replay(name, Archive(archive)).matches["candid"].tolist())
        whole = set(replay(name, Archive(archive), public=False).matches["candid"].tolist())
        mine = {alert.candid for alert in alerts if alert.programid == 1}
        differing += [(name, candid, candid in public) for candid in sorted(mine & (public ^ whole))]
    assert differing, "no alert would tell the two apart"
    for name, candid, passes in differing[:3]:
        words = ("explain", name, str(candid), "--json")
        assert [one["passes"] for one in json.loads(zads(archive, *words).stdout)] == [passes]
        again = json.loads(zads(archive, *words, "--collaboration").stdout)
        assert [one["passes"] for one in again] == [not passes]


FEW = """
from zads import alert_filter

@alert_filter(reads=["rb"], scope="exposure", gives={"size": ""})
def few(alerts, *, most: int = 4):
    "Of exposures with few alerts."
    size = alerts.groupby("exposure")["candid"].transform("size")
    return {"real": alerts["rb"] > 0.1, "few": lambda left: size[left.index] <= most}, {"size": size}
"""


def test_explain_judges_a_whole_exposure_or_says_that_it_cannot(
    archive: Path, alerts: list[SimulatedAlert], tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(FEW)
    named, of = f"{tmp_path / 'mine.py'}:few", {a.candid: exposure_of(a) for a in alerts}
    passing = set(replay(load(named), Archive(archive)).matches["candid"].tolist())
    public = Counter(of[a.candid] for a in alerts if a.programid == 1)
    (large, size), *_, (small, _) = public.most_common()
    assert size > 4
    for exposure in (large, small):
        alert = next(a for a in alerts if of[a.candid] == exposure and a.programid == 1)
        (told,) = json.loads(zads(archive, "explain", named, str(alert.candid), "--json").stdout)
        assert told["passes"] == (alert.candid in passing)
        assert told["exposure"]["members"] == told["values"]["size"] == public[exposure]
        assert (told["exposure"]["exposure"], told["exposure"]["where"]) == (exposure, "the archive")
    words = zads(archive, "explain", named, str(alert.candid)).stdout
    assert f"judged in exposure {small}, 1 alert with this one, from the archive" in words

    file, other = tmp_path / "one.avro", next(iter(simulate(1, 6)))
    file.write_bytes(other.packet)
    (told,) = json.loads(zads(archive, "explain", named, str(file), "--json").stdout)
    assert (told["passes"], told["cuts"], told["values"]) == (None, [], {})
    assert "the archive has none of this exposure" in told["exposure"]["missing"]
    words = zads(archive, "explain", named, str(file)).stdout
    assert "cannot be judged by" in words
    assert "0 of 1 alert passes, 0 of 1 object. 1 cannot be judged." in words
    assert "cannot be judged by" in zads(tmp_path / "none", "explain", named, str(file)).stdout
    whole = [a.packet for a in alerts if of[a.candid] == large]
    file.write_bytes(whole[0])
    (told,) = json.loads(zads(archive, "explain", named, str(file), "--json").stdout)
    assert told["exposure"]["members"] == len(whole)


def exposure_of(alert: SimulatedAlert) -> int:
    return int(read_packet(alert.packet)[0]["candidate"]["pid"])


def test_explain_every_alert_of_an_object(
    archive: Path, most_seen: str, alerts: list[SimulatedAlert]
) -> None:
    """Of all with --collaboration; else of those that are public."""
    told = json.loads(zads(archive, "explain", "real_bogus", most_seen, "--json").stdout)
    public = sorted((a.jd, a.candid) for a in alerts if a.objectId == most_seen and a.programid == 1)
    assert [one["candid"] for one in told] == [candid for _, candid in public]
    told = json.loads(zads(archive, "explain", "real_bogus", most_seen, "--json", "--collaboration").stdout)
    mine = sorted((a.jd, a.candid) for a in alerts if a.objectId == most_seen)
    assert [one["candid"] for one in told] == [candid for _, candid in mine]
    assert [one["candid_str"] for one in told] == [str(candid) for _, candid in mine]


@pytest.mark.parametrize(
    ("what", "words"),
    [("1234567", "no alert with candid 1234567"), ("ZTF18nothing", "no alert of"), ("a/b.avro", "no file")],
)
def test_what_is_not_there(archive: Path, what: str, words: str) -> None:
    for command in (["show"], ["cutouts"], ["explain", "pure"]):
        with pytest.raises((NoSuchAlert, ZadsError), match=words) as error:
            zads(archive, *command, what)
        if isinstance(error.value, NoSuchAlert):
            assert f"in the archive {archive}" in str(error.value), "no Python"
            assert "zads archive follow" in str(error.value.hint)


def test_show_an_alert_and_an_object(
    archive: Path, most_seen: str, alerts: list[SimulatedAlert], tmp_path: Path
) -> None:
    alert = alerts[0]
    said = zads(archive, "show", str(alert.candid)).stdout
    for words in (alert.objectId, str(alert.candid), "position", "mag"):
        assert words in said
    [known] = json.loads(zads(archive, "show", str(alert.candid), "--json").stdout)
    candidate = read_packet(alert.packet)[0]["candidate"]
    assert (known["ra"], known["dec"]) == pytest.approx((candidate["ra"], candidate["dec"]), abs=1e-6)
    assert known["candid_str"] == str(alert.candid)
    assert (known["mag"], known["rb"]) == pytest.approx((candidate["magpsf"], candidate["rb"]), abs=1e-4)
    assert known["rows of prv_candidates"] == len(read_packet(alert.packet)[0]["prv_candidates"])
    mine = [a for a in alerts if a.objectId == most_seen]
    assert f"{len(mine)} alerts" in zads(archive, "show", most_seen).stdout
    for what in (str(alert.candid), most_seen):
        out = tmp_path / f"{what}.png"
        zads(archive, "show", what, "--out", str(out))
        assert out.stat().st_size > 20_000


def test_a_light_curve_travels(archive: Path, most_seen: str, tmp_path: Path) -> None:
    curve = Archive(archive).light_curve(most_seen)
    for name in ("c.ecsv", "c.vot", "c.csv", "c.fits"):
        out = tmp_path / name
        zads(archive, "light-curve", most_seen, "--out", str(out))
        read = Table.read(out)
        assert len(read) == len(curve)
        assert np.allclose(read["jd"], curve["jd"], atol=1e-6)
        if name != "c.csv":
            assert str(read["jd"].unit) == "d"
            assert str(read["magpsf"].unit) == "mag"
        candids = [int(c) for c in read["candid"] if c is not np.ma.masked and int(c) > 0]
        assert candids == curve["candid"].dropna().tolist()
    assert len(zads(archive, "light-curve", most_seen).stdout.splitlines()) >= len(curve)
    zads(archive, "light-curve", most_seen, "--out", str(tmp_path / "c.png"))


def test_cutouts_are_what_the_packet_holds(
    archive: Path, alerts: list[SimulatedAlert], tmp_path: Path
) -> None:
    alert = alerts[3]
    zads(archive, "cutouts", str(alert.candid), "--out", str(tmp_path / "stamps"))
    [packet] = read_packet(alert.packet)
    for which in ("Science", "Template", "Difference"):
        with fits.open(tmp_path / "stamps" / f"{alert.candid}_{which}.fits") as units:
            assert np.array_equal(units[0].data, stamp(packet, which), equal_nan=True)
    assert (tmp_path / "stamps" / f"{alert.candid}.png").is_file()


def test_why_an_alert_is_not_in_a_channel(
    broker: Broker,
    archive: Path,
    alerts: list[SimulatedAlert],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    servers = broker.bootstrap_servers
    draft = Definition(name="byname", filter="real_bogus").with_changes(parameters={"rb_min": 0.7})
    [enabled] = write_registry([draft.becoming("enabled")], servers, who="ann")
    write_registry([enabled.becoming("paused")], servers, who="ben", why="Moon")

    def told(alert: SimulatedAlert) -> dict[str, Any]:
        words = ["explain", "channel.byname", str(alert.candid), "--json", "--bootstrap", servers]
        return json.loads(zads(archive, *words).stdout)[0]

    f = load("real_bogus").using(rb_min=0.7)
    for public in (True, False):
        alert = next(a for a in alerts if (a.programid == 1) == public)
        answer = told(alert)
        assert answer["passes"] == (public and bool(f.one(read_packet(alert.packet)[0])))
        assert bool(answer["cuts"]) == public
        reasons = " ".join(answer["obstacles"])
        assert "is paused (revision 2" in reasons
        assert "Moon" in reasons
        assert "from the file" in reasons
        assert ("its programid is" in reasons or "alert's programid is" in reasons) == (not public)
    bad = next(a for a in alerts if not f.one(read_packet(a.packet)[0]))
    said = zads(archive, "explain", "channel.byname", str(bad.candid), "--bootstrap", servers).stdout
    assert 'not in channel.byname: its cut "real" stops it' in said
