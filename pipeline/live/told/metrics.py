"""A live run as Prometheus sees it. What the names mean is in their help texts; times are in seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from pipeline.live.told.statistics import Statistics

_TAKEN = (
    ("memory_bytes", "Resident memory of each worker.", "memory"),
    ("handles", "Open files and sockets of each worker.", "handles"),
    ("threads", "Threads of each worker, those of librdkafka included.", "threads"),
    ("partitions", "Partitions that each worker holds.", "lanes"),
)


class RunMetrics(Collector):
    """Makes metrics of the statistics that a run gives, whenever they are asked for."""

    def __init__(self) -> None:
        self.statistics = Statistics()

    def update(self, statistics: Statistics) -> None:
        """Show these from now on."""
        self.statistics = statistics

    def collect(self) -> Iterator[Metric]:
        """All of them, also those that are zero."""
        now = self.statistics
        yield from _counts(now)
        yield from _by_channel(now)
        yield _counter("zads_dead_letters", "Records given up, by reason.", "reason", now.dead_letters)
        yield _counter(
            "zads_attempts_lost", "Batches redone, by what came between.", "outcome", now.attempts_lost
        )
        yield _counter(
            "zads_stage_seconds", "Time that the workers have spent, by stage.", "stage", now.seconds
        )
        yield _waited(now)
        yield from _state(now)


def _counts(now: Statistics) -> Iterator[Metric]:
    yield CounterMetricFamily("zads_records", "Records done.", now.records)
    yield CounterMetricFamily("zads_bytes", "Bytes of these records.", now.bytes)
    yield CounterMetricFamily("zads_alerts", "Alerts judged.", now.alerts)
    yield CounterMetricFamily("zads_batches", "Transactions committed.", now.batches)


def _by_channel(now: Statistics) -> Iterator[Metric]:
    delivered = {name: matches.alerts for name, matches in now.matches.items()}
    yield _counter("zads_delivered", "Alerts delivered, by channel.", "channel", delivered)
    yield _counter("zads_missed", "Records in gaps, by channel.", "channel", now.gaps)
    yield _counter("zads_filter_raised", "Alerts that a filter raised on.", "channel", now.filter_raised)
    yield _counter("zads_filter_seconds", "Time of a channel's filter.", "channel", now.filter_seconds)
    suspended = dict.fromkeys(_names(now), 0) | dict.fromkeys(now.suspended, 1)
    yield _gauge("zads_channel_suspended", "1: the channel does not run now.", "channel", suspended)


def _names(now: Statistics) -> list[str]:
    return [channel.name for channel in now.channels.channels] if now.channels else []


def _waited(now: Statistics) -> Metric:
    waited, below, buckets = now.waited, 0, []
    for edge, count in zip((*waited.EDGES, float("inf")), waited.counts, strict=True):
        below += count
        buckets.append(("+Inf" if edge == float("inf") else str(edge), below))
    words = "From the arrival of a batch's first record to its commit."
    return HistogramMetricFamily("zads_latency_seconds", words, buckets=buckets, sum_value=waited.sum)


def _state(now: Statistics) -> Iterator[Metric]:
    yield GaugeMetricFamily("zads_lag_records", "Offsets that wait, of all partitions.", now.lag)
    yield GaugeMetricFamily("zads_partitions", "Partitions that are this replica's.", now.partitions)
    words = "Partitions of which it is not known how much of them waits."
    yield GaugeMetricFamily("zads_partitions_unknown", words, now.unknown)
    yield GaugeMetricFamily(
        "zads_partitions_set_aside", "Partitions that cannot be read.", len(now.set_aside)
    )
    lost = len(now.lost) + len(now.deleted_unread)
    yield GaugeMetricFamily("zads_partitions_lost_records", "Partitions that lost records unread.", lost)
    yield GaugeMetricFamily("zads_workers", "Workers that are there.", now.workers)
    words = "Unix time of the last commit, 0: none yet."
    yield GaugeMetricFamily("zads_last_commit_timestamp_seconds", words, now.committed_at)
    for name, words, of in _TAKEN:
        each = {worker: getattr(taken, of) for worker, taken in now.taken.items()}
        yield _gauge(f"zads_worker_{name}", words, "worker", each)


def _counter(name: str, words: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(name, words, labels=[label])
    for value, count in list(values.items()):
        family.add_metric([value], count)
    return family


def _gauge(name: str, words: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, words, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family
