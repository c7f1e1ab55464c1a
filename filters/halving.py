"""One bad alert costs a filter that alert only: how a batch on which it raises is taken apart.

Live stream, backfill and replay use this one rule, so that the same alerts fail in each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

FAILING_ALERTS = 20
"""More failing alerts than these in a batch, and the filter itself has failed."""


@dataclass
class Halved:
    """What became of a batch: the rows that raised alone, and why it was given up (None: it was not)."""

    failed: list[tuple[int, BaseException]] = field(default_factory=list)
    gave_up: BaseException | None = None


def is_hopeless(error: BaseException) -> bool:
    """Whether after this error halves would fare no better: no memory, or an error that says so."""
    return isinstance(error, MemoryError) or bool(getattr(error, "hopeless", False))


def by_halves(
    rows: int,
    judge: Callable[[int, int], None],
    most: int = FAILING_ALERTS,
    hopeless: Callable[[BaseException], bool] = is_hopeless,
) -> Halved:
    """Call `judge` on all rows; where it raises, on halves, down to single rows.

    User code may raise anything, SystemExit too; only a KeyboardInterrupt is the operator's.

    Parameters
    ----------
    rows : int
        How many there are; none is judged when there are none.
    judge : callable
        Of (start, stop); notes its answer itself.
    most : int
        More rows that raise alone than these, and the whole is given up.
    hopeless : callable
        Whether after this error the whole is given up at once.

    Returns
    -------
    Halved
    """
    halved = Halved()
    pending = [(0, rows)] if rows else []
    while pending:
        start, stop = pending.pop()
        try:
            judge(start, stop)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if hopeless(error):
                halved.gave_up = error
                return halved
            if stop - start > 1:
                middle = (start + stop) // 2
                pending += [(middle, stop), (start, middle)]
                continue
            halved.failed.append((start, error))
            if len(halved.failed) > most:
                halved.gave_up = error
                return halved
    return halved
