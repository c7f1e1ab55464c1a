"""Pictures of alerts against the packets themselves, read by fastavro and counted another way."""

import subprocess
import sys
from itertools import combinations, count, product
from pathlib import Path
from types import SimpleNamespace

import fastavro
import numpy as np
import pandas as pd
import pytest
from astropy.time import Time
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from schemas.errors import PacketError
from schemas.packets.packet import stamp
from schemas.pictures.figure import packets_of, save_picture, show, stamp_of, stretch
from schemas.pictures.light_curve import BANDS, CannotDraw, light_curve, utc
from simulator import simulate

FOLDERS = ["ztf_3.2", "ztf_3.3", "ztf_4.01", "ztf_4.02_spark", "ztf_snappy"]


def read(path):
    with open(path, "rb") as file:
        return list(fastavro.reader(file))


@pytest.fixture(scope="module")
def packets(real_alerts):
    return [
        packet
        for folder in FOLDERS
        for path in sorted((real_alerts / folder).iterdir())
        for packet in read(path)
    ]


@pytest.fixture
def one():
    """A packet with every kind of epoch; no stamps."""
    row = {"fid": 1, "magpsf": None, "sigmapsf": None, "isdiffpos": None, "diffmaglim": 20.5}
    return {
        "objectId": "ZTF20abc",
        "candid": 7,
        "candidate": row
        | {"jd": 2459000.5, "fid": 2, "magpsf": 18.0, "sigmapsf": 0.1, "isdiffpos": "t", "rb": 0.9},
        "prv_candidates": [
            row | {"jd": 2458990.5},
            row | {"jd": 2458991.5, "magpsf": 19.0, "sigmapsf": 0.2, "isdiffpos": "t"},
            row | {"jd": 2458992.5, "magpsf": 19.5, "sigmapsf": 0.3, "isdiffpos": "f", "fid": 2},
            row | {"jd": 2458993.5, "magpsf": 19.2, "sigmapsf": None, "isdiffpos": "1", "fid": 3},
            row | {"jd": 2459000.5, "magpsf": 18.1, "isdiffpos": "t"},  # not past
            row | {"jd": 2458994.5, "diffmaglim": None},  # nothing to draw
        ],
    }


def drawn(axes):
    """What a light curve shows: label -> list of (days, magnitude)."""
    shown = {box.get_label(): box.lines[0].get_xydata() for box in axes.containers}
    shown |= {
        line.get_label(): line.get_xydata() for line in axes.lines if not line.get_label().startswith("_")
    }
    return {label: sorted(map(tuple, points)) for label, points in shown.items()}


def measured(packet):
    """Forced photometry by `pid`: usable, before the alert, of at least three times its error."""
    return {
        row["pid"]: row
        for row in packet.get("fp_hists") or []
        if row["jd"] < packet["candidate"]["jd"]
        and row["procstatus"] == "0"
        and row["forcediffimflux"] > -99998
        and abs(row["forcediffimflux"]) >= 3 * row["forcediffimfluxunc"] > 0
    }


def counted(packet):
    """The same numbers, by `candid` and `isdiffpos`, which detections have and non-detections lack."""
    rows = [row for row in packet["prv_candidates"] or [] if row["jd"] < packet["candidate"]["jd"]]
    forced = measured(packet)
    tally = {}
    pids = {row["pid"] for row in rows}
    rows += [row | {"candid": None} for pid, row in forced.items() if pid not in pids]
    for row in [*rows, packet["candidate"]]:
        band = {1: "g", 2: "r", 3: "i"}[row["fid"]]
        if row["candid"] is None and row["pid"] in forced:
            positive = forced[row["pid"]]["forcediffimflux"] > 0
            kind = f"forced {'positive' if positive else 'negative'}"
        elif row["candid"] is None:
            kind = "limits"
        else:
            kind = "positive" if row["isdiffpos"] in ("t", "1") else "negative"
        tally[f"{band} {kind}"] = tally.get(f"{band} {kind}", 0) + 1
    return tally


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_each_light_curve_has_the_points_that_its_packet_has(packets):
    chosen = packets[::9]
    figure = show(chosen, limit=len(chosen))
    assert len(figure.axes) == 4 * len(chosen)
    for packet, axes in zip(chosen, figure.axes[::4], strict=True):
        shown = {label: len(points) for label, points in drawn(axes).items()}
        assert shown.pop("this alert") == 1
        assert shown == counted(packet)
        assert packet["objectId"] in axes.get_title(loc="left")
        words = " ".join(texts(axes))
        assert str(packet["candidate"]["candid"]) in words
        assert Time(packet["candidate"]["jd"], format="jd").strftime("%Y-%m-%d %H:%M") in words


