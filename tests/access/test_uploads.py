"""Files in parts: what is put together is the file or nothing, in any order, twice, and after a restart."""

from __future__ import annotations

import hashlib
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.access import uploads
from pipeline.access.lists import PART_BYTES, FilePart
from pipeline.access.uploads import KEPT_SECONDS, Missing, UploadError, Uploads, parts_of

OTHER = hashlib.sha256(b"other").hexdigest()


def parts(raw: bytes) -> tuple[str, list[FilePart]]:
    """The parts of a file, as if a record had room for four bytes."""
    sha256 = hashlib.sha256(raw).hexdigest()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uploads, "PART_BYTES", 4)
        return sha256, list(parts_of(raw, sha256))


@settings(max_examples=60, deadline=None)
@given(raw=st.binary(min_size=1, max_size=23), data=st.data())
def test_the_file_or_what_is_missing(raw: bytes, data: st.DataObject) -> None:
    """Whichever parts come, in whichever order and often, to a service that starts again each time."""
    sha256, every = parts(raw)
    sent = data.draw(st.lists(st.sampled_from(every), max_size=12))
    with tempfile.TemporaryDirectory() as folder:
        for part in sent:
            Uploads(Path(folder)).put("ann", part)
        missing = tuple(sorted({part.number for part in every} - {part.number for part in sent}))
        if missing:
            with pytest.raises(Missing) as raised:
                Uploads(Path(folder)).whole("ann", sha256, len(every))
            assert raised.value.parts == missing
        for part in every:
            Uploads(Path(folder)).put("ann", part)
        for _ in range(2):  # a request that comes twice finds it twice
            assert Uploads(Path(folder)).whole("ann", sha256, len(every)) == raw
        with pytest.raises(Missing):
            Uploads(Path(folder)).whole("ben", sha256, len(every))


def test_what_is_another_file_is_gone(tmp_path: Path) -> None:
    _, every = parts(b"0123456789")
    kept = Uploads(tmp_path)
    for part in every:
        kept.put("ann", part.model_copy(update={"sha256": OTHER}))
    with pytest.raises(UploadError, match="not the file that was named"):
        kept.whole("ann", OTHER, 3)
    with pytest.raises(Missing, match=r"3 of 3 parts .* \(1, 2, 3\)"):
        kept.whole("ann", OTHER, 3)
    with pytest.raises(UploadError, match="did not arrive"):
        kept.put("ann", every[0].model_copy(update={"data": "????"}))


def test_a_user_has_room_for_so_much(tmp_path: Path) -> None:
    """The same part again takes none; what has been used makes room; another user has a room of their own."""
    kept = Uploads(tmp_path, most=12)
    one, first = parts(b"0123456789")
    for part in [*first, *first]:
        kept.put("ann", part)
    _, second = parts(b"abcd")
    with pytest.raises(UploadError, match="MB of files in parts"):
        kept.put("ann", second[0])
    kept.put("ben", second[0])
    assert kept.whole("ann", one, 3) == b"0123456789"
    kept.put("ann", second[0])
    with pytest.raises(Missing):
        kept.whole("ann", one, 3)


def test_what_nobody_finishes_is_given_up_and_said(tmp_path: Path) -> None:
    """To its owner alone; what has been used goes without a word; what is new stays."""
    kept = Uploads(tmp_path)
    sha256, every = parts(b"0123456789")
    for part in every[:2]:
        kept.put("ann", part)
    used, (whole,) = parts(b"abc")
    kept.put("ben", whole)
    assert kept.whole("ben", used, 1) == b"abc"
    assert kept.expire() == []
    ((user, words),) = kept.expire(time.time() + KEPT_SECONDS + 60)
    assert user == "ann"
    assert "2 parts had come" in words
    assert sha256[:12] in words
    assert list(tmp_path.glob("*/*")) == []


def test_a_part_fits_into_a_record() -> None:
    from pipeline.access.requests import REQUEST_BYTES

    (part,) = parts_of(bytes(PART_BYTES), OTHER)
    assert len(part.model_dump_json()) < REQUEST_BYTES
