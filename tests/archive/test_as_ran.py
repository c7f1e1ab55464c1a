"""A replay as the channel ran: which parameters were in force where, and the matches that follow."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from archive.replay.as_ran import Span, as_ran
from filters.errors import FilterError
from pipeline.clients.in_force import InForce, exposures_of, spans_of


def applied(partition: int, offset: int, *channels: tuple[str, float]) -> dict[str, Any]:
    told = [{"name": name, "version": "v", "parameters": {"rb_min": value}} for name, value in channels]
    return {"topic": "night", "partition": partition, "offset": offset, "channels": told}


def test_the_last_of_several_sets_at_an_offset_counts() -> None:
    told = [
        applied(0, 0, ("other", 0.1)),
        applied(0, 10, ("bright", 0.3)),
        applied(1, 0, ("bright", 0.3)),
        applied(0, 20, ("bright", 0.5)),
        applied(0, 20, ("bright", 0.8), ("other", 0.1)),
        applied(0, 30, ("other", 0.1)),
    ]
    assert spans_of(told, "bright") == [
        InForce("night", 0, 0, 10, "", {}),
        InForce("night", 0, 10, 20, "v", {"rb_min": 0.3}),
        InForce("night", 0, 20, 30, "v", {"rb_min": 0.8}),
        InForce("night", 0, 30, None, "", {}),
        InForce("night", 1, 0, None, "v", {"rb_min": 0.3}),
    ]
    assert spans_of(told, "nobody") == []


def test_each_record_keeps_the_verdict_of_its_own_parameters() -> None:
    rows = [(0, offset, variant) for offset in range(6) for variant in (0, 1)] + [(1, 0, 0), (1, 0, 1)]
    matches = pd.DataFrame(rows, columns=["_partition", "_offset", "variant"]).assign(
        _topic="night", _file=None
    )
    spans = [
        Span("night", 0, 0, 2, 0),
        Span("night", 0, 2, 4, None),
        Span("night", 0, 4, None, 1),
        Span("night", 1, 0, None, 1),
        Span("another", 1, 0, None, 0),
    ]
    kept = as_ran(matches, spans)[["_partition", "_offset", "variant"]].to_numpy().tolist()
    assert kept == [[0, 0, 0], [0, 1, 0], [0, 4, 1], [0, 5, 1], [1, 0, 1]]
    with pytest.raises(FilterError, match="records"):
        as_ran(matches.drop(columns="_offset"), spans)


def test_the_versions_of_catalogues_and_maps_that_were_read() -> None:
    told = [
        applied(0, 0, ("near", 0.3)) | {"external": {"galex": "a"}},
        applied(0, 5, ("near", 0.3)) | {"external": {"galex": "b"}},
    ]
    assert [one.external for one in spans_of(told, "near")] == [{"galex": "a"}, {"galex": "b"}]


def test_what_was_judged_together_and_what_came_late() -> None:
    described = {"name": "calm", "version": "v", "parameters": {"most": 10}}
    meaning = [
        applied(0, 0, ("other", 0.1)),
        {"exposures": True, "version": "1", "channels": [described]},
        {"exposures": True, "version": "2", "channels": [{**described, "parameters": {"most": 5}}]},
        {"exposures": True, "version": "off", "channels": []},
    ]

    def closing(exposure: int, reason: str, version: str, **offsets: list[int]) -> dict[str, Any]:
        places = {name[1:]: some for name, some in offsets.items()}
        key = {"topic": "night", "survey": "ztf", "exposure": exposure}
        return {**key, "offsets": places, "reason": reason, "version": version, "external": {}}

    told = [
        closing(7, "passed", "1", p0=[0, 1, 3], p1=[0]),
        closing(8, "passed", "1", p0=[2]),
        closing(9, "passed", "off", p0=[4]),
        closing(7, "late", "2", p0=[5]),
        closing(7, "late", "2", p1=[1]),
    ]
    first, second = {"most": 10}, {"most": 5}
    assert exposures_of(meaning, told, "calm") == [
        InForce("night", 0, 0, 4, "v", first),
        InForce("night", 0, 4, 5, "", {}),
        InForce("night", 0, 5, 6, "v", second, {}, 1, ((0, 0), (0, 1), (0, 3), (1, 0))),
        InForce("night", 1, 0, 1, "v", first),
        InForce("night", 1, 1, 2, "v", second, {}, 2, ((0, 0), (0, 1), (0, 3), (1, 0), (0, 5))),
    ]
    assert exposures_of(meaning, told, "nobody") == []
    assert spans_of(meaning, "calm") == []