def test_forced_photometry_is_drawn_where_it_measured(packets):
    """An epoch of S/N 250 was once drawn as a limit: "nothing detected"."""
    told = [packet for packet in packets if measured(packet)]
    assert len(told) >= 8
    for packet in told:
        axes = show(packet).axes[0]
        shown = drawn(axes)
        points = sorted(p for label, some in shown.items() if "forced" in label for p in some)
        seen = {row["pid"] for row in packet["prv_candidates"] or [] if row["magpsf"] is not None}
        jd = packet["candidate"]["jd"]
        wanted = sorted(
            (jd - row["jd"], row["magzpsci"] - 2.5 * np.log10(abs(row["forcediffimflux"])))
            for pid, row in measured(packet).items()
            if pid not in seen
        )
        assert np.allclose(points, wanted)
        assert {label: len(p) for label, p in shown.items() if label != "this alert"} == counted(packet)


def test_the_legend_counts_points(packets):
    packet = next(packet for packet in packets if measured(packet))
    [legend] = show(packet).legends
    words = [text.get_text() for text in legend.get_texts()]
    for name in "gr":
        count = sum(n for label, n in counted(packet).items() if label[0] == name and "limits" not in label)
        assert not count or f"{name}: {count} point{'s' * (count != 1)}" in words, words
    assert any("north" in word or "N up, E left, 1.01″" in word for word in words)


def test_every_kind_of_epoch_is_told_apart(one):
    axes = show(one).axes[0]
    assert {k: [tuple(np.round(p, 4).tolist()) for p in v] for k, v in drawn(axes).items()} == {
        "g limits": [(10.0, 20.5)],
        "g positive": [(9.0, 19.0)],
        "r negative": [(8.0, 19.5)],
        "i positive": [(7.0, 19.2)],
        "r positive": [(0.0, 18.0)],
        "this alert": [(0.0, 18.0)],
    }
    faces = {box.get_label(): box.lines[0].get_markerfacecolor() for box in axes.containers}
    assert faces["r negative"] == "white"
    assert faces["r positive"] != "white"
    assert any("1 row at or after this alert" in text and "1 row without" in text for text in texts(axes))


def test_error_bars_are_as_long_as_the_errors(one):
    bars = {box.get_label(): box.lines[2][0].get_segments()[0] for box in show(one).axes[0].containers}
    assert np.ptp(bars["g positive"][:, 1]) == pytest.approx(0.4)
    assert np.ptp(bars["i positive"][:, 1]) == 0  # no error in the packet: no bar


def test_time_runs_right_bright_is_up_and_all_points_are_inside(packets):
    for packet in packets[::17]:
        axes = show(packet).axes[0]
        (past, future), (faint, bright) = axes.get_xlim(), axes.get_ylim()
        assert past > 0 > future
        assert faint > bright
        for days, magnitude in [point for points in drawn(axes).values() for point in points]:
            assert future < days < past
            assert bright < magnitude < faint


def test_no_row_is_lost(packets):
    for packet in packets:
        curve = light_curve(packet)
        rows = len(packet["prv_candidates"] or [])
        assert len(curve.past) - curve.added + curve.ignored + curve.incomplete == rows
        assert all(epoch.days > 0 for epoch in curve.past)


