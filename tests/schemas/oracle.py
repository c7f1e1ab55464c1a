"""What packets hold according to fastavro, and records to write with it: nothing here uses our decoder.

Schemas that fastavro refuses are repaired the way any reader must: defaults are left out (TURBO gives a plain
int the default null), and a field name that a record uses twice (WINTER) gets a number, or its first value
would be lost.
"""

import io
import json
import random
import struct
from typing import Any

import fastavro
from fastavro.schema import SchemaParseException

HEADER = {
    "type": "record",
    "name": "header",
    "fields": [
        {"name": "magic", "type": {"type": "fixed", "name": "magic", "size": 4}},
        {"name": "meta", "type": {"type": "map", "values": "bytes"}},
        {"name": "sync", "type": {"type": "fixed", "name": "sync", "size": 16}},
    ],
}


def written_with(raw: bytes) -> dict[str, Any]:
    """The writer schema of a container file, whatever else its header says in letters or not."""
    header = fastavro.schemaless_reader(io.BytesIO(raw), HEADER, handle_unicode_errors="replace")
    return json.loads(header["meta"]["avro.schema"])


def repaired(schema: Any) -> Any:
    """The schema without defaults, and with different names for different fields."""
    if isinstance(schema, list):
        return [repaired(branch) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    out = {
        key: repaired(value) if key in ("items", "values", "type") else value for key, value in schema.items()
    }
    if "fields" in schema:
        seen: dict[str, int] = {}
        out["fields"] = []
        for field in schema["fields"]:
            seen[field["name"]] = count = seen.get(field["name"], 0) + 1
            name = field["name"] if count == 1 else f"{field['name']}_{count}"
            out["fields"].append({"name": name, "type": repaired(field["type"])})
    return out


def records_of(raw: bytes) -> list[dict[str, Any]]:
    """Every record of a container file through fastavro; null codec only when the schema needs repair."""
    schema = repaired(written_with(raw))
    try:
        if schema_names(schema) == schema_names(written_with(raw)):
            return list(fastavro.reader(io.BytesIO(raw)))
    except (SchemaParseException, UnicodeDecodeError):  # the latter also of a letter in the header
        pass
    stream = io.BytesIO(raw)
    fastavro.schemaless_reader(stream, HEADER, handle_unicode_errors="replace")
    parsed, records = fastavro.parse_schema(schema), []
    while stream.tell() < len(raw):
        count = fastavro.schemaless_reader(stream, {"type": "long"})
        fastavro.schemaless_reader(stream, {"type": "long"})
        records += [fastavro.schemaless_reader(stream, parsed) for _ in range(count)]
        stream.read(16)
    return records


def schema_names(schema: Any) -> list[str]:
    """All field names in order."""
    if isinstance(schema, list):
        return [name for branch in schema for name in schema_names(branch)]
    if not isinstance(schema, dict):
        return []
    inner = [field["name"] for field in schema.get("fields", ())]
    for part in [*(f["type"] for f in schema.get("fields", ())), schema.get("items"), schema["type"]]:
        inner += schema_names(part)
    return inner


def same(ours: Any, theirs: Any) -> bool:
    """Equality with NaN equal to NaN, types told apart, and Arrow's maps taken as dictionaries."""
    if isinstance(ours, float) and isinstance(theirs, float):
        return ours == theirs or (ours != ours and theirs != theirs)
    if isinstance(theirs, dict):
        ours = dict(ours) if isinstance(ours, list) else ours
        return (
            isinstance(ours, dict)
            and ours.keys() == theirs.keys()
            and all(same(ours[k], theirs[k]) for k in theirs)
        )
    if isinstance(theirs, list):
        return isinstance(ours, list) and len(ours) == len(theirs) and all(map(same, ours, theirs))
    return type(ours) is type(theirs) and ours == theirs


def value_at(record: Any, path: str) -> Any:
    """The value at a dotted path, through lists; None where it is missing."""
    for place, name in enumerate(path.split(".")):
        if isinstance(record, list):
            rest = ".".join(path.split(".")[place:])
            return [value_at(item, rest) for item in record]
        if record is None:
            return None
        record = record.get(name)
    return record


def without(record: Any, dropped: set[str], path: str = "") -> Any:
    """The record without the fields at some dotted paths."""
    if isinstance(record, list):
        return [without(item, dropped, path) for item in record]
    if not isinstance(record, dict):
        return record
    return {k: without(v, dropped, f"{path}{k}.") for k, v in record.items() if path + k not in dropped}


FLOATS = (0.0, -0.0, 1.5, -999.0, -99999.0, float("nan"), float("inf"), -float("inf"), 1e-45, 3.4e38)
STRINGS = ("", "t", "null", "é", "星", "🔭", "ZTF18abcdefg", "x" * 7, "x" * 8, "ztf_" + "é" * 40)


def random_record(schema: Any, rng: random.Random, rows: int = 4) -> Any:
    """A value of the schema, edge cases often. rows: most items of an array."""
    return random_value(schema, rng, named_types(schema), rows)


def named_types(schema: Any) -> dict[str, Any]:
    """Named types by short and full name."""
    if isinstance(schema, list):
        return {k: v for branch in schema for k, v in named_types(branch).items()}
    if not isinstance(schema, dict):
        return {}
    inner = [f["type"] for f in schema.get("fields", ())] + [
        schema[k] for k in ("items", "type") if k in schema
    ]
    found = named_types(inner)
    if "name" in schema:
        found |= {schema["name"]: schema, f"{schema.get('namespace', '')}.{schema['name']}": schema}
    return found


def random_value(schema: Any, rng: random.Random, named: dict[str, Any], rows: int) -> Any:
    if isinstance(schema, list):
        return random_value(rng.choice(schema), rng, named, rows)
    if isinstance(schema, str):
        return (
            _PRIMITIVE[schema](rng) if schema in _PRIMITIVE else random_value(named[schema], rng, named, rows)
        )
    kind = schema["type"]
    if kind == "record":
        return {f["name"]: random_value(f["type"], rng, named, rows) for f in schema["fields"]}
    if kind == "array":
        return [random_value(schema["items"], rng, named, rows) for _ in range(rng.randint(0, rows))]
    if kind == "map":
        return {str(i): random_value(schema["values"], rng, named, rows) for i in range(rng.randint(0, 3))}
    if kind == "enum":
        return rng.choice(schema["symbols"])
    if kind == "fixed":
        return rng.randbytes(schema["size"])
    return random_value(kind, rng, named, rows)


def _float32(rng: random.Random) -> float:
    if rng.random() < 0.5:
        return rng.choice(FLOATS)
    return struct.unpack("<f", struct.pack("<f", rng.uniform(-1e6, 1e6)))[0]


_PRIMITIVE = {
    "null": lambda rng: None,
    "boolean": lambda rng: rng.random() < 0.5,
    "int": lambda rng: rng.choice(
        [0, 1, -1, -999, 63, 64, 8191, 8192, 2**31 - 1, -(2**31), rng.getrandbits(20)]
    ),
    "long": lambda rng: rng.choice(
        [0, -1, 2**63 - 1, -(2**63), rng.getrandbits(62), rng.getrandbits(rng.randint(1, 62))]
    ),
    "float": _float32,
    "double": lambda rng: rng.choice([*FLOATS, rng.uniform(2.4e6, 2.5e6)]),
    "string": lambda rng: rng.choice(STRINGS),
    "bytes": lambda rng: rng.randbytes(rng.choice([0, 1, 31, 32, 33, 500])),
}
