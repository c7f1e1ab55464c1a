"""Blocks: each beside a reading of its definition, in filters and in expressions alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from filters import expression
from filters.blocks import blocks_of
from filters.errors import FilterError
from schemas.errors import ZadsError
from schemas.frame import frame_maker
from schemas.surveys.registry import SURVEYS
from tests.filters.oracle import compare, value
from tests.filters.packets import PHASES, packets
from tests.filters.test_features import rise_rate
from tests.test_docs import ROOT

Packet = dict[str, Any]


def star(packet: Packet, radius: float = 1.5, sgscore: float = 0.5) -> bool:
    return ps1_source(packet, radius) and compare(value(packet, "sgscore1"), lambda x: x >= sgscore)


def ps1_source(packet: Packet, radius: float = 1.5) -> bool:
    return compare(value(packet, "distpsnr1"), lambda x: x <= radius)


def known_object(packet: Packet, radius: float = 5) -> bool:
    return compare(value(packet, "ssdistnr"), lambda x: 0 <= x <= radius)


def rising(packet: Packet, rate: float = 0) -> bool:
    found = rise_rate(packet)
    return found is not None and found > rate


def field(name: str, test: Callable[[Any], bool]) -> Callable[[Packet], bool]:
    return lambda packet: compare(value(packet, name), test)


CLEAN = field("nbad", lambda x: x == 0)
SHARP = field("fwhm", lambda x: x <= 5)
ROUND = field("elong", lambda x: x <= 1.2)
AGREE = field("magdiff", lambda x: abs(x) <= 0.1)

SLOWLY: dict[str, Callable[[Packet], bool]] = {
    "real()": field("rb", lambda x: x >= 0.65),
    "real(rb_min=0.3)": field("rb", lambda x: x >= 0.3),
    "clean()": CLEAN,
    "sharp()": SHARP,
    "round_shape()": ROUND,
    "magnitudes_agree()": AGREE,
    "good_quality()": lambda p: CLEAN(p) and SHARP(p) and ROUND(p) and AGREE(p),
    "ps1_source(radius=1)": lambda p: ps1_source(p, 1),
    "hostless()": lambda p: not ps1_source(p, 5),
    "star()": star,
    "not star(radius=1, sgscore=0.9)": lambda p: not star(p, 1, 0.9),
    "known_object()": known_object,
    "known_object(radius={near: 2})": lambda p: known_object(p, 2),
    "rising()": rising,
    "rising(rate=0.1) or star()": lambda p: rising(p, 0.1) or star(p),
}


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(packets)
def test_each_block_says_what_its_definition_says(batch: list[Packet]) -> None:
    for text, slowly in SLOWLY.items():
        f = expression(text, "ztf")
        frame = frame_maker(f.require_reads(), "ztf").of_packets(batch)
        assert f.passes(frame).tolist() == [slowly(packet) for packet in batch], text


def test_every_block_of_ztf_has_a_second_reading() -> None:
    told = " ".join(SLOWLY)
    assert all(f"{name}(" in told for name in blocks_of("ztf"))


@pytest.mark.parametrize("survey", SURVEYS)
def test_a_block_reads_what_it_declares_and_no_more(survey: str) -> None:
    for name, block in blocks_of(survey).items():
        f = expression(f"{name}()", survey)
        frame = frame_maker(f.require_reads(), survey).of_packets([])
        assert f.passes(frame).tolist() == []
        for column in block.reads:
            with pytest.raises((ZadsError, KeyError)):
                block.function(frame.drop(columns=column))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("star(1)", "by name"),
        ("star(size=1)", "radius=1.5, sgscore=0.5"),
        ("star(radius=rb)", "radius is a number"),
        ("good_quality(radius=1)", "takes nothing"),
        ("strar()", "star"),
    ],
)
def test_a_wrong_use_is_told_in_a_sentence(wrong: str, words: str) -> None:
    with pytest.raises(FilterError, match=words):
        expression(wrong, "ztf")


def test_a_parameter_of_a_block_is_one_of_the_expression() -> None:
    f = expression("known_object(radius={near: 2}) and star(radius=near)", "ztf")
    assert f.parameters["near"].default == 2
    assert f.using(near=3).values == {"near": 3}


def test_every_block_is_on_the_page() -> None:
    page = (ROOT / "docs" / "expressions.md").read_text()
    for survey in SURVEYS:
        for name in blocks_of(survey):
            assert f"`{name}(" in page, name