numbers = st.none() | st.floats(allow_nan=True, allow_infinity=True, width=32) | st.floats(2458000, 2460000)
rows = st.fixed_dictionaries(
    {},
    optional={
        "jd": numbers,
        "magpsf": numbers,
        "sigmapsf": numbers,
        "diffmaglim": numbers,
        "fid": st.none() | st.integers(0, 9),
        "isdiffpos": st.none() | st.sampled_from(["t", "f", "0", "1", "?"]),
    },
)


@settings(deadline=None)
@given(st.lists(rows, max_size=8), rows, st.floats(2458000, 2460000))
def test_whatever_is_missing_is_counted_and_nothing_else_is_drawn(history, candidate, jd):
    curve = light_curve({"candidate": candidate | {"jd": jd}, "prv_candidates": history})
    assert len(curve.past) + curve.ignored + curve.incomplete == len(history)
    assert all(np.isfinite([epoch.days, epoch.value]).all() for epoch in curve.epochs)


@settings(deadline=None)
@given(st.floats(2457760, 2461000))
def test_dates_agree_with_astropy(jd):
    said = Time(utc(jd).removesuffix(" UTC"), scale="utc")
    assert abs((said - Time(jd, format="jd", scale="utc")).sec) < 0.501


@pytest.mark.parametrize("jd", [None, float("nan"), 1e300, -1e9, "yesterday"])
def test_a_date_that_is_none_is_said_so(jd):
    assert utc(jd) in ("no date", f"JD {jd}")


def test_stamps_are_masked_where_there_are_no_data(packets):
    edges = [packet for packet in packets if not np.isfinite(stamp(packet, "Science")).all()][:4]
    edges += [packet for packet in packets if (stamp(packet, "Template") < -1e30).any()][:2]
    assert edges
    for packet in edges:
        for axes, name in zip(show(packet).axes[1:], ("Science", "Template", "Difference"), strict=True):
            pixels = stamp(packet, name)
            image = axes.images[0].get_array()
            assert image.shape == pixels.shape
            no_data = ~np.isfinite(pixels) | (pixels < -1e30)
            assert (np.ma.getmaskarray(image) == no_data[::-1]).all()


def test_the_difference_of_a_negative_subtraction_is_named_as_it_is(packets):
    """The survey turns it round: the candidate is bright in it, of whichever sign."""
    for packet in packets:
        pixels = stamp(packet, "Difference")
        assert np.nansum(pixels[29:34, 29:34] - np.nanmedian(pixels)) > 0
    negative = next(packet for packet in packets if packet["candidate"]["isdiffpos"] == "f")
    positive = next(packet for packet in packets if packet["candidate"]["isdiffpos"] == "t")
    assert show(negative).axes[3].get_xlabel() == "Template − Science"
    assert show(positive).axes[3].get_xlabel() == "Difference"


@pytest.mark.parametrize(
    ("cutout", "words"),
    [
        (None, "no stamp"),
        ({"fileName": "x", "stampData": b"\x1f\x8b broken"}, "unreadable"),
        ({"fileName": "x", "stampData": b""}, "unreadable"),
    ],
)
def test_a_stamp_that_is_not_there_is_said_so(one, cutout, words):
    one["cutoutScience"] = cutout
    axes = show(one).axes
    assert words in texts(axes[1])[0]
    assert texts(axes[2]) == ["no stamp"]
    assert not axes[1].images


images = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    elements=st.floats(-1e6, 1e6, width=32) | st.just(np.nan),
).filter(lambda image: np.isfinite(image).any())


@settings(deadline=None)
@given(images)
def test_stretch_keeps_order_range_and_missing_pixels(image):
    for symmetric in (False, True):
        levels = stretch(image, symmetric)
        there = np.isfinite(image)
        assert (np.isfinite(levels) == there).all()
        assert ((levels[there] >= 0) & (levels[there] <= 1)).all()
        assert (np.diff(levels[there][np.argsort(image[there])]) >= 0).all()


@settings(deadline=None)
@given(images)
def test_stretch_of_a_difference_turns_round_with_it(image):
    np.testing.assert_allclose(stretch(-image, symmetric=True), 1 - stretch(image, symmetric=True), atol=1e-6)


