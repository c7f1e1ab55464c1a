"""External information, live and in replay: a catalogue, a region, a sky map, other coordinates.

What is expected comes from fastavro, astropy and sums by hand, not from the code under test.
"""

from __future__ import annotations

import io
import json
import time
from dataclasses import dataclass
from pathlib import Path

import astropy.units as u
import fastavro
import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import BarycentricMeanEcliptic, SkyCoord
from astropy.table import Table
from cdshealpix.nested import lonlat_to_healpix
from typer.testing import CliRunner

from archive.read.archive import Archive
from archive.replay.replay import replay
from archive.write.appender import Appender
from cluster.kafka.broker import Broker
from commands import application
from commands.external.catalogues import add_catalogue
from commands.external.lists import add_list
from filters import Filter, expression, load
from filters.external import Externals, Store
from filters.external.add import add_notices, add_region
from filters.external.store import default_root, kept_in
from pipeline.broker.listen import listen
from pipeline.channels.definition import ChannelError, Definition
from pipeline.clients.following.follow import Follower
from pipeline.clients.publish import publish_packets
from schemas.packets.reader import PacketReader
from tests.pipeline.night import night, running
from zads import stored_columns, to_frame

CHANNELS = {
    "catalogue": "stars.sep < 1.5 and stars.mag < 20 and rb > 0.3",
    "lonely": "not stars.match and stars.covered and rb > 0.3",
    "region": "spot.inside and rb > 0.3",
    "skymap": "skymaps.level <= 0.9 and skymaps.days < 400 and skymaps.distance < 100",
    "objects": "followed.match and followed.rank > 5 and rb > 0.3",
    "latitude": "abs(coords.gal_lat) > {b_min: (20, 'deg')} and coords.ecl_lat > 0",
}


PYTHON = """
from filters import alert_filter

@alert_filter(reads=["rb", "stars.sep"], gives={"near": "", "how": "text"})
def near(alerts):
    sep = alerts["stars.sep"]
    return {"near": sep < 2.5}, {"near": 1 / (1 + sep), "how": lambda passing: passing["rb"].map(str)}
"""


@dataclass(frozen=True)
class Sky:
    """The alerts of a night as fastavro reads them, and what is around them."""

    root: Path
    frame: pd.DataFrame

    @property
    def places(self) -> SkyCoord:
        return SkyCoord(self.frame["ra"], self.frame["dec"], unit="deg")


def packets() -> list[bytes]:
    return [alert.packet for alert in night() if alert.programid == 1]


@pytest.fixture(scope="module")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Sky:
    root = tmp_path_factory.mktemp("external")
    read = [next(iter(fastavro.reader(io.BytesIO(raw)))) for raw in packets()]
    frame = pd.DataFrame([one["candidate"] for one in read])[["candid", "ra", "dec", "jd", "rb"]]
    frame["objectId"] = [one["objectId"] for one in read]
    stars = frame.iloc[::3]
    number = np.arange(len(stars))
    add_catalogue(
        pd.DataFrame(
            {
                "ra": stars["ra"],
                "dec": stars["dec"] + np.array([0.2, 1.0, 2.0])[number % 3] / 3600,
                "mag": np.where(number % 5 == 0, -999.0, 18.0 + number % 4),
            }
        ),
        "stars",
        3.0,
        nulls=[-999],
        root=root,
    )
    followed = pd.DataFrame({"objectId": sorted(set(frame["objectId"]))[::4]})
    add_list(followed.assign(rank=np.arange(len(followed))), "followed", Store(root))
    middle = crowd(frame)
    add_region("spot", f"cone {middle['ra']} {middle['dec']} 20 arcmin", root)
    add_notices("skymaps", [sky_map(frame)], root, window=1000)
    return Sky(root, frame)


def crowd(frame: pd.DataFrame) -> pd.Series:
    """The alert that most others are near."""
    places = SkyCoord(frame["ra"], frame["dec"], unit="deg")
    near = [np.count_nonzero(places[i].separation(places) < 15 * u.arcmin) for i in range(0, len(places), 10)]
    return frame.iloc[10 * int(np.argmax(near))]


