"""The Kafka client as zads uses it: settings, topics, and errors that a person can act on."""

from __future__ import annotations

import difflib
import logging
import re
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from pipeline.broker.profile import VARIABLE, ProfileError, credentials, user_name
from schemas.errors import ZadsError

Answer = TypeVar("Answer")
log = logging.getLogger("zads.kafka")
# In a notebook logging is not configured: a library then stays quiet instead of writing to stderr.
log.addHandler(logging.NullHandler())


class AwayOnce(logging.Filter):
    """Lets one line through when the broker goes away, instead of one for each attempt of each client."""

    QUIET_SECONDS = 30.0
    _ABOUT_CONNECTIONS = ("FAIL ", "ERROR ", "DISCONNECT ")  # librdkafka's names for them

    def __init__(self) -> None:
        super().__init__()
        self._said = -self.QUIET_SECONDS

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to let the line through."""
        if not record.getMessage().startswith(self._ABOUT_CONNECTIONS):
            return True
        said, now = self._said, time.monotonic()
        if now - said < self.QUIET_SECONDS:
            return False
        self._said = now
        record.msg = f"{record.getMessage()} (trying again by itself; more of this is not shown for a while)"
        record.args = ()
        return True


log.addFilter(AwayOnce())

MESSAGE_MAX_BYTES = 10_000_000
"""The largest record that zads writes: a hundred usual packets; Kafka's own default is 1 MB."""

SIZED = {"max.message.bytes": str(MESSAGE_MAX_BYTES)}
"""Configuration of a topic that takes records of MESSAGE_MAX_BYTES."""

SESSION_SECONDS = 6.0
"""A static member that was not heard of for so long is gone."""

START_SECONDS = 15.0
"""For so long a service that begins waits for a broker."""

PASSING = {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE, KafkaError._TIMED_OUT}
"""librdkafka reports each failed reconnect as an error; these pass by themselves."""


_TLS_SECONDS = 2.0
_AGAIN_SECONDS = 0.5
_NOT_LET_IN = {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED}


class BrokerError(ZadsError):
    """The Kafka broker cannot be reached, or refused what was asked."""


class NoAnswer(BrokerError):
    """No Kafka broker answers at the address, now."""


class NoSuchTopic(BrokerError):
    """A topic that does not exist; the message lists near names."""


def client_settings(bootstrap: str, **extra: Any) -> dict[str, Any]:
    """Settings for any confluent-kafka client at `bootstrap` ("host:port,...").

    The profile in use says who we are. `extra` are librdkafka's own keys, dotted
    (`**{"security.protocol": "SASL_SSL"}`), and win over the settings here. What librdkafka has to say goes
    to the logger "zads.kafka", not to stderr. The result may hold secrets: it stays in this process. Raises
    ProfileError.
    """
    settings: dict[str, Any] = {
        "bootstrap.servers": bootstrap,
        "client.id": "zads",
        # A broker that restarts is back within seconds; librdkafka's default waits up to ten.
        "reconnect.backoff.ms": 10,  # each client makes its second connection only after this pause
        "reconnect.backoff.max.ms": 1000,
        "socket.keepalive.enable": True,
        # An idle connection that the broker closed is no news.
        "log.connection.close": False,
        "logger": log,
    }
    return settings | credentials() | extra


def is_not_let_in(error: KafkaError) -> bool:
    """Whether the broker does not know us, or not with this password."""
    return error.code() in _NOT_LET_IN


def show_anew(client: Consumer) -> None:
    """Let a client that goes on show the password that our profile has now; it may have been rotated.

    Nothing for a client without a password, nor while the profile cannot be read.
    """
    try:
        ours = credentials()
    except (ProfileError, OSError) as error:
        log.debug("no new password yet: %s", error)
        return
    if {"sasl.username", "sasl.password"} <= ours.keys():
        client.set_sasl_credentials(ours["sasl.username"], ours["sasl.password"])


