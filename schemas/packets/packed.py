"""What a file is, by its content: a packet, or an archive of packets in one of the usual compressions.

An archive is read as a stream: nothing of it is unpacked to disk, and no more than one packet of it is held
in memory here.
"""

from __future__ import annotations

import bz2
import io
import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple, cast

import pyarrow as pa
from isal import igzip_lib, igzip_threaded

from schemas.avro.framing import MAGIC
from schemas.errors import ZadsError

# Unzipping runs in a thread of its own, a few blocks of this size ahead.
_UNZIP_AHEAD = 1 << 18
# tarfile copies the rest of its block with each read: a larger one costs more than it saves.
_TAR_BLOCK = 1 << 15
_TOP_OF_TAR = tarfile.BLOCKSIZE
_LOOKS_PACKED = re.compile(r"\.(tar|tgz|tbz2?|txz|tzst|zip)\b", re.IGNORECASE)
_LONGEST_PACKET = 1 << 30

DAMAGE: tuple[type[Exception], ...] = (
    EOFError,
    zlib.error,
    igzip_lib.IsalError,  # type: ignore[assignment]  # its stub has no base class
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    OSError,
)
"""What a truncated or corrupt stream or archive raises."""


class NotUnderstood(ZadsError):
    """A file is neither a packet nor an archive that can be read."""


class Codec(NamedTuple):
    """A compression: what its files begin with, and how one is opened (None: it cannot be read here)."""

    name: str
    magic: bytes
    opened: Callable[[BinaryIO], Any] | None


def _of_arrow(codec: str) -> Callable[[BinaryIO], Any]:
    return lambda disk: pa.CompressedInputStream(pa.PythonFile(disk, "r"), codec)


CODECS = (
    Codec("gzip", b"\x1f\x8b", lambda disk: igzip_threaded.open(disk, "rb", block_size=_UNZIP_AHEAD)),
    Codec("bzip2", b"BZh", bz2.BZ2File),
    Codec("xz", b"\xfd7zXZ\x00", lzma.LZMAFile),
    Codec("zstd", b"\x28\xb5\x2f\xfd", _of_arrow("zstd")),
    Codec("lz4", b"\x04\x22\x4d\x18", _of_arrow("lz4")),
    Codec("7-Zip", b"7z\xbc\xaf\x27\x1c", None),
    Codec("RAR", b"Rar!", None),
    Codec("compress", b"\x1f\x9d", None),
    Codec("lzip", b"LZIP", None),
)
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")


class Packed(NamedTuple):
    """What a file holds. kind: "packet", "tar" or "zip"; codec: its compression, if any."""

    kind: str
    codec: Codec | None = None


def looks_packed(name: str) -> bool:
    """Whether a file's name is that of an archive: night.tar.gz, NIGHT.TGZ, night.tar.gz.1, …?download=1."""
    return bool(_LOOKS_PACKED.search(name))


def kind_of(file: Path) -> Packed:
    """What the file holds, by its first bytes; its name counts only where these leave it open.

    Raises NotUnderstood, OSError.
    """
    with file.open("rb") as disk:
        head = disk.read(_TOP_OF_TAR)
        if head.startswith(_ZIP):
            return Packed("zip")
        codec = next((codec for codec in CODECS if head.startswith(codec.magic)), None)
        if codec is not None:
            if codec.opened is None:
                hint = "pack it as .tar.gz, .tar.xz, .tar.bz2, .tar.zst or .zip"
                raise NotUnderstood(f"{file} is a {codec.name} file, which cannot be read", hint=hint)
            disk.seek(0)
            try:
                head = _read(codec.opened(disk), _TOP_OF_TAR)
            except DAMAGE:
                return Packed("tar", codec)  # the reader raises where it ends
    if _is_tar(head):
        return Packed("tar", codec)
    if head.startswith(MAGIC) or (codec is None and file.name.lower().endswith(".avro")):
        return Packed("packet", codec)
    if head[:1] == b"\0" and codec is None and not looks_packed(file.name):
        return Packed("packet")  # Confluent's framing
    if looks_packed(file.name) and len(head) < _TOP_OF_TAR:
        return Packed("tar", codec)
    inside = f"of {codec.name} data " if codec else ""
    raise NotUnderstood(
        f"{file} is neither an alert packet nor an archive of them: its content {inside}starts with"
        f" {head[:8]!r}",
        hint="a download that failed may hold an error page: look into it",
    )


def _read(content: Any, size: int) -> bytes:
    """The first bytes of a stream that may give fewer at a time."""
    with content:
        found = b""
        while len(found) < size and (block := content.read(size - len(found))):
            found += bytes(block)
        return found


def _is_tar(head: bytes) -> bool:
    """Whether this is the first block of a tar archive: a header with the right checksum, or its end."""
    if len(head) == tarfile.BLOCKSIZE and not head.strip(b"\0"):
        return True
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def members_of(disk: BinaryIO, packed: Packed) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file *.avro in an archive, in its order. Raises one of DAMAGE."""
    if packed.kind == "zip":
        yield from _of_zip(disk)
    else:
        yield from _of_tar(disk, packed.codec)


def packet_of(file: Path, packed: Packed) -> bytes:
    """The bytes of a file that holds one packet. Raises one of DAMAGE."""
    if packed.codec is None or packed.codec.opened is None:
        return file.read_bytes()
    with file.open("rb") as disk:
        return _read(packed.codec.opened(disk), _LONGEST_PACKET)


def is_packet_name(path: str) -> bool:
    """Whether a member of a folder or archive counts as a packet: *.avro, not hidden."""
    name = path.rpartition("/")[2]
    return name.lower().endswith(".avro") and not name.startswith(".")


def _of_tar(disk: BinaryIO, codec: Codec | None) -> Iterator[tuple[str, bytes]]:
    content = disk if codec is None or codec.opened is None else codec.opened(disk)
    end = _Tail(content)
    try:
        with tarfile.open(fileobj=cast(IO[bytes], end), mode="r|", bufsize=_TAR_BLOCK) as tar:
            while (member := tar.next()) is not None:
                # tarfile remembers every member: a million of them would be a gigabyte.
                tar.members.clear()  # type: ignore[attr-defined]
                if member.isfile() and is_packet_name(member.name):
                    yield member.name, _content(tar, member)
    finally:
        content.close()
    # tarfile accepts an archive that is truncated between two members; a complete one ends in zeros.
    if end.tail.strip(b"\0"):
        raise EOFError("the end-of-archive mark is missing")


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    opened = tar.extractfile(member)
    raw = b"" if opened is None else opened.read()
    if len(raw) != member.size:
        raise EOFError(f"{member.name} has {len(raw)} of {member.size} bytes")
    return raw


def _of_zip(disk: BinaryIO) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(disk) as archive:
        for member in archive.infolist():
            if not member.is_dir() and is_packet_name(member.filename):
                yield member.filename, archive.read(member)


class _Tail(io.RawIOBase):
    """A readable file that remembers the last bytes it gave."""

    def __init__(self, content: Any) -> None:
        self._content = content
        self.tail = b""

    def read(self, size: int = -1) -> bytes:
        block = bytes(self._content.read(size))
        if block:
            self.tail = (self.tail + block)[-tarfile.BLOCKSIZE :]
        return block
