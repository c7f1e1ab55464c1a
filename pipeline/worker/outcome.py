"""What an exception that ended a piece of work means, as a report to the coordinator."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping
from typing import Literal

from confluent_kafka import KafkaError, KafkaException

from pipeline.broker.client import BrokerError, sentence
from pipeline.broker.faults import Fault, fault_of
from pipeline.broker.paced import NotTaken
from pipeline.broker.reading.ranges import Stalled
from pipeline.worker.holding.lane import Behind, Moved
from pipeline.worker.holding.slot import TRANSACTION_SECONDS
from pipeline.worker.work import Outcome, Report, Work
from schemas.errors import NoSchemaSource

log = logging.getLogger(__name__)

Stage = Literal["take", "read", "judge", "publish"]
_OUTCOMES: Mapping[Fault, Outcome] = {
    Fault.ENVIRONMENT: "retry",
    Fault.TOO_MUCH: "too much",
    Fault.FENCED: "stale",
    Fault.OUTPUT: "output",
    Fault.INPUT: "input",
    Fault.SETUP: "setup",
    Fault.BUG: "retry",
}


class MadeAgain(Exception):
    """The records that were read may be those of another topic of the same name."""


def outcome_of(
    work: Work,
    error: Exception,
    stage: Stage,
    seconds: float = 0.0,
    outputs: Mapping[str, str] | None = None,
    unwritable: Callable[[], Mapping[str, str] | None] = dict,
) -> Report:
    """The report on work that an exception has ended.

    Parameters
    ----------
    work : Work
    error : Exception
    stage : Stage
        What was done when it came.
    seconds : float
        How long the transaction had been open, s.
    outputs : mapping
        Topic -> channel.
    unwritable : callable
        Asked when the broker did not say: which of these topics take no records, and why; None when it
        does not answer at all.

    Returns
    -------
    Report
    """
    if isinstance(error, Moved):
        return Report(work, "moved", offset=error.stood.offset, lost=error.stood.loss)
    if isinstance(error, MadeAgain | Behind):  # until the coordinator has seen it too
        return Report(work, "stale", message=str(error))
    if isinstance(error, BrokerError | Stalled | NoSchemaSource):  # a fault of the environment: wait
        return Report(work, "retry", message=str(error))
    if isinstance(error, KafkaException):
        return _of_kafka(work, error, stage, seconds, outputs or {}, unwritable)
    words = "".join(traceback.format_exception(error))
    # Before the records are judged the cause is not in them: it is a bug of ours, or a missing library.
    outcome: Outcome = "raised" if stage in ("judge", "publish") else "setup"
    return Report(work, outcome, message=f"{type(error).__name__}: {error}", traceback=words)


def _of_kafka(
    work: Work,
    error: KafkaException,
    stage: Stage,
    seconds: float,
    outputs: Mapping[str, str],
    unwritable: Callable[[], Mapping[str, str] | None],
) -> Report:
    reason: KafkaError = error.args[0]
    topic = error.topic if isinstance(error, NotTaken) else ""
    call: Literal["read", "write", "commit"] = (
        "write" if topic else "commit" if stage == "publish" else "read"
    )
    fault = fault_of(reason, call, seconds, TRANSACTION_SECONDS * 0.9)
    message = f"{topic}: {sentence(reason)}" if topic else sentence(reason)
    channels: tuple[str, ...] = (outputs[topic],) if topic in outputs else ()
    bad = unwritable() if fault is Fault.ENVIRONMENT and stage == "publish" else None
    if bad is not None and not bad and reason.code() == KafkaError._TIMED_OUT:
        fault = Fault.TOO_MUCH  # the broker answers, and takes records more slowly than these come
    if bad:
        # For a topic that does not exist a broker never answers. A transaction that may not write to one
        # topic is refused without its name.
        channels = tuple(outputs[name] for name in sorted(bad))
        why = ", ".join(f"{name}: {bad[name]}" for name in sorted(bad))
        return Report(work, "output", message=why, outputs=channels)
    if fault is Fault.OUTPUT and not channels:
        fault = Fault.ENVIRONMENT  # a topic of our own that was deleted: it is created again
    if fault is Fault.BUG:
        log.error("an error of Kafka that zads does not know, trying again: %s", message)
    return Report(work, _OUTCOMES[fault], message=message, outputs=channels)
