"""The one task of the live stream: read, decode, filter and publish a range, exactly once.

Runs on a Dask worker and never raises: whatever happens comes back as a Report, since an exception
inside a task would silently end the stream behind it.
"""

from __future__ import annotations

import time
import traceback
from functools import lru_cache
from typing import Any

import cloudpickle
from confluent_kafka import KafkaError, KafkaException, Producer

from pipeline.evaluate import Evaluator, Refusal, Verdicts
from pipeline.lane import STALE, Behind, Lanes, Moved
from pipeline.outgoing import Outgoing, applied_record
from pipeline.ranges import Stalled
from pipeline.running import RunningNote
from pipeline.work import Report, Work
from schemas.framing import schema_source

_lanes = Lanes()


def prepare(channels: bytes, schemas: str) -> None:
    """Load the code, the filters and the compiled decoder into this worker before there is work."""
    _evaluator(channels, schemas).prepare()


def process(work: Work) -> Report:
    """Do one piece of work, or say why not."""
    try:
        return _attempt(work)
    except Moved as moved:
        return Report(work, "moved", offset=moved.offset)
    except Behind as behind:  # until this coordinator has read what another already goes by
        return Report(work, "stale", message=str(behind))
    except KafkaException as exception:
        _lanes.drop(work)
        error = exception.args[0]
        stale = isinstance(error, KafkaError) and error.code() in STALE
        return Report(work, "stale" if stale else "retry", message=str(error))
    except Stalled as error:
        _lanes.drop_all()
        return Report(work, "retry", message=str(error))
    except Exception as error:
        _lanes.drop(work)
        return Report(
            work, "raised", message=f"{type(error).__name__}: {error}", traceback=traceback.format_exc()
        )


def _attempt(work: Work) -> Report:
    note = RunningNote(work)
    if (culprit := note.left_by_an_attempt_before()) is not None:
        note.remove()
        return Report(work, "culprit", culprit=culprit.channel, traceback=culprit.traceback)
    lane = _lanes.for_work(work)
    report = Report(work, "committed")
    with note:
        records = _staged(report, "read", lane.read, work.low, work.high)
        packets = [record.value() or b"" for record in records]
        report.records, report.bytes = len(packets), sum(map(len, packets))
        if work.unreadable:
            verdicts = Verdicts(
                refused=[Refusal(i, "decode", "unreadable", work.unreadable) for i in range(len(packets))]
            )
        else:
            verdicts = _evaluate(work, packets, note)
    evaluator = _evaluator(work.channels, work.schemas)
    channels = evaluator.channels
    outgoing = Outgoing(channels, work.partition, verdicts, records, evaluator.schemas)

    def produce(producer: Producer) -> None:
        outgoing.produce(producer, work.low, work.high)
        if lane.version != work.version:
            producer.produce(**applied_record(channels, work))

    _staged(report, "publish", lane.commit, work, produce)
    return _fill(report, verdicts)


def _staged(report: Report, stage: str, function: Any, *arguments: Any) -> Any:
    began = time.perf_counter()
    result = function(*arguments)
    report.seconds[stage] = time.perf_counter() - began
    return result


@lru_cache(maxsize=2)
def _evaluator(channels: bytes, schemas: str) -> Evaluator:
    return Evaluator(cloudpickle.loads(channels), schema_source(schemas) if schemas else None)


def _evaluate(work: Work, packets: list[bytes], note: RunningNote) -> Verdicts:
    return _evaluator(work.channels, work.schemas).evaluate(
        packets,
        work.partition.topic,
        note,
        suspended=work.suspended,
        filter_seconds=work.filter_seconds,
        failing_alerts=work.failing_alerts,
    )


def _fill(report: Report, verdicts: Verdicts) -> Report:
    report.alerts, report.objects = verdicts.alerts, verdicts.objects
    report.matches = {name: [match.objectId for match in found] for name, found in verdicts.matches.items()}
    for refusal in verdicts.refused:
        report.dead_letters[refusal.reason] = report.dead_letters.get(refusal.reason, 0) + 1
        if refusal.channel:
            report.set_aside[refusal.channel] = report.set_aside.get(refusal.channel, 0) + 1
    report.other_surveys, report.not_public = verdicts.other_surveys, verdicts.not_public
    report.failures, report.skipped = verdicts.failures, list(verdicts.gaps)
    report.seconds |= verdicts.seconds
    return report
