"""Alert packets on disk: files, folders, and the survey's nightly tarballs, which are read as streams.

A nightly tarball holds up to a million files; nothing of it is unpacked to disk, and no more than one
packet of it is held in memory here.
"""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, BinaryIO, cast

from isal import igzip_lib, igzip_threaded

from schemas.errors import ZadsError

_GZIP = b"\x1f\x8b"
_TARBALLS = (".tar.gz", ".tgz", ".tar")
# Unzipping runs in a thread of its own, a few blocks of this size ahead.
_UNZIP_AHEAD = 1 << 18
# tarfile copies the rest of its block with each read: a larger one costs more than it saves.
_TAR_BLOCK = 1 << 15
# What a truncated or corrupt gzip stream or tar archive raises.
_DAMAGE: tuple[type[Exception], ...] = (
    EOFError,
    zlib.error,
    igzip_lib.IsalError,  # type: ignore[assignment]  # its stub has no base class
    tarfile.TarError,
    OSError,
)


class NoSuchPackets(ZadsError):
    """A path that is not there, or a folder without a packet."""


@dataclass(frozen=True)
class PacketFile:
    """One file's bytes; name: its path, within a tarball "night.tar.gz:123.avro"."""

    name: str
    raw: bytes = field(repr=False)


class PacketFiles:
    """All packet files at `paths`, in order of name within a folder: folders recursively, tarballs streamed.

    In folders and tarballs the files named *.avro count; a file that is named itself is taken as it is.
    While it is iterated: `read_bytes` of `total_bytes` on disk have been read; `damaged` holds a sentence
    for each tarball that ended early or is corrupt, whose packets up to there were given all the same.

    Raises NoSuchPackets, before anything is read, when a path is missing or a folder holds none.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self.damaged: list[str] = []
        self.read_bytes = 0
        self._files = [file for path in paths for file in _files_at(Path(path))]
        self.total_bytes = sum(file.stat().st_size for file in self._files)

    @property
    def files(self) -> list[Path]:
        """The packet files and tarballs themselves, in the order in which they are read."""
        return list(self._files)

    def __iter__(self) -> Iterator[PacketFile]:
        for file in self._files:
            if is_tarball(file):
                yield from self._members(file)
            else:
                raw = file.read_bytes()
                self.read_bytes += len(raw)
                yield PacketFile(str(file), raw)

    def _members(self, file: Path) -> Iterator[PacketFile]:
        before, given, last = self.read_bytes, 0, "its start"
        with file.open("rb") as disk:
            try:
                for packet in _packets_in(disk, file):
                    self.read_bytes = before + disk.tell()
                    yield packet
                    given, last = given + 1, packet.name.rpartition(":")[2]
            except _DAMAGE as error:
                where = f"after {last} ({given} packets read)"
                self.damaged.append(f"{file} is truncated or corrupt {where}: {error}")
        self.read_bytes = before + file.stat().st_size


def _files_at(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if _counts(file) and file.is_file())
        if not files:
            looked_for = ", ".join(f"*{suffix}" for suffix in (".avro", *_TARBALLS))
            raise NoSuchPackets(f"no packet in the folder {path} (looked for {looked_for})")
        return files
    if not path.exists():
        raise NoSuchPackets(f"no file or folder at {path}")
    return [path]


def _counts(file: Path) -> bool:
    return file.name.endswith((".avro", *_TARBALLS)) and not file.name.startswith(".")


def is_tarball(file: Path) -> bool:
    """Whether the file is read as a tarball, by its name."""
    return file.name.endswith(_TARBALLS)


def _packets_in(disk: BinaryIO, file: Path) -> Iterator[PacketFile]:
    """The *.avro members of a tar archive, gzipped or not, in the archive's order."""
    zipped = disk.read(2) == _GZIP
    disk.seek(0)
    content = igzip_threaded.open(disk, "rb", block_size=_UNZIP_AHEAD) if zipped else disk
    end = _Tail(content)
    try:
        with tarfile.open(fileobj=cast(IO[bytes], end), mode="r|", bufsize=_TAR_BLOCK) as tar:
            while (member := tar.next()) is not None:
                # tarfile remembers every member: a million of them would be a gigabyte.
                tar.members.clear()  # type: ignore[attr-defined]
                if member.isfile() and member.name.endswith(".avro") and _counts(Path(member.name)):
                    yield PacketFile(f"{file}:{member.name}", _content(tar, member))
    finally:
        content.close()
    # tarfile takes an archive cut between two members for a whole one; a whole one ends in zeros.
    if end.tail.strip(b"\0"):
        raise EOFError("the end-of-archive mark is missing")


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    opened = tar.extractfile(member)
    raw = b"" if opened is None else opened.read()
    if len(raw) != member.size:
        raise EOFError(f"{member.name} has {len(raw)} of {member.size} bytes")
    return raw


class _Tail(io.RawIOBase):
    """A readable file that remembers the last bytes it gave."""

    def __init__(self, content: BinaryIO) -> None:
        self._content = content
        self.tail = b""

    def read(self, size: int = -1) -> bytes:
        block = self._content.read(size)
        if block:
            self.tail = block[-tarfile.BLOCKSIZE :]
        return block
