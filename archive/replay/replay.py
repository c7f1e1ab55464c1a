"""Replay: filters on the nights of an archive, in one pass, with the code that runs live.

found = replay("young_supernova", Archive(path), nights="2023-10-12", parameters={"gap": [20, 30]})
found.matches; found.funnel(); found.nights(); found.compare(0, 1)
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from archive.read.archive import Archive, Versions
from archive.read.columns import Tally
from archive.read.fragments import WHOLE, Piece, shares
from archive.read.view import View
from archive.replay.funnels import NightSum
from archive.replay.records import Records
from archive.replay.results import Replay, gathered
from archive.replay.trial import Outcome, Trial, Way
from filters import Filter, load
from filters.errors import BadParameter, FilterError
from filters.external.externals import Externals, external_names
from schemas.errors import NoSuchColumn, near_names
from schemas.surveys.registry import survey_named

SHARE_ROWS = 262_144
_FILTERS = 8  # with more filters a share has fewer rows, so that each takes seconds only
_BAG_ROWS = 2_048

Given = Filter | str
Parameters = Mapping[str, Any] | Sequence[Mapping[str, Any]] | None


@dataclass(frozen=True)
class Progress:
    """How far a replay is: alerts read of all that there are, matches so far (of all filters), seconds."""

    alerts: int
    of: int
    matches: int
    seconds: float


def replay(
    filters: Given | Sequence[Given],
    archive: Archive | str | Path,
    nights: Any = None,
    parameters: Parameters = None,
    *,
    cone: Any = None,
    where: Any = None,
    public: bool = True,
    versions: Versions = "newest",
    way: Way = "dataframe",
    cluster: Any = None,
    threads: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    externals: Externals | None = None,
    values: Sequence[str] = (),
    only: Sequence[Records] = (),
) -> Replay:
    """Run filters over nights of an archive as the live stream would have; one pass for all of them.

    Ctrl-C ends it early: what is there by then is returned, with `complete` false.

    Parameters
    ----------
    filters
        Filters, their names, or expressions; one or several.
    archive
        An Archive, or its address.
    nights
        "2023-10-12", "2023-10-12..2023-10-14", a date, or a list of these; all nights where left out.
    parameters
        {"rb_min": 0.7} for every filter that has it, {"real_bogus.rb_min": 0.7} for one; a list of values is
        a sweep (several lists: every combination); a list of such dictionaries tries each.
    cone
        (ra, dec, radius): degrees, or such as "1 arcmin" for the radius.
    where
        Conditions on what a filter sees: "rb >= 0.65 and fid == 1", or [("rb", ">=", 0.65), ...].
    public
        See what a public channel sees: alerts and history rows that are public.
    versions
        "all" replays each source record, as live; "newest" one of each candid.
    way
        "bag" asks packet by packet, for filters without `reads`; the same result, slower.
    cluster
        A `distributed` client, cluster or address; without one, threads of this process.
    threads
        How many of them.
    on_progress
        Is told now and then how far it is.
    externals
        Catalogues, regions and sky maps at versions of your choice; those in use now where left out.
    values
        Columns that the matches carry beside what the filters read and give: "galex.sep". As `values` of a
        channel.
    only
        Source records: the filters see these and no others, with versions="all". All where left out.

    Returns
    -------
    Replay
        Matches, funnels, alerts a night.

    Raises
    ------
    BadParameter, FilterError, ReadsRequired
        For a filter that cannot be used here.
    BadNights, NoSuchArchive
        For what is not there.
    """
    source = archive if isinstance(archive, Archive) else Archive(archive)
    chosen = variants([filters] if isinstance(filters, (Filter, str)) else filters, parameters)
    trial = _trial(chosen, source, source.view((), cone, where, public), versions, way, externals, values)
    if only and not trial.sources:
        raise FilterError("some records only: they are named by Kafka", hint='replay with versions="all"')
    trial = replace(trial, only=tuple(only))
    began, tally = time.monotonic(), Tally()
    few = max(1, SHARE_ROWS // (1 + len(chosen) // _FILTERS))
    rows = WHOLE if trial.whole_nights else _BAG_ROWS if way == "bag" else few
    work = shares(source.select(trial.view, nights, versions, rows, tally), rows)
    run = _Run(trial, work, began, on_progress)
    with _pool(cluster, threads) as pool:
        complete = run.through(pool)
    found = gathered(chosen, run.sums.values(), source, versions, public, trial.values)
    return replace(found, tally=_sum(tally, run.tally), seconds=time.monotonic() - began, complete=complete)


def variants(filters: Iterable[Given], parameters: Parameters = None) -> list[Filter]:
    """Each filter with each set of parameters that concerns it, once.

    Raises BadParameter for a name that none of the filters has or a bad value, UnknownFilter.
    """
    every = [f if isinstance(f, Filter) else load(f) for f in filters]
    if not every:
        raise FilterError("no filter to replay", hint="`zads filters` lists them")
    sets = [parameters] if isinstance(parameters, Mapping) or parameters is None else list(parameters)
    found = [f.using(**values) for f in every for given in sets for values in _values(f, every, given or {})]
    once = {(f.name, f.version, repr(sorted(f.values.items()))): f for f in found}
    return list(once.values())


def _values(f: Filter, every: Sequence[Filter], given: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The sets of values for one filter: every combination of what is swept."""
    lists: dict[str, list[Any]] = {}
    for key, value in given.items():
        owner, dot, name = key.rpartition(".")
        having = [g for g in every if (not dot or g.name == owner) and name in g.parameters]
        if not having:
            known = sorted({p for g in every for p in g.parameters})
            raise BadParameter(f"no filter here has a parameter '{key}'; {near_names(name, known)}")
        if any(g.name == f.name for g in having) and name in f.parameters:
            lists[name] = list(value) if isinstance(value, (list, tuple)) else [value]
    for values in itertools.product(*lists.values()):
        yield dict(zip(lists, values, strict=True))


