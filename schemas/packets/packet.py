"""One packet for people: plain dictionaries, its schema, its stamps as pixels."""

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from isal import igzip_lib, isal_zlib

from schemas.avro.fallback import records_of
from schemas.avro.framing import SchemaSource, frame
from schemas.errors import CorruptValue, NoSuchColumn, TooLarge, Truncated

STAMPS = ("Science", "Template", "Difference")
MAX_STAMP_BYTES = 1 << 24
"""Largest stamp after decompression, 16 MiB; a ZTF stamp has 18 kB (63 x 63 pixels)."""

_GZIP = b"\x1f\x8b"
_CARD, _FITS_BLOCK = 80, 2880


def read_packet(
    raw: bytes | str | Path, schemas: SchemaSource | None = None, bare: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """The records of a packet (most have one); values are as stored: sentinels stay, stamps are bytes.

    Parameters
    ----------
    raw
        The packet's bytes, or the path of a file.
    schemas
        Where the schemas of packets with Confluent framing are.
    bare
        The schema of a packet without any framing.

    Raises
    ------
    PacketError
        For what cannot be read.
    OSError
        For a file that cannot be opened.
    """
    return records_of(frame(_bytes(raw), schemas, bare))


def packet_schema(raw: bytes | str | Path, schemas: SchemaSource | None = None) -> Mapping[str, Any]:
    """The schema that a packet was written with, as it came. Raises PacketError; OSError."""
    schema: Mapping[str, Any] = frame(_bytes(raw), schemas).writer.schema
    return schema


def packet_survey(raw: bytes | str | Path, schemas: SchemaSource | None = None) -> str:
    """Whose packet this is: "ztf", "lsst", ... or "unknown". Raises PacketError; OSError."""
    return frame(_bytes(raw), schemas).writer.survey


def _bytes(raw: bytes | str | Path) -> bytes:
    return Path(raw).read_bytes() if isinstance(raw, str | Path) else bytes(raw)


def stamp(packet: Mapping[str, Any], which: str = "Difference") -> np.ndarray:
    """The pixels of a stamp: float32, shape (rows, columns), NaN where there is no measurement.

    which: "Science", "Template" or "Difference". ZTF stamps are gzipped FITS, Rubin's plain FITS.
    Raises NoSuchColumn when the packet has no such stamp, PacketError when it is no image.
    """
    name = _stamp_name(packet, which)
    if name is None:
        there = [key for key, value in packet.items() if key.startswith("cutout") and value]
        raise NoSuchColumn(f"cutout{which}", there, what="stamp")
    return pixels(_stamp_data(packet, name))


def stamp_bytes(packet: Mapping[str, Any], which: str = "Difference") -> bytes | None:
    """The FITS file of a stamp, unpacked; None when the packet has none. Raises PacketError."""
    name = _stamp_name(packet, which)
    if name is None:
        return None
    data = _stamp_data(packet, name)
    return _gunzipped(data) if data.startswith(_GZIP) else data


def _stamp_name(packet: Mapping[str, Any], which: str) -> str | None:
    spellings = which, f"cutout{which}", f"cutout_{which.lower()}"
    return next((spelling for spelling in spellings if packet.get(spelling)), None)


def _stamp_data(packet: Mapping[str, Any], name: str) -> bytes:
    cutout = packet[name]
    data = cutout.get("stampData") if isinstance(cutout, Mapping) else cutout
    if not isinstance(data, bytes):
        raise CorruptValue(f"{name} has no stampData")
    return data


def pixels(data: bytes) -> np.ndarray:
    """The image in FITS bytes, gzipped or not: float32, shape (rows, columns). Raises PacketError."""
    if data.startswith(_GZIP):
        data = _gunzipped(data)
    image = _simple_image(data)
    return image if image is not None else _any_image(data)


def planes(data: bytes) -> list[tuple[dict[bytes, bytes], np.ndarray]]:
    """All images of a plain FITS file of float images, such as Rubin's: the cards and the pixels of each.

    Raises PacketError for a file that ends too early or holds anything else.
    """
    found, at = [], 0
    while at < len(data) and data[at : at + _FITS_BLOCK].strip(b" \0"):
        end = data.find(b"END".ljust(_CARD), at)
        if end < 0 or (end - at) % _CARD:
            raise CorruptValue("the stamp has a FITS header without an end")
        cards = {data[i : i + 8].strip(): data[i + 10 : i + 30].strip() for i in range(at, end, _CARD)}
        start = at + -(-(end - at + _CARD) // _FITS_BLOCK) * _FITS_BLOCK
        image = _float_image(data, cards, start)
        found.append((cards, image))
        at = start + -(-image.nbytes // _FITS_BLOCK) * _FITS_BLOCK
    return found


def _float_image(data: bytes, cards: dict[bytes, bytes], start: int) -> np.ndarray:
    kinds = {b"-32": ">f4", b"-64": ">f8"}
    try:
        shape = int(cards[b"NAXIS2"]), int(cards[b"NAXIS1"])
        kind = np.dtype(kinds[cards[b"BITPIX"]])
    except (KeyError, ValueError) as error:
        raise CorruptValue(f"the stamp has an image without {error} that is known") from None
    count = shape[0] * shape[1]
    if min(shape) < 1 or count > MAX_STAMP_BYTES or start + kind.itemsize * count > len(data):
        raise CorruptValue(f"the stamp ends before its image of {shape} does")
    return np.frombuffer(data, kind, count, start).reshape(shape)


def _gunzipped(data: bytes) -> bytes:
    """All members of a gzip stream (RFC 1952, 2.2), end to end; what follows them is left out."""
    out = b""
    while data.startswith(_GZIP):
        stream = isal_zlib.decompressobj(wbits=31)
        try:
            out += stream.decompress(data, MAX_STAMP_BYTES + 1 - len(out))
        except (igzip_lib.IsalError, EOFError) as error:  # type: ignore[misc]  # its stub has no base class
            raise CorruptValue(f"the stamp is no gzip stream: {error}") from error
        if len(out) > MAX_STAMP_BYTES:
            raise TooLarge(f"the stamp has more than {MAX_STAMP_BYTES:,} bytes when decompressed")
        if not stream.eof:
            raise Truncated("the stamp's gzip stream has no end")
        data = stream.unused_data
    return out


def _simple_image(data: bytes) -> np.ndarray | None:
    """A first image of plain 32-bit floats (FITS standard 4.0, 3.3 and 5.3), its SIMPLE card there or not;
    None for anything else."""
    end = data.find(b"END".ljust(_CARD))
    if end < 0 or end % _CARD:
        return None
    cards = {data[at : at + 8].strip(): data[at + 10 : at + 30].strip() for at in range(0, end, _CARD)}
    if (
        cards.get(b"BITPIX") != b"-32"
        or cards.get(b"NAXIS") != b"2"
        or b"BSCALE" in cards
        or b"BZERO" in cards
    ):
        return None
    try:
        shape = int(cards[b"NAXIS2"]), int(cards[b"NAXIS1"])
    except (KeyError, ValueError):
        return None
    start = -(-(end + _CARD) // _FITS_BLOCK) * _FITS_BLOCK
    if min(shape) < 1 or start + 4 * shape[0] * shape[1] > len(data):
        return None
    image = np.frombuffer(data, ">f4", shape[0] * shape[1], start)
    return image.reshape(shape).astype(np.float32)


def _any_image(data: bytes) -> np.ndarray:
    """The first image of any FITS file, through astropy. Raises PacketError."""
    from astropy.io import fits  # importing it takes half a second, and it is rarely needed

    try:
        # What astropy warns of either can be read or raises.
        with (
            warnings.catch_warnings(action="ignore"),
            fits.open(io.BytesIO(data), ignore_missing_simple=True) as units,
        ):
            for unit in units:
                if unit.is_image and unit.data is not None and (image := _flat(unit.data)).ndim == 2:
                    return np.asarray(image, np.float32)
    except Exception as error:  # on damaged files astropy raises many kinds of errors, even AttributeError
        raise CorruptValue(f"the stamp is no FITS image: {error}") from error
    raise CorruptValue("the stamp has no image of two dimensions")


def _flat(image: np.ndarray) -> np.ndarray:
    """The image without the axes of length one that come before its last two."""
    while image.ndim > 2 and image.shape[0] == 1:
        image = image[0]
    return image
