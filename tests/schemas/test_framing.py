"""Framings taken apart, schema sources, and input that means harm."""

import http.server
import json
import struct
import threading
import zlib

import cramjam
import pytest

from schemas.avro.framing import (
    MAX_BODY_BYTES,
    FolderSource,
    Framer,
    RegistrySource,
    frame,
    read_long,
    schema_source,
    write_long,
)
from schemas.avro.writer import writer_schema
from schemas.errors import (
    CorruptValue,
    Empty,
    NoSchemaSource,
    NotAvro,
    PacketError,
    TooLarge,
    Truncated,
    UnknownSchema,
    UnsupportedCodec,
    UnsupportedSchema,
    ZadsError,
)
from schemas.packets.reader import decode_all
from tests.schemas import oracle
from tests.schemas.conftest import container, ztf_records, ztf_schema

INTS = {
    "type": "record",
    "name": "r",
    "fields": [
        {"name": "a", "type": "int"},
        {"name": "b", "type": "boolean"},
        {"name": "c", "type": ["null", "double"]},
    ],
}
SYNC = b"0123456789abcdef"
TINY = {"type": "record", "name": "r", "fields": [{"name": "x", "type": "string"}]}


def built(schema=TINY, blocks=((1, b"\x02a"),), codec=b"null", **metadata) -> bytes:
    """A container file made by hand, so that anything in it may be wrong."""
    pairs = {
        b"avro.schema": schema if isinstance(schema, bytes) else json.dumps(schema).encode(),
        b"avro.codec": codec,
    }
    pairs |= {key.encode(): value for key, value in metadata.items()}
    out = b"Obj\x01" + write_long(len(pairs))
    for key, value in pairs.items():
        out += write_long(len(key)) + key + write_long(len(value)) + value
    out += b"\0" + SYNC
    for records, body in blocks:
        out += write_long(records) + write_long(len(body)) + body + SYNC
    return out


def snappy(body: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(body)) + struct.pack(">I", zlib.crc32(body))


