"""docs/gallery.md says what the filters of today do to the simulated sky, and shows it."""

import re
from pathlib import Path

import pytest

from commands.filter.gallery import ALERTS, Sky, example_of, page_of
from filters import registered

PAGE = Path(__file__).resolve().parent.parent / "docs" / "gallery.md"
_NUMBER = re.compile(r"\d[\d,]*")
AGAIN = "make it anew: zads filters --gallery docs/gallery.md"


@pytest.fixture(scope="module")
def skies() -> list[Sky]:
    return [Sky.of(survey) for survey in ALERTS]


def test_the_page_is_that_of_the_filters_of_today(skies: list[Sky]) -> None:
    """Word for word; counts may differ by two: another processor rounds the simulated sky in its own way."""
    shown, now = PAGE.read_text(), page_of(skies)
    assert _NUMBER.sub("#", shown) == _NUMBER.sub("#", now), AGAIN
    pairs = zip(*(map(_whole, _NUMBER.findall(text)) for text in (shown, now)), strict=True)
    assert [pair for pair in pairs if abs(pair[0] - pair[1]) > 2] == [], AGAIN


def _whole(number: str) -> int:
    return int(number.replace(",", "") or 0)


def test_each_filter_that_finds_something_has_a_picture_and_no_other(skies: list[Sky]) -> None:
    found = {f.name for sky in skies for f in registered(sky.survey).values() if example_of(f, sky)}
    pictures = {path.stem: path.read_bytes() for path in PAGE.with_suffix("").iterdir()}
    assert pictures.keys() == found, AGAIN
    assert {raw[:8] for raw in pictures.values()} == {b"\x89PNG\r\n\x1a\n"}
    assert len(found) > 20
