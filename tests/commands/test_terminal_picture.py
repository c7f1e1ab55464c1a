"""Alerts in a terminal: what is printed is what the packet holds, at every width and without colours."""

import io
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from schemas.packets.packet import read_packet, stamp
from schemas.pictures.figure import stretch
from schemas.pictures.light_curve import CannotDraw
from schemas.pictures.terminal import print_picture, round_steps, shrink


@pytest.fixture(scope="module")
def packet(real_alerts):
    return read_packet(real_alerts / "ztf_4.01" / "2475433850015010009.avro")[0]


@pytest.fixture
def sparse():
    """Three epochs far apart, so that no letter hides another, and no stamps."""
    row = {"fid": 1, "magpsf": None, "isdiffpos": None, "diffmaglim": 21.0}
    return {
        "objectId": "ZTF20abc",
        "candidate": row | {"candid": 7, "jd": 2459000.5, "magpsf": 18.0, "isdiffpos": "t"},
        "prv_candidates": [
            row | {"jd": 2458980.5},
            row | {"jd": 2458985.5, "magpsf": 19.0, "isdiffpos": "f", "fid": 2},
            row | {"jd": 2458990.5, "magpsf": 20.0, "isdiffpos": "t"},
        ],
    }


def printed(packet, width=100, encoding="utf-8", **console):
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    print_picture(packet, Console(file=file, width=width, **console))
    file.flush()
    return raw.getvalue().decode(encoding)


def test_every_epoch_is_in_the_light_curve(sparse):
    plot = [line[: line.rindex("│")] for line in printed(sparse).split("\n") if "│" in line]
    found = Counter("".join(plot))
    assert [found[symbol] for symbol in "gRGr▾*"] == [1, 1, 0, 0, 1, 1]
    rows = {symbol: next(n for n, line in enumerate(plot) if symbol in line) for symbol in "*Rg▾"}
    assert sorted(rows, key=rows.get) == ["*", "R", "g", "▾"]  # bright is up
    columns = {symbol: plot[row].index(symbol) for symbol, row in rows.items()}
    assert sorted(columns, key=columns.get) == ["▾", "R", "g", "*"]  # time runs to the right


@pytest.mark.parametrize("width", [20, 40, 66, 80, 100, 200])
@pytest.mark.parametrize(
    "colours", [{"color_system": None}, {"force_terminal": True, "color_system": "truecolor"}]
)
def test_it_fits_the_terminal_and_a_hundred_columns(packet, width, colours):
    lines = Text.from_ansi(printed(packet, width, **colours)).plain.split("\n")
    assert max(len(line.rstrip()) for line in lines) <= min(width, 100)


def test_a_pipe_gets_no_colours_and_an_ascii_terminal_ascii(packet):
    assert "\x1b" not in printed(packet)
    assert printed(packet, encoding="ascii").isascii()


def test_half_blocks_show_the_stretched_stamp(packet):
    """The grey of each pixel is the mean of three by three of the stretched image, the first row on top."""
    raw = io.StringIO()
    console = Console(file=raw, width=100, force_terminal=True, color_system="truecolor")
    print_picture(packet, console)
    segments = [s for line in console.render_lines(Text.from_ansi(raw.getvalue()), pad=False) for s in line]
    blocks = [s.style for s in segments for letter in s.text if letter == "▀"]
    top = [style.color.triplet.red for style in blocks[:21]]
    science = stretch(stamp(packet, "Science"))[:3].reshape(3, 21, 3).mean(axis=(0, 2))
    np.testing.assert_allclose(top, science * 255, atol=0.51)


def test_a_missing_stamp_is_said_so(sparse):
    assert printed(sparse).count("no stamp") == 3


def test_what_is_no_alert_is_refused():
    with pytest.raises(CannotDraw):
        print_picture([], Console())
    with pytest.raises(CannotDraw, match="candidate"):
        print_picture({"diaSource": {}}, Console())


def test_an_alert_without_any_magnitude_is_printed():
    assert "no magnitude" in printed({"candidate": {"jd": 2459000.5}})


@settings(deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 30))
def test_shrinking_keeps_the_mean_and_fits(rows, columns, side):
    image = np.random.default_rng(rows * columns).random((rows, columns))
    small = shrink(image, side)
    assert max(small.shape) <= side
    block = -(-max(rows, columns) // side)
    assert small[0, 0] == pytest.approx(image[:block, :block].mean())
    assert small[-1, -1] == pytest.approx(
        image[(small.shape[0] - 1) * block :, (small.shape[1] - 1) * block :].mean()
    )


@settings(deadline=None)
@given(st.floats(-50, 50), st.floats(0.01, 1e5), st.integers(2, 9))
def test_ticks_are_round_inside_and_few(low, span, most):
    steps = list(round_steps(low, low + span, most))
    assert 1 <= len(steps) <= most
    assert all(low - 1e-9 <= step <= low + span + 1e-9 for step in steps)