def consumer_settings(bootstrap: str, group: str, **extra: Any) -> dict[str, Any]:
    """Settings for a consumer that reads only committed messages and commits no offset by itself.

    Parameters
    ----------
    bootstrap
        Address of the broker, host:port.
    group
        Consumer group.
    extra
        librdkafka's own keys; they win over the settings here.
    """
    reading = {
        "group.id": group,
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "enable.partition.eof": True,
        # Without a cap a consumer of 76 kB packets would prefetch 64 MB for each partition.
        "queued.max.messages.kbytes": 32_768,
        "fetch.queue.backoff.ms": 10,
        "topic.metadata.refresh.interval.ms": 5_000,
    }
    return client_settings(bootstrap, **(reading | extra))


def instance_of(group: str, replica: str) -> str:
    """The name of a static member."""
    return f"{group}-{replica}"


def static_member(group: str, replica: str) -> dict[str, Any]:
    """Settings of a member that keeps its partitions over a quick restart; another of its name fences it."""
    return {
        "group.instance.id": instance_of(group, replica),
        "session.timeout.ms": int(1000 * SESSION_SECONDS),
        "heartbeat.interval.ms": 2_000,
    }


def producer_settings(bootstrap: str, **extra: Any) -> dict[str, Any]:
    """Settings for an idempotent producer: no message twice or out of order by a retry of the client."""
    writing = {
        "enable.idempotence": True,
        "acks": "all",
        "linger.ms": 5,
        "batch.size": 1_000_000,
        "message.max.bytes": MESSAGE_MAX_BYTES,
        "queue.buffering.max.kbytes": 131_072,
        # Java's partitioner, so that other tools put the same key into the same partition.
        "partitioner": "murmur2_random",
        "message.timeout.ms": 120_000,
    }
    return client_settings(bootstrap, **(writing | extra))


def admin_client(bootstrap: str, **extra: Any) -> AdminClient:
    """An AdminClient; keys of `extra` that only consumers or producers know are ignored.

    Raises BrokerError for a key that librdkafka refuses.
    """
    try:
        return AdminClient(client_settings(bootstrap, **extra))
    except KafkaException as error:
        raise BrokerError(
            f"librdkafka refuses its settings: {sentence(error.args[0])}", hint="look at [kafka] of zads.toml"
        ) from None


def wait_for_broker(bootstrap: str, timeout: float = 5.0, **extra: Any) -> None:
    """Return as soon as a broker answers.

    Parameters
    ----------
    bootstrap
        Address of the broker, host:port.
    timeout
        Seconds to wait.
    extra
        librdkafka's own keys.

    Raises
    ------
    BrokerError
        When none answers in time.
    """
    topic_names(bootstrap, timeout=timeout, **extra)


