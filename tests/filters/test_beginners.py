"""What somebody who writes a first filter is told."""

from __future__ import annotations

from pathlib import Path

import astropy.units as u
import pytest
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st

from archive.read.cones import BadCone, cone_of
from filters import load
from filters.errors import BadFile, FilterError, UnknownFilter
from filters.view import NotDeclared, NotOneTruth
from pipeline.channels.definition import ChannelError, Definition, by_value
from schemas.errors import NoSuchColumn, near_names
from schemas.packets.packet import read_packet
from schemas.surveys.registry import SURVEYS
from simulator import simulate

HEAD = "from zads import alert_filter, history\n"
GOOD = (
    "@alert_filter(survey='ztf', reads=['rb'])\ndef good(alerts):\n    return {'real': alerts['rb'] > 0.5}\n"
)


def written(folder: Path, *parts: str) -> Path:
    file = folder / "mine.py"
    file.write_text(HEAD + "".join(parts))
    return file


def filter_of(expression: str, reads: str = "['rb', 'nbad']") -> str:
    return f"@alert_filter(survey='ztf', reads={reads})\ndef f(alerts):\n    return {{'cut': {expression}}}\n"


@pytest.fixture(scope="module")
def packet() -> dict:
    return read_packet(next(simulate(1, seed=3, stamps=False)).packet)[0]


@pytest.mark.parametrize(
    "expression",
    [
        "alerts['rb'] > 0.5 and alerts['nbad'] == 0",
        "alerts['rb'] > 0.5 or alerts['nbad'] == 0",
        "not (alerts['rb'] > 0.5)",
        "alerts['rb'] if alerts['nbad'] == 0 else alerts['rb'] > 1",
        "0.5 < alerts['rb'] < 0.7",
    ],
)
def test_and_or_not_if_name_what_to_write(tmp_path: Path, packet: dict, expression: str) -> None:
    f = load(f"{written(tmp_path, filter_of(expression))}:f")
    with pytest.raises(NotOneTruth, match="neither true nor false") as told:
        f.one(packet)
    assert "write & for `and`" in str(told.value.hint)
    with pytest.raises(ChannelError, match="fails on a batch without alerts") as refused:
        Definition(name="c", **by_value(f"{tmp_path / 'mine.py'}:f")).with_changes()
    assert "&" in str(refused.value.hint)


def test_an_undeclared_column_is_to_be_added_to_reads(tmp_path: Path, packet: dict) -> None:
    f = load(f"{written(tmp_path, filter_of('''alerts['magpsf'] < 19'''))}:f")
    with pytest.raises(NotDeclared, match="add it to reads") as told:
        f.one(packet)
    assert "'magpsf'" in str(told.value.hint)
    f = load(f"{written(tmp_path, filter_of('''alerts['magpfs'] < 19'''))}:f")
    with pytest.raises(NoSuchColumn, match="no column 'magpfs'"):
        f.one(packet)


def test_one_bad_function_does_not_take_the_others_with_it(tmp_path: Path, packet: dict) -> None:
    bad = filter_of("alerts['rb'] > 0.5", "['magpfs']").replace("def f(", "def bad(")
    worse = "@alert_filter(survey='ztf', reads=['rb'])\ndef worse(alerts, gap=3):\n    return {}\n"
    file = written(tmp_path, bad, GOOD, worse)
    assert load(f"{file}:good").one(packet) is not None
    assert load(str(file)).name == "good"
    with pytest.raises(
        NoSuchColumn, match=r"mine\.py, line 2, bad: no column 'magpfs'; did you mean 'magpsf'"
    ):
        load(f"{file}:bad")
    with pytest.raises(FilterError, match=r"mine\.py, line 8, worse: .*gap must come after \*"):
        load(f"{file}:worse")
    with pytest.raises(UnknownFilter, match="good"):
        load(f"{file}:goood")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("x = 1\nfoo(x)\n", r"mine\.py, line 3: NameError: name 'foo'"),
        ("def f(:\n", r"mine\.py, line 2: SyntaxError"),
        ("import nothing_like_it\n", r"mine\.py, line 2: ModuleNotFoundError"),
        ("def g():\n    return 1 / 0\ng()\n", r"mine\.py, line 3: ZeroDivisionError"),
    ],
)
def test_what_a_file_raises_has_its_line(tmp_path: Path, code: str, words: str) -> None:
    with pytest.raises(BadFile, match=words):
        load(f"{written(tmp_path, code)}:f")


def test_did_you_mean_is_what_people_mean() -> None:
    known = SURVEYS["ztf"].names()
    for wrote, meant in (("magnitude", "mag"), ("time", "jd"), ("filter", "band"), ("realbogus", "rb")):
        assert near_names(wrote, known).startswith(f"did you mean '{meant}'")
    assert "magpsf" in near_names("mag", [name for name in known if name != "mag"])


@settings(deadline=None, max_examples=60)
@given(ra=st.floats(0, 359.99), dec=st.floats(-89, 89), radius=st.floats(0.1, 3600))
def test_cones_in_every_common_form(ra: float, dec: float, radius: float) -> None:
    """One place, however it is spelled, in Python and on the command line; sexagesimal as astropy has it."""
    place = SkyCoord(ra, dec, unit="deg")
    colons = place.to_string("hmsdms", sep=":", precision=5)
    letters = place.to_string("hmsdms", precision=5)
    forms = [
        (ra, dec, radius / 3600),
        (ra, dec, f"{radius!r} arcsec"),
        (place, radius * u.arcsec),
        (colons, f"{radius!r}arcsec"),
        f"{ra!r} {dec!r} {radius!r}arcsec",
        f"{ra!r}, {dec!r}, {radius / 60!r} arcmin",
        f"{colons} {radius!r}″",
        f"{letters} {radius!r} arcsec",
        f"{ra!r} {dec!r} {radius / 3600!r}",
    ]
    for form in forms:
        cone = cone_of(form)
        assert SkyCoord(cone.ra, cone.dec, unit="deg").separation(place).arcsec < 0.001, form
        assert cone.radius == pytest.approx(radius / 3600, rel=1e-9)


@pytest.mark.parametrize(
    "wrong", ["10 20", "10 95 1", "a b c", "10 20 1parsec", (1, 2), "", None, "10 20 -1"]
)
def test_what_is_no_cone(wrong: object) -> None:
    with pytest.raises(BadCone):
        cone_of(wrong)
