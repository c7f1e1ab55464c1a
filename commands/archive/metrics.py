"""`zads archive follow` as Prometheus sees it."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from archive.write.appender import Appended
from pipeline.clients.following.keeper import Followed


class FollowMetrics(Collector):
    """Makes metrics of how far a follower and its appender are, whenever they are asked for."""

    def __init__(self) -> None:
        self._followed, self._appended = Followed(), Appended()

    def update(self, followed: Followed, appended: Appended) -> None:
        """Show these from now on."""
        self._followed, self._appended = followed, appended

    def collect(self) -> Iterator[Metric]:
        """All of them, also those that are zero."""
        read, kept = self._followed, self._appended
        yield CounterMetricFamily("zads_archive_read", "Records read.", read.read)
        yield CounterMetricFamily("zads_archive_kept", "Alerts kept.", kept.kept)
        yield CounterMetricFamily("zads_archive_quarantined", "Packets quarantined.", kept.quarantined)
        yield CounterMetricFamily("zads_archive_commits", "Commits to the tables.", kept.commits)
        yield CounterMetricFamily("zads_archive_bytes", "Bytes written.", kept.bytes)
        yield GaugeMetricFamily(
            "zads_archive_partitions", "Partitions that are this replica's.", read.partitions
        )
        words = "Partitions that lost records before they were kept."
        yield GaugeMetricFamily("zads_archive_partitions_lost_records", words, len(read.lost))
