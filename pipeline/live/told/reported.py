"""What is logged of a batch: what did not go by itself, and its dead letters."""

from __future__ import annotations

import logging
from typing import Any

from pipeline.broker.logs import NowAndThen, about
from pipeline.broker.partition import Partition
from pipeline.worker.work import Refused, Report

log = logging.getLogger(__name__)


def tell(report: Report, lasting: NowAndThen) -> None:
    """Log what is news in a report; a batch handed over in a rebalance is none.

    Parameters
    ----------
    report
        On a batch.
    lasting
        Says once a minute what goes on: batches that wait for the same thing, dead letters of the same kind.
    """
    for words in report.chances:
        log.warning("%s: %s", report.work.partition, words, extra=about(report.work.partition))
    for one in report.refusals:
        lasting.warn(*_words(one, report.work.partition))
    if report.outcome in ("committed", "moved"):
        return
    work = report.work
    what = came_between(report)
    told = about(work.partition, offset=work.low, high=work.high, channel=report.culprit or None)
    batch = f"{work.partition} [{work.low}, {work.high}) attempt {work.attempt}"
    # Many partitions wait for the same thing: their worker, a broker, the registry that has to be read.
    if report.outcome in ("retry", "died") or "are older than" in what:
        lasting.warn(f"batches wait and are tried again ({what}), such as", batch, told)
        return
    level = logging.DEBUG if report.outcome == "stale" else logging.WARNING
    log.log(level, "%s: %s: %s", batch, report.outcome, what, extra=told)


def came_between(report: Report) -> str:
    """Why an attempt at a batch went wrong."""
    if report.message:
        return report.message
    return f"filter {report.culprit} was running" if report.culprit else "no filter was running"


def _words(one: Refused, place: Partition) -> tuple[str, str, dict[str, Any]]:
    """What to say of a dead letter."""
    of = f" of channel {one.channel}" if one.channel else ""
    candid = "" if one.candid is None else f", candid {one.candid}"
    told = about(place, offset=one.offset, candid=one.candid, channel=one.channel or None)
    return (
        f"dead letters{of} ({one.reason}), such as",
        f"{place} offset {one.offset}{candid}: {one.detail}",
        told,
    )
