"""The law that makes live, replay and one-at-a-time the same, for every registered filter.

f(a ++ b) = f(a) ++ f(b), f(nothing) = nothing, the input is not changed, order and chunking do not matter.
One body, every way of running.
"""

from collections.abc import Callable
from typing import Annotated, Any

import dask
import dask.bag
import dask.dataframe
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from filters import Filter, alert_filter, expression, history, registered
from filters.external.externals import to_frame
from tests.filters.packets import PHASES, packets
from tests.frames import table_of_packets

Packets = list[dict[str, Any]]


@alert_filter(survey="ztf", reads=["rb", "magpsf", "prv_candidates.jd", "prv_candidates.magpsf"])
def with_a_late_cut(alerts: pd.DataFrame, *, rise: Annotated[float, "mag"] = 0.05) -> dict[str, Any]:
    """A filter whose last cut is a callable, evaluated on survivors only."""

    def brighter(survivors: pd.DataFrame) -> pd.Series:
        seen = history(survivors, "prv_candidates")
        return survivors["magpsf"] < seen["magpsf"].last() - rise

    return {"there": alerts["rb"].notna(), "brighter than last": brighter}


AN_EXPRESSION = expression(
    "rb >= {rb_min: 0.65} and (fid != 2 or not missing(sgscore1)) and count(prv_candidates.magpsf < 19) >= 2"
    " and max(prv_candidates.jd, where=prv_candidates.fid == fid) < jd - 0.01"
)


def every_filter() -> list[Filter]:
    return [*registered("ztf").values(), with_a_late_cut, AN_EXPRESSION]


def frame_of(f: Filter, batch: Packets) -> pd.DataFrame:
    return to_frame(table_of_packets(batch, f.require_reads()), f.require_reads())


def cut_rows(cuts: pd.DataFrame) -> list[tuple[bool, ...]]:
    return list(cuts.itertuples(index=False, name=None))


# A way of running: filter, packets, something drawn -> the cuts of each packet, in the packets' order.
Way = Callable[[Filter, Packets, int], list[tuple[bool, ...]]]


def in_two_pieces(f: Filter, batch: Packets, drawn: int) -> list[tuple[bool, ...]]:
    at = drawn % (len(batch) + 1)
    return cut_rows(f(frame_of(f, batch[:at]))) + cut_rows(f(frame_of(f, batch[at:])))


def in_slices_of_one_frame(f: Filter, batch: Packets, drawn: int) -> list[tuple[bool, ...]]:
    frame, at = frame_of(f, batch), drawn % (len(batch) + 1)
    return cut_rows(f(frame.iloc[:at])) + cut_rows(f(frame.iloc[at:]))


def concatenated_by_pandas(f: Filter, batch: Packets, drawn: int) -> list[tuple[bool, ...]]:
    at = drawn % (len(batch) + 1)
    return cut_rows(f(pd.concat([frame_of(f, batch[:at]), frame_of(f, batch[at:])])))  # index labels repeat


def in_another_order(f: Filter, batch: Packets, drawn: int) -> list[tuple[bool, ...]]:
    order = sorted(range(len(batch)), key=lambda i: (i * 7919 + drawn) % 101)
    mixed = cut_rows(f(frame_of(f, [batch[i] for i in order])))
    return [mixed[order.index(i)] for i in range(len(batch))]


def among_more_columns(f: Filter, batch: Packets, drawn: int) -> list[tuple[bool, ...]]:
    reads = list(dict.fromkeys([name for g in every_filter() for name in g.require_reads()]))
    return cut_rows(f(to_frame(table_of_packets(batch, reads), reads)))


def one_at_a_time(f: Filter, batch: Packets, drawn: int) -> list[tuple[bool, ...]]:
    return [tuple(f.one(packet).cuts.values()) for packet in batch]


def passes_of(f: Filter, batch: Packets, drawn: int) -> list[tuple[bool, ...]]:
    """The mask is what the cuts say, through a pickle."""
    import pickle

    frame = frame_of(f, batch)
    cuts = f(frame)
    assert pickle.loads(pickle.dumps(f)).passes(frame).tolist() == cuts.all(axis=1).tolist()
    return cut_rows(cuts)