def test_whatever_holds_a_packet_can_be_shown(real_alerts, tmp_path):
    path = sorted((real_alerts / "ztf_4.01").iterdir())[0]
    raw, packet = path.read_bytes(), read(path)[0]
    forms = [
        packet,
        raw,
        memoryview(raw),
        path,
        str(path),
        SimpleNamespace(packet=lambda: packet),
        [packet],
        {"a": packet}.values(),
    ]
    assert [packets_of(form)[0]["candid"] for form in forms] == [packet["candid"]] * len(forms)
    assert len(show(forms[:3]).axes) == 12


def test_a_simulated_alert_can_be_shown():
    alerts = list(simulate(5, seed=1))
    assert len(show(alerts, limit=2).axes) == 8
    assert isinstance(stamp_of(packets_of(alerts[0])[0], "Science"), np.ndarray)


def test_an_endless_stream_is_read_no_further_than_needed(one):
    taken = count()
    assert len(show((one for _ in taken), limit=3).axes) == 12
    assert next(taken) == 3


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ([], "no alert to draw"),
        (7, "int"),
        ([None], "NoneType"),
        (pd.DataFrame({"candid": [1]}), "DataFrame"),
        ("no_such_file.avro", "no_such_file.avro"),
        ({"diaSource": {}}, "candidate"),
        ({"candidate": {"jd": None}}, "jd"),
    ],
)
def test_what_is_no_alert_is_refused_with_a_reason(given_, message):
    with pytest.raises(CannotDraw, match=message) as refused:
        show(given_)
    assert refused.value.hint


@pytest.mark.parametrize("raw", [b"", b"no packet at all", b"Obj\x01"])
def test_bytes_that_are_no_packet_are_refused(raw):
    with pytest.raises(PacketError):
        show(raw)


def test_a_limit_below_one_is_refused(one):
    with pytest.raises(CannotDraw, match="limit 0"):
        show(one, limit=0)


def test_pictures_are_saved_by_their_ending(one, tmp_path):
    assert save_picture(one, tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in save_picture(one, tmp_path / "a.svg").read_bytes()
    with pytest.raises(CannotDraw, match=r"\.png"):
        save_picture(one, tmp_path / "a.doc")
    with pytest.raises(CannotDraw, match="no folder"):
        save_picture(one, tmp_path / "nowhere" / "a.png")


def test_nothing_is_written_outside_the_figure(packets):
    figure = show(packets[:3])
    figure.canvas.draw()
    for axes in figure.axes:
        for text in [axes.title, *axes.texts]:
            inside = text.get_window_extent()
            assert figure.bbox.x0 <= inside.x0 <= inside.x1 <= figure.bbox.x1, text.get_text()


def test_matplotlib_comes_late_and_pyplot_never():
    code = """if True:
        import sys
        from schemas.pictures.figure import show
        assert "matplotlib" not in sys.modules
        picture = show({"candidate": {"jd": 2459000.5}})
        assert picture._repr_png_().startswith(b"\\x89PNG")
        assert "matplotlib.pyplot" not in sys.modules
    """
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# How protanopes and deuteranopes see linear RGB (Machado, Oliveira & Fernandes 2009, severity 1).
BLIND = {
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}


def lab(rgb):
    """CIE L*a*b* (D65) of linear RGB."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ np.clip(
        rgb, 0, 1
    )
    x, y, z = np.cbrt(xyz / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize(
    ("first", "second", "sight"), [(*pair, s) for pair, s in product(combinations(BANDS, 2), BLIND)]
)
def test_bands_differ_for_colour_blind_people_too(first, second, sight):
    def seen(fid):
        srgb = np.array([int(BANDS[fid].colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        return lab(
            np.array(BLIND[sight]) @ np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
        )

    assert np.linalg.norm(seen(first) - seen(second)) > 20  # 2.3 is a just noticeable difference
    assert BANDS[first].marker != BANDS[second].marker
