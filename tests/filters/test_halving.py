"""A batch on which a filter raises is taken apart until the bad alerts stand alone."""

from hypothesis import given
from hypothesis import strategies as st

from filters.halving import by_halves


@given(rows=st.integers(0, 200), bad=st.sets(st.integers(0, 199), max_size=30), most=st.integers(0, 30))
def test_the_bad_rows_and_no_others_are_found(rows: int, bad: set[int], most: int) -> None:
    judged: list[int] = []
    bad = {row for row in bad if row < rows}

    def judge(start: int, stop: int) -> None:
        if bad & set(range(start, stop)):
            raise SystemExit("a filter may leave, too")
        judged.extend(range(start, stop))

    halved = by_halves(rows, judge, most)
    if len(bad) > most:
        assert halved.gave_up is not None
    else:
        assert halved.gave_up is None
        assert [row for row, _ in halved.failed] == sorted(bad)
        assert sorted(judged) == sorted(set(range(rows)) - bad)
