"""Walking files, folders and tarballs; the oracle is what was written there."""

from __future__ import annotations

import bz2
import gc
import gzip
import io
import lzma
import random
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.packets.files import NoSuchPackets, PacketFiles
from schemas.packets.packed import NotUnderstood

CONTENTS = [bytes([n]) * (3_000 * n + 17) for n in range(1, 13)]


def tarball(path: Path, mode: str, contents: list[bytes] = CONTENTS) -> Path:
    """A nightly tarball as the survey makes it: a folder with <candid>.avro files, and something else."""
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        tar.addfile(tarfile.TarInfo("notes.txt"))
        for number, content in enumerate(contents):
            member = tarfile.TarInfo(f"night/{number:04d}.avro")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    ("name", "mode"), [("night.tar.gz", "w:gz"), ("night.tgz", "w:gz"), ("night.tar", "w")]
)
def test_a_tarball_gives_its_packets_in_order(tmp_path: Path, name: str, mode: str) -> None:
    file = tarball(tmp_path / name, mode)
    files = PacketFiles([file])
    found = list(files)
    assert [packet.raw for packet in found] == CONTENTS
    assert found[3].name == f"{file}:night/0003.avro"
    assert files.damaged == []
    assert files.read_bytes == files.total_bytes == file.stat().st_size


def test_a_night_without_alerts_is_an_empty_tarball(tmp_path: Path) -> None:
    files = PacketFiles([tarball(tmp_path / "none.tar.gz", "w:gz", [])])
    assert list(files) == []
    assert files.damaged == []


def test_a_folder_is_walked_with_everything_in_it(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "2.avro").write_bytes(b"two")
    (tmp_path / "a.avro").write_bytes(b"one")
    (tmp_path / ".hidden.avro").write_bytes(b"a file that another program is still writing")
    (tmp_path / "readme.txt").write_bytes(b"no packet")
    tarball(tmp_path / "c.tar.gz", "w:gz", [b"three"])
    files = PacketFiles([tmp_path])
    assert [packet.raw for packet in files] == [b"one", b"two", b"three"]
    assert files.read_bytes == files.total_bytes


def test_a_file_that_is_named_is_taken_whatever_its_name(tmp_path: Path) -> None:
    for content in (b"Obj\x01 and more", b"\0\0\0\2\xbd Confluent"):
        (tmp_path / "alert.bin").write_bytes(content)
        assert [packet.raw for packet in PacketFiles([tmp_path / "alert.bin"])] == [content]
    (tmp_path / "alert.avro").write_bytes(b"anything: the reader says what is wrong with it")
    assert len(list(PacketFiles([tmp_path / "alert.avro"]))) == 1


def zipped(raw: bytes) -> bytes:
    """A zip archive with the members of a tar archive."""
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(raw)) as tar,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for member in tar.getmembers():
            archive.writestr(member.name, tar.extractfile(member).read())
    return out.getvalue()


def streamed(raw: bytes, codec: str) -> bytes:
    """Compressed by Arrow, in its streaming form."""
    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, codec) as stream:
        stream.write(raw)
    return out.getvalue().to_pybytes()


PACKED = {
    "none": bytes,
    "gzip": gzip.compress,
    "gzip, two members": lambda raw: gzip.compress(raw[:9000]) + gzip.compress(raw[9000:]),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda raw: streamed(raw, "zstd"),
    "lz4": lambda raw: streamed(raw, "lz4"),
    "zip": zipped,
}
NAMES = [
    "n.tar.gz",
    "n.tar.bz2",
    "n.tar.xz",
    "N.TAR.GZ",
    "n.tar.gz.1",
    "n.tgz?download=1",
    "n.tar",
    "night",
    "n.zip",
]


@pytest.mark.parametrize("how", PACKED)
@pytest.mark.parametrize("name", NAMES)
def test_an_archive_of_any_name_in_any_compression(tmp_path: Path, how: str, name: str) -> None:
    (tmp_path / "in").mkdir()
    file = tmp_path / "in" / name
    file.write_bytes(PACKED[how](tarball(tmp_path / "whole", "w").read_bytes()))
    for place in (file, file.parent):
        files = PacketFiles([place])
        assert files.archives == [file]
        assert [packet.raw for packet in files] == CONTENTS
        assert files.damaged == []
        assert files.read_bytes == files.total_bytes == file.stat().st_size


