"""The ledger of a night, read: does every record stand in it, once, and does it add up?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from pipeline.broker.client import admin_client
from pipeline.broker.listen import committed_ends, everything_in
from pipeline.broker.partition import Partition
from pipeline.broker.topics import partitions_of, topic_ids
from pipeline.channels.channel import COLLABORATION_PREFIX, PUBLIC_PREFIX
from pipeline.channels.config import RunConfig
from pipeline.channels.counts import ByChannel, ChannelCounts
from pipeline.channels.ledger import LEDGER_TOPIC, Entry, Page, entries_of

OF_CHANNELS = (PUBLIC_PREFIX, COLLABORATION_PREFIX)
"""How the topics of channels begin, which may be sources of others."""


@dataclass
class NightLedger:
    """One night of a group: source topic -> its counts and those of each channel that read it.

    waiting: source topic -> offsets that the group has not passed yet, of any night. in_open_exposures:
    source topic -> records that channels of whole exposures have not judged yet, of any night. problems: what
    does not add up, a sentence each.
    """

    night: str
    group: str
    sources: dict[str, Page] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)
    in_open_exposures: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def arrived(self, topics: Iterable[str] | None = None) -> int:
        """Records that were received, or deleted unread, in some topics; None: in all of the surveys."""
        chosen = [t for t in self.sources if not t.startswith(OF_CHANNELS)] if topics is None else topics
        counts = [self.sources[topic].source for topic in chosen]
        return sum(one.received + one.lost for one in counts)

    @property
    def channels(self) -> dict[str, ChannelCounts]:
        """Over all sources."""
        whole = ByChannel()
        for page in self.sources.values():
            whole.add(page.channels)
        return dict(sorted(whole.items()))


def entries(config: RunConfig) -> list[Entry]:
    """The entries of the group of `config`, and of its channels of whole exposures. Raises BrokerError."""
    told = everything_in(LEDGER_TOPIC, config.bootstrap_servers, **config.client)
    found = entries_of((record.key or b"", record.raw) for record in told)
    groups = (config.group, f"{config.group}-exposures")
    return [entry for entry in found if entry.group in groups]


def nights_of(found: Iterable[Entry]) -> list[str]:
    """The nights that stand in these entries."""
    return sorted({night for entry in found for night in entry.pages})


def ledger(config: RunConfig, night: str, found: Sequence[Entry]) -> NightLedger:
    """The counts of a night, and what does not add up in them.

    Parameters
    ----------
    config : RunConfig
        Its group.
    night : str
        "2023-10-12".
    found : sequence of Entry
        All of the group.

    Returns
    -------
    NightLedger
    """
    told = NightLedger(night, config.group)
    for entry in found:
        if night in entry.pages:
            told.sources.setdefault(entry.topic, Page()).add(entry.pages[night])
    for topic, page in told.sources.items():
        told.problems += [f"{topic}: {words}" for words in page.source.imbalances]
        for name, counts in page.channels.items():
            told.problems += [f"channel {name}, {topic}: {words}" for words in counts.imbalances]
    told.problems += _untiled([e for e in found if e.kind == "live" and e.topic in told.sources])
    told.waiting = _waiting(config, [e for e in found if e.topic in told.sources])
    return told


def _by_log(found: Iterable[Entry]) -> dict[tuple[Partition, str], list[Entry]]:
    """The entries of each partition of each topic that had the name."""
    logs = defaultdict(list)
    for entry in found:
        logs[entry.source, entry.topic_id].append(entry)
    return {log: sorted(some, key=lambda entry: (entry.low, entry.high)) for log, some in logs.items()}


def _untiled(found: Iterable[Entry]) -> list[str]:
    """Offsets that stand in no entry or in two: the group's offset was moved by somebody else."""
    words = []
    for (source, _), some in sorted(_by_log(found).items()):
        for before, after in pairwise(some):
            if after.low > before.high:
                words.append(f"{source}: offsets {before.high} to {after.low - 1} stand in no entry")
            if after.low < before.high:
                words.append(
                    f"{source}: offsets {after.low} to {before.high - 1} stand in two entries: "
                    "they were delivered twice, or the log was cut there and written again"
                )
    return words


def _waiting(config: RunConfig, found: Sequence[Entry]) -> dict[str, int]:
    """Offsets after the last entry of each partition of these topics."""
    bootstrap, kafka = config.bootstrap_servers, config.client
    admin = admin_client(bootstrap, **kafka)
    ids = topic_ids(admin, sorted({entry.topic for entry in found}))
    reached: Counter[Partition] = Counter()
    for entry in found:
        if entry.kind == "live" and ids.get(entry.topic) == entry.topic_id:
            reached[entry.source] = max(reached[entry.source], entry.high)
    ends = committed_ends(bootstrap, partitions_of(admin, sorted(ids)), **kafka)
    waiting: Counter[str] = Counter()
    for (topic, number), end in ends.items():
        waiting[topic] += max(0, end - reached[Partition(topic, number)])
    return dict(waiting)