ORDER = 6


def sky_map(frame: pd.DataFrame) -> bytes:
    """A map of equal cells, dense where the alerts of the night's first half are."""
    cells = np.arange(12 * 4**ORDER)
    weight = np.ones(len(cells)) * 1e-4
    some = frame.iloc[: len(frame) // 2]
    np.add.at(weight, cell_of(some), np.linspace(1, 3, len(some)))
    area = 4 * np.pi / len(cells)
    table = Table(
        {
            "UNIQ": cells + 4 * 4**ORDER,
            "PROBDENSITY": weight / weight.sum() / area / u.sr,
            "DISTMU": np.where(cells % 2, 40.0, 400.0) * u.Mpc,
            "DISTSIGMA": np.full(len(cells), 4.0) * u.Mpc,
        }
    )
    when = pd.Timestamp((frame["jd"].min() - 2 - 2440587.5) * 86400, unit="s").isoformat()
    table.meta = {"DATE-OBS": when, "OBJECT": "S1"}
    stream = io.BytesIO()
    table.write(stream, format="fits")
    return stream.getvalue()


def cell_of(frame: pd.DataFrame) -> np.ndarray:
    lon, lat = (frame[name].to_numpy() * u.deg for name in ("ra", "dec"))
    return np.asarray(lonlat_to_healpix(lon, lat, ORDER), np.int64)


def expected(sky: Sky) -> dict[str, set[int]]:
    """The candids of each channel, worked out another way."""
    frame, places = sky.frame, sky.places
    real = frame["rb"] > 0.3
    stars = pd.read_parquet(Store(sky.root).folder("stars") / "stars" / "dataset")
    where, apart, _ = places.match_to_catalog_sky(SkyCoord(stars["ra"], stars["dec"], unit="deg"))
    mag = stars["mag"].to_numpy()[where]
    middle = crowd(frame)
    inside = places.separation(SkyCoord(middle["ra"], middle["dec"], unit="deg")) < 20 * u.arcmin
    table = Table.read(io.BytesIO(sky_map(frame)), format="fits")
    share = np.asarray(table["PROBDENSITY"]) * 4 * np.pi / len(table)
    order = np.argsort(-share, kind="stable")
    level = np.empty(len(share))
    level[order] = np.cumsum(share[order])
    own = cell_of(frame)
    near = np.asarray(table["DISTMU"])[own] < 100
    ecliptic = places.transform_to(BarycentricMeanEcliptic(equinox="J2000")).lat.deg
    masks = {
        "catalogue": (apart.arcsec < 1.5) & (mag != -999) & (mag < 20) & real,
        "lonely": (apart.arcsec > 3) & real,
        "region": inside & real,
        "objects": frame["objectId"].isin(sorted(set(frame["objectId"]))[::4][6:]) & real,
        "skymap": (level[own] <= 0.9) & near,
        "latitude": (np.abs(places.galactic.b.deg) > 20) & (ecliptic > 0),
    }
    return {name: set(frame["candid"][np.asarray(mask)]) for name, mask in masks.items()}


def apart(sky: Sky) -> np.ndarray:
    """arcsec to the nearest star, by astropy."""
    stars = pd.read_parquet(Store(sky.root).folder("stars") / "stars" / "dataset")
    return sky.places.match_to_catalog_sky(SkyCoord(stars["ra"], stars["dec"], unit="deg"))[1].arcsec


def configured(folder: Path, sky: Sky, channels: dict[str, str]) -> None:
    lines = [f'external = "{sky.root}"', "[dispatch]", "messages = 100"]
    for name, where in channels.items():
        lines += [f"[channels.{name}]", f'where = "{where}"']
        if name == "catalogue":
            lines += ['values = ["stars.sep", "stars.mag"]']
    if channels is CHANNELS:
        (folder / "mine.py").write_text(PYTHON)
        lines += ["[channels.python]", 'filter = "mine.py:near"']
    (folder / "zads.toml").write_text("\n".join(lines))


@dataclass(frozen=True)
class Lived:
    """What was delivered, by channel: candids, and the header that says which versions were read."""

    candids: dict[str, list[int]]
    headers: dict[str, set[str | None]]
    archive: Archive
    values: dict[str, dict[int, dict[str, object]]]
    python: Filter


@pytest.fixture(scope="module")
def lived(sky: Sky, tmp_path_factory: pytest.TempPathFactory) -> Lived:
    folder = tmp_path_factory.mktemp("lived")
    configured(folder, sky, CHANNELS)
    with Broker() as broker:
        servers = broker.bootstrap_servers
        publish_packets(packets(), servers, topic="night", partitions=3)
        with running(servers, folder, "--topics", "^night$", "--until-drained") as run:
            assert run.wait() == 0, run.text()
        names = [*CHANNELS, "python"]
        every = {name: list(listen(f"channel.{name}", servers, until_drained=True)) for name in names}
        Follower(Appender(str(folder / "archive")), "^night$", servers, "archive").run(until_drained=True)
    return Lived(
        {name: [alert.candid for alert in alerts] for name, alerts in every.items()},
        {name: {alert.headers.get("external") for alert in alerts} for name, alerts in every.items()},
        Archive(folder / "archive"),
        {name: {alert.candid: alert.values for alert in alerts} for name, alerts in every.items()},
        load(f"{folder / 'mine.py'}:near"),
    )


@pytest.mark.parametrize("name", CHANNELS)
def test_live(lived: Lived, sky: Sky, name: str) -> None:
    wanted = expected(sky)[name]
    assert 10 < len(wanted) < len(sky.frame) - 10, f"{len(wanted)}: the test would prove little"
    assert sorted(lived.candids[name]) == sorted(wanted)


@pytest.mark.parametrize("name", CHANNELS)
def test_replay_and_a_notebook_give_the_same(
    lived: Lived, sky: Sky, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = expression(CHANNELS[name])
    again = replay(chosen, lived.archive, public=True, externals=Externals(sky.root))
    assert sorted(again.of(0)["candid"]) == sorted(lived.candids[name])
    monkeypatch.setenv("ZADS_EXTERNAL", str(sky.root))
    frame = to_frame(PacketReader(stored_columns(chosen.reads)).read(packets()).table, chosen.reads)
    assert sorted(frame["candid"][chosen.passes(frame)]) == sorted(lived.candids[name])
    lazy = lived.archive.alerts(columns=chosen.reads)
    assert sorted(lazy["candid"][chosen.on(lazy)].compute()) == sorted(lived.candids[name])


@pytest.mark.parametrize("named", ["here", "elsewhere"])
def test_every_command_looks_in_the_folder_of_the_configuration(
    lived: Lived, sky: Sky, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    """In that of zads.toml of this folder, or of --config; the answers are those of the stream."""
    configured(tmp_path, sky, {"catalogue": CHANNELS["catalogue"]})
    config = [] if named == "here" else ["--config", str(tmp_path / "zads.toml")]
    monkeypatch.chdir(tmp_path if named == "here" else tmp_path.parent)
    monkeypatch.delenv("ZADS_EXTERNAL", raising=False)
    monkeypatch.setenv("ZADS_HOME", str(tmp_path / "home"))
    archive = lived.archive.path

    def zads(*arguments: str) -> str:
        done = CliRunner().invoke(application(), list(arguments), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    where, wanted = CHANNELS["catalogue"], sorted(lived.candids["catalogue"])
    found = json.loads(zads("replay", where, "--archive", archive, "--json", *config))
    assert sorted(one["candid"] for one in found["matches"]) == wanted
    if named == "here":
        (told,) = json.loads(zads("explain", where, str(wanted[0]), "--archive", archive, "--json"))
        assert told["passes"]
        assert "stars.sep" in zads("columns", "stars[.]sep")
        (tmp_path / "mine.py").write_text(PYTHON)
        assert "same answer" in zads("filter", "check", "mine.py:near", "--alerts", "60")
    assert default_root() == tmp_path / "home" / "external"
    with pytest.raises(ChannelError, match="stars"), kept_in(tmp_path / "home"):
        Definition(name="c", filter="rb > 0.5", values=("stars.sep",)).completed()
    with kept_in(sky.root):
        assert Definition(name="c", filter="rb > 0.5", values=("stars.sep",)).completed().version


def test_values_travel_and_replay_finds_the_same(lived: Lived, sky: Sky) -> None:
    separations = apart(sky)
    by_candid = dict(zip(sky.frame["candid"], separations, strict=True))
    for candid, values in lived.values["catalogue"].items():
        assert values["stars.sep"] == pytest.approx(by_candid[candid], abs=1e-6)
        assert values["stars.mag"] in (18.0, 19.0)
    python = lived.values["python"]
    assert set(python) == {candid for candid, sep in by_candid.items() if sep < 2.5}
    again = replay(lived.python, lived.archive, public=True, externals=Externals(sky.root)).of(0)
    assert len(again) == len(python)
    for row in again.to_dict("records"):
        assert row["near"] == python[row["candid"]]["near"] == pytest.approx(1 / (1 + row["stars.sep"]))
        assert row["how"] == python[row["candid"]]["how"] == str(row["rb"])


def test_the_headers_say_which_versions_were_read(lived: Lived, sky: Sky) -> None:
    store = Store(sky.root)
    assert lived.headers["catalogue"] == {json.dumps({"stars": store.current("stars")})}
    assert lived.headers["region"] == {json.dumps({"spot": store.current("spot")})}
    assert lived.headers["latitude"] == {None}


def test_a_region_that_changes_while_the_stream_runs(sky: Sky, tmp_path: Path, own_broker: Broker) -> None:
    """Each alert is judged by one version, named in its header; a new one takes effect within seconds."""
    servers, raws = own_broker.bootstrap_servers, packets()
    middle = crowd(sky.frame)
    centre = f"{middle['ra']} {middle['dec']}"
    old = add_region("patch", f"cone {centre} 15 arcmin", sky.root)
    configured(tmp_path, sky, {"patch": "patch.inside and rb > 0.3"})
    half = len(raws) // 2
    publish_packets(raws[:half], servers, topic="night", partitions=2)
    with running(servers, tmp_path, "--topics", "^night$") as run:
        run.until(lambda: in_topic(servers) > 0, "the first alerts")
        time.sleep(2)
        before = in_topic(servers)
        new = add_region("patch", f"cone {centre} 40 arcmin", sky.root)
        run.until(lambda: new in run.text(), "the new region in the log", 30)
        publish_packets(raws[half:], servers, topic="night", partitions=2)
        run.until(lambda: in_topic(servers) > before, "alerts of the second half")
        time.sleep(3)
        run.process.terminate()
        assert run.wait() == 0, run.text()
    alerts = list(listen("channel.patch", servers, until_drained=True))
    versions = {alert.candid: json.loads(alert.headers["external"])["patch"] for alert in alerts}
    apart = sky.places.separation(SkyCoord(middle["ra"], middle["dec"], unit="deg")).arcmin
    first = np.arange(len(apart)) < half
    wanted = np.where(first, apart < 15, apart < 40) & (sky.frame["rb"] > 0.3)
    assert sorted(versions) == sorted(sky.frame["candid"][wanted])
    by_candid = dict(zip(sky.frame["candid"], first, strict=True))
    assert all(version == (old if by_candid[candid] else new) for candid, version in versions.items())


def in_topic(servers: str) -> int:
    try:
        return sum(1 for _ in listen("channel.patch", servers, until_drained=True))
    except Exception:
        return 0


def test_what_is_not_there_is_said_by_channel(sky: Sky, tmp_path: Path, own_broker: Broker) -> None:
    publish_packets(packets()[:5], own_broker.bootstrap_servers, topic="night")
    configured(tmp_path, sky, {"typo": "starz.sep < 2"})
    with running(own_broker.bootstrap_servers, tmp_path, "--topics", "^night$", "--until-drained") as run:
        assert run.wait() != 0
        assert "typo" in run.text()
        assert "no catalogue, region or sky map 'starz'" in run.text().replace("\n", " ")
        assert "Traceback" not in run.text()
