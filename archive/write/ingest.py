"""Packets on disk into the archive: files, folders and nightly tarballs, each packet once.

A second run gives the same rows, even if the first was interrupted anywhere: a packet is known by
candid and content, and what is there already is skipped. On Dask each tarball, and each few thousand loose
files, is read by the worker that stores it, so that no packet travels; a worker that dies leaves nothing
that counts, and its share is done again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from archive.write.intake import Intakes
from archive.write.summary import Summary, from_plain, total
from schemas.avro.framing import SchemaSource
from schemas.packets.files import PacketFiles

__all__ = ["Summary", "ingest"]

_LOOSE_FILES = 5_000  # of a folder, in one share
_ATTEMPTS = 3
_TELL_SECONDS = 0.5
_TOPIC = "zads-ingest"

Progress = Callable[[Summary], None]


def ingest(
    paths: str | Path | Sequence[str | Path],
    archive: str | Path,
    survey: str | None = None,
    client: Any = None,
    schemas: SchemaSource | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Keep the packets of files, folders (recursively) and tarballs (streamed), each once.

    Parameters
    ----------
    paths
        Files, folders, tarballs; one or several.
    archive
        Folder or object-store address.
    survey
        Only this one's packets; where left out each survey's packets go to a table of its own.
    client
        A `distributed.Client` whose workers reach both the packets and the archive under the same paths;
        without one, threads of this process do the work.
    schemas
        Where the schemas of packets with Confluent framing are.
    progress
        Is told now and then how far it is.

    Returns
    -------
    Summary
        What was kept; what cannot be kept is in the quarantine with its reason.

    Raises
    ------
    NoSuchPackets
        For a path that is not there.
    NoSchemaSource
        When a registry does not answer.
    """
    files = PacketFiles([paths] if isinstance(paths, (str, Path)) else paths)
    tell = progress or (lambda _: None)
    if client is not None:
        return _Shares(client, files, str(archive), survey, schemas, tell).run()
    intake = Intakes(str(archive), survey, schemas)
    intake.summary.total_bytes = files.total_bytes
    return intake.take(files, tell)


def take_share(
    number: int, paths: list[Path], archive: str, survey: str | None, schemas: SchemaSource | None
) -> Summary:
    """Ingest one worker's share of the files; progress is reported through Dask's events.

    Parameters
    ----------
    number
        Number of the share.
    paths
        Packet files.
    archive
        Address of the archive.
    survey
        The survey whose table the packets go to; None: each goes to the table of its own survey.
    schemas
        Where the schemas of packets with Confluent framing are looked up.

    Raises
    ------
    NoSchemaSource
        When a registry does not answer.
    """
    from distributed import get_worker

    worker, told = get_worker(), 0.0

    def tell(summary: Summary) -> None:
        nonlocal told
        if time.monotonic() - told > _TELL_SECONDS:
            worker.log_event(_TOPIC, {"share": number, **summary.plain()})
            told = time.monotonic()

    return Intakes(archive, survey, schemas).take(PacketFiles(paths), tell)


class _Shares:
    """The files distributed over the workers of a Dask cluster."""

    def __init__(
        self,
        client: Any,
        files: PacketFiles,
        archive: str,
        survey: str | None,
        schemas: SchemaSource | None,
        tell: Progress,
    ) -> None:
        self._client, self._files, self._tell = client, files, tell
        self._arguments = (archive, survey, schemas)
        self._began = time.monotonic()
        self._summaries: dict[int, Summary] = {}

    def run(self) -> Summary:
        """Do all of them; raises what a share raised, once the others have been cancelled."""
        from distributed import as_completed
        from distributed.scheduler import KilledWorker

        shares = list(_shares(self._files))
        self._client.subscribe_topic(_TOPIC, self._hear)
        futures = {self._submit(number, share): (number, 1) for number, share in enumerate(shares)}
        waiting = as_completed(list(futures))
        try:
            for future in waiting:
                number, attempt = futures.pop(future)
                try:
                    self._summaries[number] = future.result()
                except KilledWorker:
                    if attempt == _ATTEMPTS:
                        raise
                    again = self._submit(number, shares[number])
                    futures[again] = (number, attempt + 1)
                    waiting.add(again)
                self._tell(self._total())
        finally:
            self._client.cancel(list(futures))
            self._client.unsubscribe_topic(_TOPIC)
        return self._total()

    def _submit(self, number: int, share: list[Path]) -> Any:
        return self._client.submit(take_share, number, share, *self._arguments, pure=False)

    def _hear(self, event: tuple[float, dict[str, Any]]) -> None:
        values = dict(event[1])
        self._summaries[values.pop("share")] = from_plain(values)
        self._tell(self._total())

    def _total(self) -> Summary:
        seconds = time.monotonic() - self._began
        return total(list(self._summaries.values()), self._files.total_bytes, seconds)


def _shares(files: PacketFiles) -> Iterator[list[Path]]:
    """Each tarball is a share of its own; loose files are shares of some thousands."""
    loose: list[Path] = []
    archives = set(files.archives)
    for file in files.files:
        if file in archives:
            yield [file]
            continue
        loose.append(file)
        if len(loose) == _LOOSE_FILES:
            yield loose
            loose = []
    if loose:
        yield loose