def _trial(
    chosen: Sequence[Filter],
    source: Archive,
    view: View,
    versions: Versions,
    way: Way,
    externals: Externals | None,
    values: Sequence[str],
) -> Trial:
    for f in chosen:
        if source.survey not in f.surveys:
            raise FilterError(f"{f.name} is for {f.of}, this archive's table is of {source.survey}")
    reads = () if way == "bag" else dict.fromkeys(name for f in chosen for name in f.require_reads())
    single = survey_named(source.survey).scalars()
    for name in values:
        if name not in single and not external_names([name]):
            raise NoSuchColumn(name, single)
    outside = external_names((*reads, *values))
    pinned = (externals or Externals()).pinned(outside) if outside else None
    chosen_view = replace(view, columns=tuple(reads), externals=pinned)
    return Trial(
        tuple(chosen), source.path, chosen_view, versions == "all", way, tuple(dict.fromkeys(values))
    )


def _sum(*tallies: Tally) -> Tally:
    whole = Tally()
    for tally in tallies:
        whole.add(tally)
    return whole


class _Run:
    """Submits shares and collects their results night by night."""

    def __init__(
        self,
        trial: Trial,
        work: Sequence[tuple[Piece, ...]],
        began: float,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._trial, self._work, self._began, self._on_progress = trial, work, began, on_progress
        self._left = Counter(share[0].night for share in work)
        self._of = round(sum(piece.rows / piece.parts for share in work for piece in share))
        self.sums: dict[date | None, NightSum] = {
            night: NightSum(night, len(trial.filters)) for night in self._left
        }
        self.tally = Tally()
        self._alerts = self._matches = 0

    def through(self, pool: _Pool) -> bool:
        """Work through all shares; False when Ctrl-C came before the last."""
        waiting = iter(self._work)
        under_way: dict[Any, date | None] = {}
        try:
            while True:
                for share in itertools.islice(waiting, pool.at_once - len(under_way)):
                    under_way[pool.submit(self._trial, share)] = share[0].night
                if not under_way:
                    return True
                for future in pool.next_done(under_way):
                    self._take(future.result(), under_way.pop(future))
                    self._tell()
        except KeyboardInterrupt:
            for future in pool.give_up(under_way):
                self._take(future.result(), under_way[future])
            return False

    def _take(self, outcome: Outcome, night: date | None) -> None:
        self.tally.add(outcome.tally)
        self._alerts += outcome.alerts
        self._matches += sum(table.num_rows for table in outcome.matches)
        self._left[night] -= outcome.whole
        self.sums[night].add(outcome)
        if not self._left[night]:
            self.sums[night].close()

    def _tell(self) -> None:
        if self._on_progress is not None:
            now = time.monotonic() - self._began
            self._on_progress(Progress(self._alerts, self._of, self._matches, now))


class _Pool:
    """Threads of this process: reading and most of a filter's work release the interpreter's lock."""

    def __init__(self, count: int | None) -> None:
        count = count or os.cpu_count() or 1
        self._threads = ThreadPoolExecutor(count)
        self._stopped = threading.Event()
        self.at_once = count + 1

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def submit(self, trial: Trial, share: tuple[Piece, ...]) -> Any:
        return self._threads.submit(trial, share, self._stopped.is_set)

    def next_done(self, under_way: Iterable[Future]) -> Iterable[Any]:
        return wait(under_way, return_when=FIRST_COMPLETED).done

    def give_up(self, under_way: Iterable[Future]) -> Iterable[Any]:
        """Start no more shares; give the results of those that were started."""
        self._stopped.set()
        begun = [future for future in under_way if not future.cancel()]
        return wait(begun).done


class _DaskPool(_Pool):
    """Workers of a Dask cluster."""

    def __init__(self, cluster: Any) -> None:
        from distributed import Client

        self._own = not isinstance(cluster, Client)
        self._client = Client(cluster) if self._own else cluster
        self.at_once = 2 * max(1, sum(self._client.nthreads().values()))
        self._trials: dict[int, Any] = {}

    def __exit__(self, *_: object) -> None:
        if self._own:
            self._client.close()

    def submit(self, trial: Trial, share: tuple[Piece, ...]) -> Any:
        if id(trial) not in self._trials:
            self._trials[id(trial)] = self._client.scatter(trial, broadcast=True, hash=False)
        return self._client.submit(_tried, self._trials[id(trial)], share, pure=False)

    def next_done(self, under_way: Iterable[Any]) -> Iterable[Any]:
        from distributed import wait as wait_for

        return list(wait_for(list(under_way), return_when="FIRST_COMPLETED").done)

    def give_up(self, under_way: Iterable[Any]) -> Iterable[Any]:
        done = [future for future in under_way if future.status == "finished"]
        self._client.cancel([future for future in under_way if future not in done])
        return done


def _tried(trial: Trial, share: tuple[Piece, ...]) -> Outcome:
    return trial(share)


def _pool(cluster: Any, threads: int | None) -> _Pool:
    return _Pool(threads) if cluster is None else _DaskPool(cluster)


__all__ = ["Progress", "Replay", "replay", "variants"]
