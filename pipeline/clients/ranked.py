"""Ranked channels: of what a channel has delivered in a night the best so many, when the night is over.

The alerts and a record of zads.ranked, which says that the night is done, are written in one transaction, and
whoever fills the channel fences everybody who did so before. So a night is filled once, wherever a process
dies.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Producer

from filters.limits import Ranked, Ranking, best
from pipeline.broker.client import MESSAGE_MAX_BYTES, SIZED, client_settings, topic_names
from pipeline.broker.listen import Alert, everything_in
from pipeline.broker.paced import Paced, fence, paced_settings
from pipeline.broker.topics import ensure_topics
from pipeline.channels.channel import COLLABORATION_PREFIX, PUBLIC_PREFIX, topic_of
from pipeline.channels.config import RunConfig
from pipeline.channels.gaps import RANKED_SETTINGS, RANKED_TOPIC
from pipeline.channels.ledger import Entry, night_of_arrival
from pipeline.clients.audit import of_night
from pipeline.clients.exposures import in_open_exposures
from pipeline.clients.ledger import NightLedger, entries, ledger, nights_of
from schemas.errors import ZadsError

_KAFKA_SECONDS = 30.0


class RankingError(ZadsError):
    """A ranked channel cannot be filled."""


class NightNotClosed(RankingError):
    """Some records of the night may still come, or have not been judged."""


@dataclass(frozen=True)
class Filled:
    """What is in a ranked channel of one night. now: delivered just now, not before."""

    channel: str
    night: str
    candids: tuple[int, ...]
    now: bool


def nights_over(found: Sequence[Entry]) -> list[str]:
    """The nights of the ledger that are over, the earliest first: the date of UTC - 12 h is later."""
    return [night for night in nights_of(found) if night < night_of_arrival(None)]


def fill(config: RunConfig, name: str, night: str, *, force: bool = False) -> Filled:
    """Deliver the best alerts of a night to a ranked channel, once.

    Parameters
    ----------
    config
        With the ranked channel, and the broker.
    name
        Of the ranked channel.
    night
        "2023-10-12".
    force
        Also when the night's ledger is not closed. What comes later is not ranked any more.

    Raises
    ------
    RankingError
        For a channel that is not there, or gives no such value.
    NightNotClosed
        When the night is not over, or not everything of it has been judged and delivered.
    BrokerError, KafkaException
        When the broker does not answer.
    """
    if name not in config.ranked:
        known = ", ".join(sorted(config.ranked)) or "none"
        raise RankingError(f"no ranked channel {name} (there are: {known})", hint="[ranked.NAME] makes one")
    ranked = config.ranked[name]
    source = _source(config, ranked.of)
    target = topic_of(name, "collaboration" if source.startswith(COLLABORATION_PREFIX) else "public")
    servers, kafka = config.bootstrap_servers, config.client
    ensure_topics(servers, [target], partitions=1, config=SIZED, **kafka)
    ensure_topics(servers, [RANKED_TOPIC], partitions=1, config=RANKED_SETTINGS, **kafka)
    producer = Producer(
        {
            **paced_settings(client_settings(servers, **kafka)),
            "transactional.id": f"zads-ranked/{name}",
            "message.max.bytes": MESSAGE_MAX_BYTES,
        }
    )
    fence(producer, _KAFKA_SECONDS)
    if (before := filled(config).get((name, night))) is not None:
        return Filled(name, night, before, now=False)
    if not force and (why := _unready(config, ranked.of, night)):
        raise NightNotClosed(
            f"the night {night} is not closed: {'; '.join(why)}",
            hint="try again later; --force ranks what is there, and what comes later has no rank",
        )
    chosen = _best(ranked, list(of_night(config, source, night)), ranked.of)
    _deliver(producer, target, name, night, chosen)
    return Filled(name, night, tuple(alert.candid or 0 for alert in chosen), now=True)


def _source(config: RunConfig, of: str) -> str:
    """The topic of the channel whose alerts are ranked."""
    there = topic_names(config.bootstrap_servers, **config.client)
    for prefix in (PUBLIC_PREFIX, COLLABORATION_PREFIX):
        if prefix + of in there:
            return prefix + of
    raise RankingError(f"channel {of} has delivered nothing yet: there is no topic of it to rank")


def filled(config: RunConfig) -> dict[tuple[str, str], tuple[int, ...]]:
    """(channel, night) -> the candids that were delivered, of nights that are done. Raises BrokerError."""
    records = everything_in(RANKED_TOPIC, config.bootstrap_servers, **config.client)
    every = [json.loads(record.raw) for record in records]
    return {(one["channel"], one["night"]): tuple(one["candids"]) for one in every}


def _key(name: str, night: str) -> bytes:
    return f"{name}|{night}".encode()


def _unready(config: RunConfig, of: str, night: str) -> list[str]:
    """Why a night cannot be ranked yet, a sentence each."""
    found = entries(config)
    if night not in nights_of(found):
        why = [f"group {config.group} has read nothing of it"]
    else:
        why = list(not_closed(of, closing_ledger(config, night, found)))
    if night >= (today := night_of_arrival(None)):
        why.insert(0, f"it is over when the date of UTC - 12 h is later, which is {today} now")
    return why


def closing_ledger(config: RunConfig, night: str, found: Sequence[Entry]) -> NightLedger:
    """The ledger of a night, with what waits in open exposures.

    Parameters
    ----------
    config
        The broker, and the group.
    night
        "2023-10-12".
    found
        All entries of the group.
    """
    told = ledger(config, night, found)
    told.in_open_exposures = dict(in_open_exposures(config, list(told.sources)))
    return told


def not_closed(of: str, told: NightLedger) -> Iterator[str]:
    """Why the ledger of a night is not closed for a channel, a sentence each.

    Parameters
    ----------
    of
        The channel.
    told
        As `closing_ledger` gives it.
    """
    yield from told.problems
    for topic, waiting in told.waiting.items():
        if waiting:
            yield f"{waiting:,} records of {topic} are not judged yet"
    for topic, waiting in told.in_open_exposures.items():
        if waiting:
            yield f"{waiting:,} records of {topic} wait for the rest of their exposures"
    gaps = told.channels[of].gaps if of in told.channels else 0
    if gaps:
        yield f"channel {of} has missed {gaps:,} records: `zads channel backfill {of}` delivers them"


def _best(ranking: Ranking, alerts: Sequence[Alert], of: str) -> list[Alert]:
    if alerts and not any(ranking.by in alert.values for alert in alerts):
        known = ", ".join(sorted({name for alert in alerts for name in alert.values})) or "none"
        raise RankingError(f"channel {of} gives no value {ranking.by!r} (it gives: {known})")
    every = [
        Ranked(alert.values.get(ranking.by), alert.candid or 0, alert.objectId or "", _place(alert))
        for alert in alerts
    ]
    return [alerts[number] for number in best(ranking, every)]


def _place(alert: Alert) -> tuple[str, int, int]:
    return alert.topic, alert.partition, alert.offset


def _deliver(producer: Producer, target: str, name: str, night: str, chosen: Sequence[Alert]) -> None:
    """All of them, and that the night is done, or nothing."""
    producer.begin_transaction()
    paced = Paced(producer)
    for rank, alert in enumerate(chosen, start=1):
        paced.produce(topic=target, key=alert.key, value=alert.raw, headers=_headers(alert, rank))
    done: dict[str, Any] = {"channel": name, "night": night, "candids": [alert.candid for alert in chosen]}
    paced.produce(topic=RANKED_TOPIC, key=_key(name, night), value=json.dumps(done).encode())
    paced.flush()
    producer.commit_transaction(_KAFKA_SECONDS)


def _headers(alert: Alert, rank: int) -> list[tuple[str, bytes]]:
    """Those that the alert had, but for its place in the ranking and the record that it was."""
    own = {**alert.headers, "source": "/".join(map(str, _place(alert))), "rank": str(rank)}
    return [(header, text.encode()) for header, text in own.items()]
