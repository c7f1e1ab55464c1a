"""Walking files, folders and tarballs; the oracle is what was written there."""

from __future__ import annotations

import gc
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.packets.files import NoSuchPackets, PacketFiles

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
    (tmp_path / "alert.bin").write_bytes(b"one")
    assert [packet.raw for packet in PacketFiles([tmp_path / "alert.bin"])] == [b"one"]


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