def dask_partitions(f: Filter, batch: Packets, drawn: int) -> list[tuple[bool, ...]]:
    frame = frame_of(f, batch)
    parts = dask.dataframe.from_pandas(frame, npartitions=2, sort=False)
    with dask.config.set(scheduler="sync"):
        cuts = f.on(parts, cuts=True).compute()
        assert f.on(parts).compute().tolist() == cuts.all(axis=1).tolist()
    return cut_rows(cuts)


def dask_bag(f: Filter, batch: Packets, drawn: int) -> list[tuple[bool, ...]]:
    if not batch:
        return []
    with dask.config.set(scheduler="sync"):
        verdicts = dask.bag.from_sequence(batch, npartitions=2).map(f.one).compute()
    return [tuple(verdict.cuts.values()) for verdict in verdicts]


WAYS: list[tuple[Way, int]] = [
    (in_two_pieces, 40),
    (in_slices_of_one_frame, 25),
    (concatenated_by_pandas, 25),
    (in_another_order, 25),
    (among_more_columns, 20),
    (one_at_a_time, 20),
    (passes_of, 20),
    (dask_partitions, 4),
    (dask_bag, 4),
]


def assert_same(way: Way, filters: list[Filter], examples: int, shrink: bool = True) -> None:
    """The filters give the same this way as on one whole batch."""
    phases = PHASES if shrink else (Phase.generate,)

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), phases=phases)
    @given(packets, st.integers(0, 1000))
    def check(batch: Packets, drawn: int) -> None:
        for f in filters:
            assert way(f, batch, drawn) == cut_rows(f(frame_of(f, batch))), f.name

    check()


@pytest.mark.parametrize(("way", "examples"), WAYS, ids=[way.__name__ for way, _ in WAYS])
def test_every_way_gives_the_same(way: Way, examples: int) -> None:
    assert_same(way, every_filter(), examples)


@alert_filter(survey="ztf", reads=["magpsf"])
def above_the_average(alerts: pd.DataFrame) -> dict[str, Any]:
    """Wrong on purpose: an alert's verdict depends on its neighbours."""
    return {"bright for this batch": alerts["magpsf"] <= alerts["magpsf"].mean()}


@alert_filter(survey="ztf", reads=["jd"])
def first_come(alerts: pd.DataFrame) -> dict[str, Any]:
    """Wrong on purpose: the place in the batch matters."""
    return {"early": pd.Series(range(len(alerts)), index=alerts.index) < 1}


@pytest.mark.parametrize("way", [in_two_pieces, in_slices_of_one_frame, one_at_a_time, dask_bag])
@pytest.mark.parametrize("wrong", [above_the_average, first_come], ids=lambda f: f.name)
def test_the_law_sees_a_filter_that_breaks_it(wrong: Filter, way: Way) -> None:
    with pytest.raises(AssertionError, match=wrong.name):
        assert_same(way, [wrong], 200, shrink=False)


def test_order_matters_to_a_filter_that_counts_places() -> None:
    with pytest.raises(AssertionError, match="first_come"):
        assert_same(in_another_order, [first_come], 200, shrink=False)


@pytest.mark.parametrize("f", every_filter(), ids=lambda f: f.name)
def test_nothing_gives_nothing(f: Filter) -> None:
    cuts = f(frame_of(f, []))
    assert len(cuts) == 0
    assert len(cuts.columns) > 0
    assert all(dtype.kind == "b" for dtype in cuts.dtypes)
    assert f.funnel(frame_of(f, []))["alerts"].tolist() == [0] * (len(cuts.columns) + 1)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(packets)
def test_the_input_is_not_changed(batch: Packets) -> None:
    for f in every_filter():
        frame, same = frame_of(f, batch), frame_of(f, batch)
        f(frame)
        f.funnel(frame)
        pd.testing.assert_frame_equal(frame, same)