def deflate(body: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(body) + stream.flush()


def test_longs_there_and_back():
    for value in (0, 1, -1, 63, 64, -64, -65, 2**31, 2**63 - 1, -(2**63)):
        assert read_long(write_long(value), 0) == (value, len(write_long(value)))


@pytest.mark.parametrize(("codec", "packed"), [(b"null", bytes), (b"deflate", deflate), (b"snappy", snappy)])
def test_by_hand_as_by_fastavro(codec, packed):
    raw = built(blocks=((1, packed(b"\x02a")), (2, packed(b"\x02b\x02c"))), codec=codec)
    assert decode_all(raw).to_pylist() == oracle.records_of(raw) == [{"x": "a"}, {"x": "b"}, {"x": "c"}]


BOMB = deflate(b"\0" * (MAX_BODY_BYTES + 1))


@pytest.mark.parametrize(
    ("raw", "error", "words"),
    [
        (b"", NotAvro, "empty"),
        (b"Obj", Truncated, "after 3 bytes"),
        (b"{}", NotAvro, "7b 7d"),
        (b"\x1f\x8b\x08\x00", NotAvro, "1f 8b"),
        (b"\0\0\0", Truncated, "after 3 bytes"),
        (b"\0\0\0\0\7\x00", UnknownSchema, "schema 7,"),
        (built()[:30], Truncated, "bytes"),
        (built()[:-1], Truncated, "are left"),
        (built()[:-20], Empty, "no record"),
        (built()[:-3] + b"xyz", CorruptValue, "sync marker"),
        (built(blocks=()), Empty, "no record"),
        (built(blocks=((0, b""),)), Empty, "no record"),
        (built(blocks=((-1, b"\x02a"),)), CorruptValue, "-1 records"),
        (built(blocks=((2**62, b"\x02a"),)), Truncated, "more records"),
        (built(blocks=((1, b"\x02ab"),)), CorruptValue, "followed by more bytes"),
        (built(blocks=((1, b"\x04a"),)), Truncated, "x extends"),
        (built(blocks=((1, b"\x01"),)), CorruptValue, "negative length"),
        (built(blocks=((1, b"\xff" * 11),)), CorruptValue, "64 bits"),
        (built(blocks=((1, b"\x04\xc3\x28"),)), CorruptValue, "UTF-8"),
        (built(blocks=((1, b"\x06\xed\xa0\x80"),)), CorruptValue, "UTF-8"),
        (built(INTS, ((1, write_long(2**31) + b"\0\0"),)), CorruptValue, "32 bits"),
        (built(INTS, ((1, write_long(-(2**31) - 1) + b"\0\0"),)), CorruptValue, "32 bits"),
        (built(INTS, ((1, b"\0\x02\0"),)), CorruptValue, "neither 0 nor 1"),
        (built(INTS, ((1, b"\0\0\x04"),)), CorruptValue, "branch"),
        (built(INTS, ((1, b"\0\0\x02"),)), Truncated, "c extends"),
        (built(codec=b"zstandard"), UnsupportedCodec, "zstandard"),
        (built(codec=b"deflate"), CorruptValue, "deflate"),
        (built(codec=b"deflate", blocks=((1, deflate(b"\x02a")[:-1]),)), Truncated, "no end"),
        (built(codec=b"deflate", blocks=((1, BOMB),)), TooLarge, "decompressed"),
        (built(codec=b"snappy"), Truncated, "checksum"),
        (built(codec=b"snappy", blocks=((1, b"\xff\xff\xff\xff\x0f" + b"abcd"),)), TooLarge, "decompressed"),
        (built(codec=b"snappy", blocks=((1, snappy(b"\x02a")[:-1] + b"x"),)), CorruptValue, "checksum"),
        (built(codec=b"snappy", blocks=((1, b"\x02\xff\xffabcd"),)), CorruptValue, "snappy"),
        (built(schema=b"{"), UnsupportedSchema, "not JSON"),
        (built(schema=b"[" * 100_000), UnsupportedSchema, "JSON"),
        (built(schema=b'"string"'), UnsupportedSchema, "no record"),
        (built(schema={"type": "string"}), UnsupportedSchema, "no record"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_says_why(raw, error, words):
    with pytest.raises(PacketError) as caught:
        decode_all(raw)
    assert type(caught.value) is error
    assert words in str(caught.value)


def record(*fields):
    return {
        "type": "record",
        "name": "r",
        "fields": [{"name": f"f{i}", "type": t} for i, t in enumerate(fields)],
    }


RECURSIVE = {"type": "record", "name": "r", "fields": [{"name": "x", "type": ["null", "r"]}]}


def nested(depth):
    return record({"type": "array", "items": nested(depth - 1)["fields"][0]["type"]} if depth else "int")


def doubling(times):
    """A few lines that stand for 2^times values: each type holds the one before twice."""
    types = [{"type": "record", "name": "t0", "fields": [{"name": "x", "type": "int"}]}]
    for i in range(1, times):
        fields = [{"name": "a", "type": f"t{i - 1}"}, {"name": "b", "type": f"t{i - 1}"}]
        types.append({"type": "record", "name": f"t{i}", "fields": fields})
    return record(*types)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (RECURSIVE, "recursive"),
        (nested(40), "deeper"),
        (doubling(30), "larger"),
        (record({"type": "array", "items": "null"}), "without bytes"),
        (record({"type": "array", "items": record()}), "without bytes"),
        (record({"type": "map", "values": {"type": "fixed", "name": "f", "size": 0}}), "without bytes"),
        (record("nothing"), "does not say what 'nothing' is"),
        (record([]), "union"),
        (record([["int"]]), "union"),
        (record({"type": "fixed", "name": "f", "size": -1}), "no size"),
        (record({"type": "enum", "name": "f"}), "no symbols"),
        (record({"type": "record", "name": "q"}), "no fields"),
        (record({"type": "record", "fields": []}), "without a name"),
        (record(7), "a type that is none"),
    ],
)
def test_schemas_that_mean_harm_are_refused(schema, words):
    with pytest.raises(UnsupportedSchema, match=words):
        writer_schema(schema)
    with pytest.raises(UnsupportedSchema, match=words):
        decode_all(built(schema=schema))


def test_a_count_that_asks_for_memory_is_refused():
    """One byte an item: 2 MB announce 2 million rows of a nullable column."""
    schema = record({"type": "array", "items": ["null", "double"]})
    raw = built(schema, ((1, write_long(2_000_000) + b"\0" * 2_000_001),))
    with pytest.raises(TooLarge, match="more than 100,000 items"):
        decode_all(raw)
    lying = built(schema, ((1, write_long(2**40) + b"\0" * 100),))
    with pytest.raises(Truncated, match="f0 extends"):
        decode_all(lying)


def test_equal_schemas_are_one_whatever_the_header(packet):
    """Two orders of the header's keys and two sync markers: one writer schema, so one batch."""
    one, other = built(), built(codec=b"null", extra=b"spark")
    assert one != other
    assert frame(one).writer is frame(other).writer


def test_headers_seen_before_are_recognised(packet):
    framer = Framer()
    for number in range(40):  # more than are remembered
        raw = built(more=str(number).encode())
        assert framer.known_header(raw) is None
        first = framer.header(raw)
        assert framer.header(raw) is first


def test_folder_of_schemas(tmp_path):
    (tmp_path / "7.avsc").write_text(json.dumps(TINY))
    (tmp_path / "8.avsc").write_text("{")
    source = schema_source(str(tmp_path))
    assert isinstance(source, FolderSource)
    assert source.schema(7) == TINY
    with pytest.raises(UnknownSchema, match="schema 9") as missing:
        source.schema(9)
    assert "9.avsc" in missing.value.hint
    with pytest.raises(NoSchemaSource, match=r"8\.avsc"):
        source.schema(8)


@pytest.fixture
def registry():
    """A schema registry with one schema, that counts how often it is asked."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            answers = {"/schemas/ids/7": json.dumps({"schema": json.dumps(TINY)}), "/schemas/ids/8": "{}"}
            status = 500 if self.path.endswith("/500") else 200 if self.path in answers else 404
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answers.get(self.path, "").encode())

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_registry_of_schemas(registry):
    url, asked = registry
    source = schema_source(url)
    assert isinstance(source, RegistrySource)
    raw = b"\0\0\0\0\x07" + b"\x02a"
    for _ in range(3):
        assert decode_all(raw, schemas=source).to_pylist() == [{"x": "a"}]
    assert asked == ["/schemas/ids/7"]
    with pytest.raises(UnknownSchema, match="no schema 9"):
        decode_all(b"\0\0\0\0\x09a", schemas=source)
    for number in (8, 500):  # the registry's fault, not the packet's
        with pytest.raises(NoSchemaSource):
            source.schema(number)


def test_a_registry_that_is_not_there_refuses_no_packet():
    with pytest.raises(NoSchemaSource, match=r"127\.0\.0\.1"):
        decode_all(b"\0\0\0\0\x07\x02a", schemas=RegistrySource("http://127.0.0.1:9", seconds=2))


def test_reasons_are_words():
    kinds = PacketError.__subclasses__()
    assert {k("x").reason for k in kinds} >= {
        "not-avro",
        "truncated",
        "unknown-schema",
        "corrupt-value",
        "too-large",
    }
    assert all(issubclass(k, ZadsError) for k in kinds)


def test_many_records_in_many_blocks():
    records = ztf_records(3, 20)
    raw = container(ztf_schema(), records, "deflate", 1)
    assert oracle.same(decode_all(raw).to_pylist(), oracle.records_of(raw))
