"""The table of errors: what each code means, by what was asked."""

import pytest
from confluent_kafka import KafkaError
from hypothesis import given
from hypothesis import strategies as st

from pipeline.broker.faults import Call, Fault, codes, fault_of

CALLS: tuple[Call, ...] = ("read", "write", "commit", "admin")

KNOWN = [
    # A broker that is away, restarts, elects, loads or is slow.
    *[(name, call, Fault.ENVIRONMENT) for call in CALLS for name in (
        "_TRANSPORT", "_ALL_BROKERS_DOWN", "_RESOLVE", "_TIMED_OUT", "_MSG_TIMED_OUT", "NOT_COORDINATOR",
        "COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE", "REQUEST_TIMED_OUT",
        "NOT_ENOUGH_REPLICAS", "LEADER_NOT_AVAILABLE", "NOT_LEADER_FOR_PARTITION",
        "CONCURRENT_TRANSACTIONS", "UNSTABLE_OFFSET_COMMIT",
        "THROTTLING_QUOTA_EXCEEDED", "_INCONSISTENT", "_AUTHENTICATION", "SASL_AUTHENTICATION_FAILED",
    )],
    *[(name, call, Fault.FENCED) for call in CALLS for name in (
        "_FENCED", "PRODUCER_FENCED", "INVALID_PRODUCER_EPOCH", "ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID",
        "FENCED_INSTANCE_ID", "REBALANCE_IN_PROGRESS",
    )],
    *[(name, "write", Fault.OUTPUT) for name in (
        "UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "TOPIC_AUTHORIZATION_FAILED", "MSG_SIZE_TOO_LARGE",
        "RECORD_LIST_TOO_LARGE", "POLICY_VIOLATION", "TOPIC_EXCEPTION",
    )],
    *[(name, call, Fault.INPUT) for call in ("read", "commit") for name in (
        "UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION", "TOPIC_AUTHORIZATION_FAILED",
        "OFFSET_OUT_OF_RANGE", "_AUTO_OFFSET_RESET", "_LOG_TRUNCATION",
    )],
    *[(name, call, Fault.SETUP) for call in CALLS for name in (
        "CLUSTER_AUTHORIZATION_FAILED", "GROUP_AUTHORIZATION_FAILED", "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
        "UNSUPPORTED_VERSION",
    )],
]  # fmt: skip


@pytest.mark.parametrize(("name", "call", "fault"), KNOWN)
def test_each_code(name: str, call: Call, fault: Fault) -> None:
    assert fault_of(KafkaError(getattr(KafkaError, name)), call) is fault


@pytest.mark.parametrize("code", codes(Fault.FENCED))
def test_a_fence_after_the_time_limit_is_ones_own(code: int) -> None:
    """The broker says the same of a takeover and of a transaction that took too long."""
    assert fault_of(KafkaError(code), "commit", seconds=59, limit=54) is Fault.TOO_MUCH
    assert fault_of(KafkaError(code), "commit", seconds=3, limit=54) is Fault.FENCED


@given(st.integers(-200, 140), st.sampled_from(CALLS))
def test_every_code_means_something(code: int, call: Call) -> None:
    if code:
        assert isinstance(fault_of(KafkaError(code), call), Fault)


def test_what_nobody_has_thought_of_is_a_bug() -> None:
    assert fault_of(KafkaError(KafkaError.INVALID_VOTER_KEY), "write") is Fault.BUG
