"""One packet for people: dictionaries and stamps, against fastavro and astropy."""

import gzip
import io
import warnings

import numpy as np
import pytest
from astropy.io import fits

from schemas.errors import CorruptValue, NoSuchColumn, PacketError, TooLarge, Truncated
from schemas.packets.packet import MAX_STAMP_BYTES, packet_schema, packet_survey, pixels, read_packet, stamp
from tests.schemas import oracle
from tests.schemas.conftest import ztf_schema


def test_dictionaries_are_fastavros(real_alerts, packet, tmp_path):
    (tmp_path / "one.avro").write_bytes(packet(1))
    for path in [tmp_path / "one.avro", *sorted(real_alerts.glob("ztf_*/*.avro"))[::9]]:
        theirs = oracle.records_of(path.read_bytes())
        for raw in (path, str(path), path.read_bytes()):
            ours = read_packet(raw)
            for record in (*ours, *theirs):
                record.pop("timestamp", None)  # a broker's own: a date for fastavro, as stored for us
            assert oracle.same(ours, theirs)


def test_schema_and_survey(real_alerts, packet):
    assert packet_schema(packet(1))["name"] == ztf_schema()["name"]
    assert packet_survey(packet(1, version="3.3")) == "ztf"
    surveys = {
        p.parent.name: packet_survey(p)
        for p in sorted(real_alerts.glob("[zlo]*/*.avro"))
        if "conf" not in str(p)
    }
    assert {k: v for k, v in surveys.items() if k.startswith("ztf")} == dict.fromkeys(
        ("ztf_3.2", "ztf_3.3", "ztf_4.01", "ztf_4.02_spark", "ztf_snappy"), "ztf"
    )
    assert surveys["lsst_ocf"] == "lsst"
    assert [packet_survey(p) for p in sorted((real_alerts / "other_surveys").glob("*"))] == [
        "pgir",
        "turbo",
        "winter",
    ]


def test_malformed_packets_say_why(real_alerts):
    for path in sorted((real_alerts / "malformed").glob("*")):
        with pytest.raises(PacketError):
            read_packet(path)


def test_real_stamps_as_astropy_reads_them(real_alerts):
    for path in sorted(real_alerts.glob("*/*.avro"))[::6]:
        if path.parent.name in ("malformed", "lsst_confluent"):
            continue
        for record in read_packet(path):
            for which in ("Science", "Template", "Difference"):
                image = stamp(record, which)
                cutout = record.get(f"cutout{which}") or record[f"cutout_{which.lower()}"]
                data = cutout["stampData"] if isinstance(cutout, dict) else cutout
                data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
                with fits.open(io.BytesIO(data)) as units:
                    theirs = next(u.data for u in units if u.data is not None and u.data.ndim == 2)
                assert image.dtype == np.float32
                np.testing.assert_array_equal(image, theirs.astype(np.float32))


def fits_bytes(image, **header) -> bytes:
    out = io.BytesIO()
    unit = fits.PrimaryHDU(image)
    unit.header.update(header)
    unit.writeto(out)
    return out.getvalue()


IMAGE = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int16, np.uint8])
@pytest.mark.parametrize("squeeze", [bytes, gzip.compress])
def test_any_kind_of_pixel(kind, squeeze):
    image = IMAGE.astype(kind)
    np.testing.assert_array_equal(pixels(squeeze(fits_bytes(image))), IMAGE)


def test_masked_pixels_are_nan():
    image = IMAGE.copy()
    image[1, 2] = np.nan
    assert np.isnan(
        stamp({"cutoutScience": {"stampData": gzip.compress(fits_bytes(image))}}, "Science")[1, 2]
    )


def test_an_image_in_an_extension():
    out = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(IMAGE)]).writeto(out)
    np.testing.assert_array_equal(pixels(out.getvalue()), IMAGE)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", CorruptValue),
        (b"no image", CorruptValue),
        (gzip.compress(b"no image", mtime=0), CorruptValue),
        (gzip.compress(fits_bytes(IMAGE), mtime=0)[:60], Truncated),
        (b"\x1f\x8b but not gzip", CorruptValue),
        (fits_bytes(IMAGE)[:2880], CorruptValue),
        (gzip.compress(b"\0" * (MAX_STAMP_BYTES + 1), mtime=0), TooLarge),
    ],
)
def test_what_is_no_stamp_says_so(data, error):
    with pytest.raises(error):
        pixels(data)


def test_a_stamp_that_is_not_there():
    with pytest.raises(NoSuchColumn, match="cutoutScience"):
        stamp({"cutoutScience": {"stampData": b""}, "cutoutTemplate": None}, "Template")
    with pytest.raises(CorruptValue, match="no stampData"):
        stamp({"cutoutTemplate": {"fileName": "x"}}, "Template")


def odd_stamps():
    """Files that are not as ZTF writes them, and that astropy reads."""
    image = np.arange(12, dtype="f4").reshape(3, 4)
    plain = fits_bytes(image)
    yield "two gzip members", gzip.compress(plain[:1000]) + gzip.compress(plain[1000:]), image
    yield "many gzip members", b"".join(gzip.compress(plain[i : i + 700]) for i in range(0, 5760, 700)), image
    yield "zeros behind the member", gzip.compress(plain) + bytes(512), image
    yield "an extension first", plain.replace(plain[:80], b"XTENSION= 'IMAGE   '".ljust(80), 1), image
    for axes in (1, 2):
        yield f"{axes} more axes", fits_bytes(image.reshape((1,) * axes + image.shape)), image


@pytest.mark.parametrize(("data", "image"), [pytest.param(d, i, id=name) for name, d, i in odd_stamps()])
def test_odd_stamps_as_astropy_reads_them(data, image):
    plain = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    with warnings.catch_warnings(action="ignore"):
        told = fits.open(io.BytesIO(plain), ignore_missing_simple=True)[0].data
    assert np.array_equal(np.squeeze(told), image), "the example is no stamp"
    assert np.array_equal(pixels(data), image)


def test_a_header_without_its_simple_card():
    image = np.arange(12, dtype="f4").reshape(3, 4)
    plain = fits_bytes(image)
    for odd in (plain.replace(b"SIMPLE  =", b"COMMENT  ", 1), plain[80:2880] + b" " * 80 + plain[2880:]):
        assert np.array_equal(pixels(gzip.compress(odd)), image)