def patiently(
    ask: Callable[[], Answer], seconds: float = START_SECONDS, tell: Callable[[str], object] = log.warning
) -> Answer:
    """What a service asks of the broker when it begins: one that restarts just now is waited for.

    Parameters
    ----------
    ask
        Asks, and may do so again.
    seconds
        After so long the last answer counts.
    tell
        Called with what is waited for.

    Raises
    ------
    NoAnswer
        When no broker has answered in time; and whatever else `ask` raises, at once.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except NoAnswer as error:
            if time.monotonic() >= until:
                raise
            tell(f"{error}; asking again for up to {max(0, until - time.monotonic()):.0f} s")
            time.sleep(_AGAIN_SECONDS)


def topic_names(bootstrap: str, pattern: str | None = None, timeout: float = 5.0, **extra: Any) -> list[str]:
    """The topics that exist, sorted, without Kafka's internal ones.

    Parameters
    ----------
    bootstrap
        Address of the broker, host:port.
    pattern
        Only topics that match this regular expression from their beginning (`re.match`).
    timeout
        Seconds to wait.
    extra
        librdkafka's own keys.

    Raises
    ------
    BrokerError
        When no broker answers in time.
    """
    complaints: list[KafkaError] = []
    asking = admin_client(bootstrap, **{"error_cb": complaints.append, **extra})
    try:
        # All topics are asked for: asking for one by name may create it.
        known = asking.list_topics(timeout=timeout).topics
    except KafkaException as error:
        asking.poll(0)
        raise unreachable(bootstrap, error.args[0], complaints, extra) from None
    names = sorted(name for name in known if not name.startswith("__"))
    return names if pattern is None else [name for name in names if re.match(pattern, name)]


def find_topics(bootstrap: str, topic: str, timeout: float = 5.0, **extra: Any) -> list[str]:
    """A topic by name, or the topics that match a pattern.

    Parameters
    ----------
    bootstrap
        Address of the broker, host:port.
    topic
        A name; or, when it starts with "^", a regular expression (as in every Kafka client), which may match
        none.
    timeout
        Seconds to wait.
    extra
        librdkafka's own keys.

    Raises
    ------
    NoSuchTopic
        When a plain name does not exist, with near names.
    BrokerError
        When no broker answers in time.
    """
    names = topic_names(bootstrap, timeout=timeout, **extra)
    if topic.startswith("^"):
        return [name for name in names if re.match(topic, name)]
    if topic in names:
        return [topic]
    raise NoSuchTopic(
        f"no topic {topic!r} at {bootstrap}{_near(topic, names)}",
        hint="A topic that you have no right to read looks as if it were not there.",
    )


def _near(topic: str, names: list[str]) -> str:
    near = difflib.get_close_matches(topic, names, n=3, cutoff=0.5)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return f" (there are {shown})" if names else " (it has no topics yet)"


def unreachable(
    bootstrap: str,
    error: KafkaError,
    complaints: Sequence[KafkaError] = (),
    kafka: Mapping[str, Any] | None = None,
) -> BrokerError:
    """What to raise for an error of a request.

    Parameters
    ----------
    bootstrap
        The broker that was asked.
    error
        Of the request.
    complaints
        Errors that the client had meanwhile.
    kafka
        librdkafka's own keys, as the client had them beside the profile's.
    """
    # A handshake that is slow, as on a busy machine, is no handshake that is refused.
    complaints = [one for one in complaints if "timed out" not in one.str()]
    refused = [one for one in complaints if one.code() != KafkaError._ALL_BROKERS_DOWN]
    protocol = str({**credentials(), **(kafka or {})}.get("security.protocol", ""))
    no_profile = "SSL" not in protocol.upper()
    if any(one.code() in _NOT_LET_IN for one in complaints):
        return BrokerError(
            f"the Kafka broker at {bootstrap} does not let {user_name() or 'us'} in: wrong name or password",
            hint="`zads user rotate NAME` by an operator gives a new password",
        )
    doubted = error.code() in PASSING and (no_profile or refused)
    if any("SSL" in one.str() for one in complaints) or (doubted and _speaks_tls(bootstrap)):
        return BrokerError(
            f"the Kafka broker at {bootstrap} is a secured one and we have no profile that fits",
            hint=f"name a profile of this broker with --as NAME or {VARIABLE}",
        )
    if error.code() in PASSING and (host := _unknown_host(bootstrap)):
        return NoAnswer(f"no host {host} is known here", hint="is the address of the broker right?")
    if error.code() in PASSING:
        return NoAnswer(f"no Kafka broker answers at {bootstrap}; start one with `zads broker start`")
    return BrokerError(f"the Kafka broker at {bootstrap} refused: {sentence(error)}")


def _unknown_host(bootstrap: str) -> str:
    """The first host of the address, where no host of it has a name that is known; else ""."""
    hosts = [one.strip().rpartition(":")[0].strip("[]") for one in bootstrap.split(",")]
    for host in hosts:
        try:
            socket.getaddrinfo(host or "localhost", None)
        except socket.gaierror:
            continue
        except (OSError, UnicodeError):
            return host
        return ""
    return hosts[0]


def _speaks_tls(bootstrap: str) -> bool:
    """Whether somebody answers there, but with TLS: to a client without it such a broker says nothing."""
    host, _, port = bootstrap.partition(",")[0].rpartition(":")
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((host, int(port)), _TLS_SECONDS) as plain, anybody.wrap_socket(plain):
            return True
    except (OSError, ValueError):
        return False


def passes_by_itself(error: KafkaError) -> bool:
    """Whether librdkafka goes on trying after `error` (a broker that restarts, a name that resolves late)."""
    return not error.fatal() and (error.retriable() or error.code() in PASSING)


def words_of(error: Exception) -> str:
    """What an error says: a KafkaException's with the code's name, any other's as it is."""
    return sentence(error.args[0]) if isinstance(error, KafkaException) else str(error)


def sentence(error: KafkaError) -> str:
    """What a KafkaError says, with its code's name, which is what one searches for."""
    text = error.str().strip().rstrip(".")
    return f"{text} ({error.name()})"
