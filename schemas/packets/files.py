"""Alert packets on disk: files, folders, and archives of them, which are read as streams.

A nightly archive holds up to a million files; nothing of it is unpacked to disk, and no more than one packet
of it is held in memory here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from schemas.errors import ZadsError
from schemas.packets.packed import (
    DAMAGE,
    NotUnderstood,
    Packed,
    is_packet_name,
    kind_of,
    looks_packed,
    members_of,
    packet_of,
)

_PACKET = Packed("packet")


class NoSuchPackets(ZadsError):
    """A path that is not there, or a folder without a packet."""


@dataclass(frozen=True)
class PacketFile:
    """One file's bytes; name: its path, within a tarball "night.tar.gz:123.avro"."""

    name: str
    raw: bytes = field(repr=False)


_EMPTY_TAR = 10_240
"""Bytes of a tar archive without members, as tar writes it: a night without alerts."""


class PacketFiles:
    """All packet files at `paths`, in order of name within a folder: folders recursively, archives streamed.

    An archive is known by its content (tar, gzipped or in another compression, or zip), whatever its name. In
    folders and archives the files named *.avro count, and in folders the archives; a file that is named
    itself is taken as it is. While it is iterated: `read_bytes` of `total_bytes` on disk have been read;
    `damaged` holds a sentence for each archive that ended early, is corrupt (its packets up to there were
    given all the same) or holds only zeros.

    Raises NoSuchPackets, before anything is read, when a path is missing or a folder holds none;
    NotUnderstood for a named file that is neither a packet nor an archive.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self.damaged: list[str] = []
        self.read_bytes = 0
        self._files = [found for path in paths for found in _files_at(Path(path))]
        self.total_bytes = sum(file.stat().st_size for file, _ in self._files)

    @property
    def files(self) -> list[Path]:
        """The packet files and archives themselves, in the order in which they are read."""
        return [file for file, _ in self._files]

    @property
    def archives(self) -> list[Path]:
        """Those of them that are archives."""
        return [file for file, packed in self._files if packed.kind != "packet"]

    def __iter__(self) -> Iterator[PacketFile]:
        for file, packed in self._files:
            if packed.kind != "packet":
                yield from self._members(file, packed)
                continue
            try:
                raw = packet_of(file, packed)
            except DAMAGE as error:
                if packed.codec is None:
                    raise
                self.damaged.append(f"{file} is truncated or corrupt: {error}")
            else:
                yield PacketFile(str(file), raw)
            self.read_bytes += file.stat().st_size

    def _members(self, file: Path, packed: Packed) -> Iterator[PacketFile]:
        before, given, last = self.read_bytes, 0, "its start"
        with file.open("rb") as disk:
            try:
                for name, raw in members_of(disk, packed):
                    self.read_bytes = before + disk.tell()
                    yield PacketFile(f"{file}:{name}", raw)
                    given, last = given + 1, name
            except DAMAGE as error:
                where = f"after {last} ({given} packets read)"
                self.damaged.append(f"{file} is truncated or corrupt {where}: {error}")
            else:
                if not given and packed.codec is None and file.stat().st_size > _EMPTY_TAR:
                    self.damaged.append(f"{file} holds nothing but zeros: was the disk full?")
        self.read_bytes = before + file.stat().st_size


def _files_at(path: Path) -> list[tuple[Path, Packed]]:
    if path.is_dir():
        files = [found for file in sorted(path.rglob("*")) if (found := _in_folder(file)) is not None]
        if not files:
            raise NoSuchPackets(f"no packet in the folder {path} (looked for *.avro and archives of them)")
        return files
    if not path.exists():
        raise NoSuchPackets(f"no file or folder at {path}")
    return [(path, kind_of(path))]


def _in_folder(file: Path) -> tuple[Path, Packed] | None:
    """A file of a folder, if it counts: a folder may also hold other files."""
    if file.name.startswith(".") or not file.is_file():
        return None
    if is_packet_name(file.name):
        return file, _PACKET
    try:
        packed = kind_of(file)
    except NotUnderstood:
        if looks_packed(file.name):
            raise
        return None
    return (file, packed) if packed.kind != "packet" else None
