"""Settings of a small single Kafka node: server.properties and the layout of its log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DEFAULT_PORT = 9092
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
TEN_YEARS_MINUTES = 10 * 365 * 24 * 60


@dataclass(frozen=True)
class Ports:
    """Where a node listens: for clients, for itself as controller and, secured, for the operator."""

    clients: int
    controller: int
    internal: int | None = None


def open_listeners(ports: Ports) -> dict[str, str]:
    """Everybody on this machine may do everything."""
    return {
        "listeners": f"PLAINTEXT://127.0.0.1:{ports.clients},CONTROLLER://127.0.0.1:{ports.controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{ports.clients}",
    }


def secured_listeners(ports: Ports, host: str = "") -> dict[str, str]:
    """CLIENTS for users; INTERNAL, on this machine only, for who has the operator's certificate.

    host: the name or address under which users on other machines know this one; "" for this machine only.
    """
    at, known_as = ("0.0.0.0", host) if host else ("127.0.0.1", "127.0.0.1")
    internal = f"INTERNAL://127.0.0.1:{ports.internal}"
    return {
        "listeners": f"CLIENTS://{at}:{ports.clients},{internal},CONTROLLER://127.0.0.1:{ports.controller}",
        "advertised.listeners": f"CLIENTS://{known_as}:{ports.clients},{internal}",
    }


def server_properties(
    data: Path, ports: Ports, listeners: Mapping[str, str], extra: Mapping[str, str]
) -> str:
    """server.properties of one node that is broker and controller.

    Parameters
    ----------
    data
        Folder of Kafka's logs.
    ports
        Where it listens.
    listeners
        The lines that say how: `open_listeners`, or `secured_listeners` and what belongs to them.
    extra
        Settings that replace or add to these.
    """
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        **listeners,
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.voters": f"1@127.0.0.1:{ports.controller}",
        "log.dirs": str(data),
        # One node: nothing to replicate to. Few internal partitions make the first group and the first
        # transaction quick.
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "5",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "5",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        # A new member waits for nobody; a dead one is noticed within six seconds.
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        # After kill -9 the node waits this long for its own dead registration (9 s by default).
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        # A quiet node need not write a record twice a second.
        "metadata.max.idle.interval.ms": "5000",
        # An expired offset would replay nights: keep offsets longer than any topic.
        "offsets.retention.minutes": str(TEN_YEARS_MINUTES),
        # A misspelt topic is an error, not a new topic.
        "auto.create.topics.enable": "false",
        # Packets are 70 kB; simulated and rewritten ones may be some MB.
        "message.max.bytes": str(MAX_MESSAGE_BYTES),
        "replica.fetch.max.bytes": str(MAX_MESSAGE_BYTES),
        "socket.request.max.bytes": str(8 * MAX_MESSAGE_BYTES),
        "log.retention.hours": "168",
        "log.segment.bytes": str(256 * 1024 * 1024),
        "num.network.threads": "2",
        "num.io.threads": "4",
        **extra,
    }
    # In a properties file a backslash starts an escape.
    return "".join(f"{name}={value.replace(chr(92), chr(92) * 2)}\n" for name, value in settings.items())


def log_properties(log: Path) -> str:
    """log4j settings: a few lines at start and stop, else warnings, in at most four files of 10 MB.

    What the authorizer refuses goes to refused.log beside it: whoever asks for much that is refused does not
    push the broker's own lines out.
    """
    return f"""\
rootLogger.level = warn
rootLogger.appenderRef.file.ref = file
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = {log}
appender.file.filePattern = {log}.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{{ISO8601}} %p %m (%c{{1}})%n
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 10MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 3
appender.refused.type = RollingFile
appender.refused.name = refused
appender.refused.fileName = {log.with_name("refused.log")}
appender.refused.filePattern = {log.with_name("refused.log")}.%i
appender.refused.createOnDemand = true
appender.refused.layout.type = PatternLayout
appender.refused.layout.pattern = %d{{ISO8601}} %m%n
appender.refused.policies.type = Policies
appender.refused.policies.size.type = SizeBasedTriggeringPolicy
appender.refused.policies.size.size = 10MB
appender.refused.strategy.type = DefaultRolloverStrategy
appender.refused.strategy.max = 3
logger.authorizer.name = kafka.authorizer.logger
logger.authorizer.level = info
logger.authorizer.additivity = false
logger.authorizer.appenderRef.refused.ref = refused
logger.server.name = kafka.server
logger.server.level = info
logger.config.name = kafka.server.KafkaConfig
logger.config.level = warn
logger.parser.name = org.apache.kafka.common.utils.AppInfoParser
logger.parser.level = info
"""
