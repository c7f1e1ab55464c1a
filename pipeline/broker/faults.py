"""What an error means: who must do what, and what it affects. One table for the whole stream.

| fault       | it concerns          | what follows                                                         |
|-------------|----------------------|----------------------------------------------------------------------|
| ENVIRONMENT | nobody's doing       | try again, with longer and longer pauses; say so once a minute       |
| TOO_MUCH    | one batch            | too large or too slow for its limits: halve it                       |
| FENCED      | who held a partition | somebody else has it: stop, and ask Kafka where the group stands     |
| OUTPUT      | one output topic     | suspend its channel with a gap, and commit the rest                  |
| INPUT       | one input partition  | set it aside, look again now and then, go on with the others         |
| SETUP       | the whole run        | nothing will work until somebody changes a setting: say it, and end  |
| BUG         | us                   | report it                                                            |

The code alone misleads: UNKNOWN_TOPIC_OR_PART is INPUT or OUTPUT by what was asked, and one's own transaction
that took too long is `_FENCED`, as by another's takeover: the time tells.

Source: https://kafka.apache.org/protocol#protocol_error_codes and librdkafka's rdkafka.h.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto
from typing import Literal

from confluent_kafka import KafkaError

Call = Literal["read", "write", "commit", "admin"]
"""What was asked: to read records or offsets of an input, to write to an output, to commit, anything else."""


class Fault(Enum):
    """See the table above."""

    ENVIRONMENT = auto()
    TOO_MUCH = auto()
    FENCED = auto()
    OUTPUT = auto()
    INPUT = auto()
    SETUP = auto()
    BUG = auto()


def _of(fault: Fault, names: str) -> dict[int, Fault]:
    return {getattr(KafkaError, name): fault for name in names.split()}


_ALWAYS: dict[int, Fault] = {
    **_of(
        Fault.ENVIRONMENT,
        "_TRANSPORT _ALL_BROKERS_DOWN _RESOLVE _TIMED_OUT _TIMED_OUT_QUEUE _MSG_TIMED_OUT _WAIT_COORD _RETRY"
        " _WAIT_CACHE _IN_PROGRESS _PREV_IN_PROGRESS _PURGE_QUEUE _PURGE_INFLIGHT _QUEUE_FULL _DESTROY _FAIL"
        " _AUTHENTICATION _SSL _INCONSISTENT _BAD_MSG _OUTDATED"
        " COORDINATOR_LOAD_IN_PROGRESS COORDINATOR_NOT_AVAILABLE NOT_COORDINATOR NETWORK_EXCEPTION"
        " REQUEST_TIMED_OUT BROKER_NOT_AVAILABLE KAFKA_STORAGE_ERROR NOT_ENOUGH_REPLICAS"
        " NOT_ENOUGH_REPLICAS_AFTER_APPEND CONCURRENT_TRANSACTIONS OFFSET_NOT_AVAILABLE"
        " UNSTABLE_OFFSET_COMMIT THROTTLING_QUOTA_EXCEEDED OUT_OF_ORDER_SEQUENCE_NUMBER"
        " DUPLICATE_SEQUENCE_NUMBER UNKNOWN_PRODUCER_ID INVALID_TXN_STATE SASL_AUTHENTICATION_FAILED"
        " LEADER_NOT_AVAILABLE NOT_LEADER_FOR_PARTITION REPLICA_NOT_AVAILABLE FENCED_LEADER_EPOCH"
        " UNKNOWN_LEADER_EPOCH INVALID_FETCH_SESSION_EPOCH FETCH_SESSION_ID_NOT_FOUND NOT_CONTROLLER"
        " PREFERRED_LEADER_NOT_AVAILABLE ELECTION_NOT_NEEDED UNKNOWN TRANSACTION_ABORTABLE _INTR"
        " _CRIT_SYS_RESOURCE _STATE _FATAL _ISR_INSUFF ELIGIBLE_LEADERS_NOT_AVAILABLE STALE_BROKER_EPOCH"
        " REBOOTSTRAP_REQUIRED MEMBER_ID_REQUIRED GROUP_MAX_SIZE_REACHED",
    ),
    **_of(
        Fault.FENCED,
        "_FENCED PRODUCER_FENCED INVALID_PRODUCER_EPOCH ILLEGAL_GENERATION UNKNOWN_MEMBER_ID"
        " FENCED_INSTANCE_ID REBALANCE_IN_PROGRESS _ASSIGNMENT_LOST INVALID_PRODUCER_ID_MAPPING"
        " TRANSACTION_COORDINATOR_FENCED UNRELEASED_INSTANCE_ID FENCED_MEMBER_EPOCH STALE_MEMBER_EPOCH",
    ),
    **_of(
        Fault.SETUP,
        "CLUSTER_AUTHORIZATION_FAILED GROUP_AUTHORIZATION_FAILED TRANSACTIONAL_ID_AUTHORIZATION_FAILED"
        " UNSUPPORTED_VERSION UNSUPPORTED_SASL_MECHANISM INVALID_GROUP_ID INVALID_SESSION_TIMEOUT"
        " INVALID_TRANSACTION_TIMEOUT SECURITY_DISABLED _INVALID_ARG _UNSUPPORTED_FEATURE",
    ),
}
FENCED_PRODUCER = {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}
"""To a producer: another has its transactional id."""
_WRITING = _of(
    Fault.OUTPUT,
    "UNKNOWN_TOPIC_OR_PART _UNKNOWN_TOPIC _UNKNOWN_PARTITION UNKNOWN_TOPIC_ID TOPIC_AUTHORIZATION_FAILED"
    " MSG_SIZE_TOO_LARGE RECORD_LIST_TOO_LARGE INVALID_RECORD INVALID_MSG POLICY_VIOLATION"
    " TOPIC_EXCEPTION INVALID_TIMESTAMP UNSUPPORTED_COMPRESSION_TYPE UNSUPPORTED_FOR_MESSAGE_FORMAT"
    " INVALID_REQUIRED_ACKS",
)
_READING = _of(
    Fault.INPUT,
    "UNKNOWN_TOPIC_OR_PART _UNKNOWN_TOPIC _UNKNOWN_PARTITION UNKNOWN_TOPIC_ID INCONSISTENT_TOPIC_ID"
    " TOPIC_AUTHORIZATION_FAILED TOPIC_EXCEPTION OFFSET_OUT_OF_RANGE _AUTO_OFFSET_RESET"
    " _LOG_TRUNCATION INVALID_MSG UNSUPPORTED_COMPRESSION_TYPE",
)
_BY_CALL: dict[Call, dict[int, Fault]] = {
    "read": _READING,
    "write": _WRITING,
    # Only offsets of an input are committed, so the topic is never an output.
    "commit": _READING,
    "admin": {},
}


def fault_of(error: KafkaError, call: Call, seconds: float = 0.0, limit: float = 0.0) -> Fault:
    """What an error of Kafka means.

    Parameters
    ----------
    error : KafkaError
        As librdkafka gave it.
    call : Call
        What was asked.
    seconds, limit : float
        How long the transaction had been open, and its time limit, s; 0 where there was none.

    Returns
    -------
    Fault
        BUG for a code that nobody has thought of.
    """
    code = error.code()
    if _ALWAYS.get(code) is Fault.FENCED and limit and seconds >= limit:
        return Fault.TOO_MUCH
    if (fault := _BY_CALL[call].get(code) or _ALWAYS.get(code)) is not None:
        return fault
    return Fault.ENVIRONMENT if error.retriable() else Fault.BUG


def codes(fault: Fault) -> Iterable[int]:
    """Every code that means `fault` whatever was asked."""
    return [code for code, always in _ALWAYS.items() if always is fault]