@pytest.mark.parametrize("how", ["gzip", "bzip2", "xz", "zstd", "lz4"])
def test_a_packed_archive_is_streamed(tmp_path: Path, how: str) -> None:
    """Of an archive of 60 MB no more than a few are ever in memory."""
    member, count = random.Random(1).randbytes(1 << 20), 60
    file = tmp_path / "night.packed"
    file.write_bytes(PACKED[how](tarball(tmp_path / "whole", "w", [member] * count).read_bytes()))
    files = iter(PacketFiles([file]))
    next(files)
    tracemalloc.start()
    assert sum(len(packet.raw) for packet in files) == (count - 1) << 20
    assert tracemalloc.get_traced_memory()[1] < 12 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("how", ["gzip", "bzip2", "xz", "zstd", "zip", "none"])
def test_an_archive_cut_short_says_so(tmp_path: Path, how: str) -> None:
    raw = PACKED[how](tarball(tmp_path / "whole", "w").read_bytes())
    for fraction in (0.0, 0.01, 0.5, 0.9):
        file = tmp_path / "night.tar.xz"
        file.write_bytes(raw[: int(fraction * len(raw))])
        files = PacketFiles([file])
        found = [packet.raw for packet in files]
        assert found == CONTENTS[: len(found)]
        assert len(files.damaged) == 1, fraction


def test_one_packed_packet_is_unpacked(tmp_path: Path) -> None:
    file = tmp_path / "1.avro.gz"
    file.write_bytes(gzip.compress(b"Obj\x01 and more"))
    assert [packet.raw for packet in PacketFiles([file])] == [b"Obj\x01 and more"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("night.tar.gz", b"<html>" + b"Not found. " * 100),
        ("night.7z", b"7z\xbc\xaf\x27\x1c" + bytes(600)),
        ("night.tar.Z", b"\x1f\x9d\x90" + bytes(600)),
        ("notes.gz", gzip.compress(b"some words", mtime=0)),
        ("notes.txt", b"some words"),
        ("nothing", b""),
    ],
)
def test_what_is_not_understood_is_refused_before_anything_is_read(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(NotUnderstood, match=name):
        PacketFiles([tmp_path / name])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fraction=st.floats(0, 1, exclude_max=True), name=st.sampled_from(["cut.tar.gz", "cut.tar"]))
def test_a_truncated_tarball_keeps_what_came_before_and_says_so(
    tmp_path: Path, fraction: float, name: str
) -> None:
    whole = tarball(tmp_path / "whole", "w:gz" if name.endswith("gz") else "w")
    raw = whole.read_bytes()
    # What follows the last packet in an uncompressed archive is padding, which nobody misses.
    end = len(raw)
    if name.endswith("tar"):
        with tarfile.open(whole) as tar:
            end = tar.getmembers()[-1].offset_data + len(CONTENTS[-1])
    (tmp_path / name).write_bytes(raw[: int(fraction * end)])
    files = PacketFiles([tmp_path / name])
    found = [packet.raw for packet in files]
    assert found == CONTENTS[: len(found)]
    assert len(files.damaged) == 1
    assert name in files.damaged[0]
    assert f"{len(found)} packets" in files.damaged[0]


def test_a_damaged_tarball_does_not_keep_the_next_from_being_read(tmp_path: Path) -> None:
    (tmp_path / "1.tar.gz").write_bytes(b"no gzip at all")
    tarball(tmp_path / "2.tar.gz", "w:gz")
    files = PacketFiles([tmp_path])
    assert [packet.raw for packet in files] == CONTENTS
    assert len(files.damaged) == 1


def test_a_path_that_is_not_there_is_told_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(NoSuchPackets, match="nowhere"):
        PacketFiles([tarball(tmp_path / "night.tar", "w"), tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoSuchPackets, match="no packet in the folder"):
        PacketFiles([tmp_path / "empty"])


def test_memory_does_not_grow_with_the_tarball(tmp_path: Path) -> None:
    file = tarball(tmp_path / "night.tar.gz", "w:gz", [b"alert"] * 500)
    for packet in PacketFiles([file]):
        if packet.name.endswith("0499.avro"):
            remembered = sum(isinstance(thing, tarfile.TarInfo) for thing in gc.get_objects())
    # tarfile by itself remembers each member: a gigabyte for a million alerts.
    assert remembered < 5


@pytest.mark.parametrize("size", [20_480, 1_000_000])
def test_a_file_of_zeros_is_said(tmp_path: Path, size: int) -> None:
    """It looks like an empty tar archive, and is what a full disk leaves behind."""
    (tmp_path / "night.tar").write_bytes(bytes(size))
    files = PacketFiles([tmp_path / "night.tar"])
    assert list(files) == []
    assert "nothing but zeros" in files.damaged[0]
