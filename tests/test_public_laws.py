"""Public means public: whatever is in the rows of other programs, nothing public shows it.

Packets of every program are mixed, with histories of every program, forced photometry that says no program,
and a field that nobody has listed. Each value that is not public is one of its own, which is looked for in
the bytes and words of all that comes out.
"""

from __future__ import annotations

import copy
import io
import json
import logging
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fastavro
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from archive.read.archive import Archive
from archive.replay.replay import replay
from archive.write.ingest import ingest
from commands import application
from filters import alert_filter, expression, history
from filters.contract import Filter
from pipeline.broker.dead_letters import TOPIC as DEAD_LETTERS
from pipeline.channels.channel import Channel, ChannelSet
from pipeline.worker.deliver import Outgoing
from pipeline.worker.judging.evaluate import Evaluator
from schemas.errors import ZadsError
from tests.archive.helpers import write_packets
from tests.pipeline.packets import JD, SCHEMA_FILE, _nothing, alert

PHASES = (Phase.generate, Phase.shrink)
PROGRAMS = (1, 1, 2, 3, None)
WORD = "SECRET"


@dataclass
class Marks:
    """Values that are found again wherever they are: in Avro, in Arrow, in text."""

    count: int = 0
    looked_for: list[bytes] = field(default_factory=list)

    def word(self) -> str:
        self.count += 1
        return f"{WORD}{self.count}"

    def number(self) -> float:
        """Exact as float32; of the text only digits that every way of printing shows."""
        self.count += 1
        number = 4097.0 + self.count + 0.28125
        packed = [struct.pack("<f", number), struct.pack("<d", number)]
        self.looked_for += [*packed, f"{number:.7g}".encode()]
        return number

    def candid(self) -> int:
        self.count += 1
        number = 8_123_400_000_000_000_000 + self.count
        long = io.BytesIO()
        fastavro.schemaless_writer(long, "long", number)
        self.looked_for += [struct.pack("<q", number), str(number).encode(), long.getvalue()]
        return number

    def found_in(self, what: Any) -> list[bytes]:
        """What of it stands in bytes, text, a frame, or anything that has words."""
        raw = what if isinstance(what, bytes) else words_of(what).encode()
        return [mark for mark in (WORD.encode(), *self.looked_for) if mark in raw]


def words_of(what: Any) -> str:
    if isinstance(what, pd.DataFrame):
        whole = {name: [str(one) for one in what[name]] for name in what.columns}
        return json.dumps(whole) + what.to_csv()
    return what if isinstance(what, str) else repr(what)


# Packets


def loose_schema(forced_says_program: bool) -> dict[str, Any]:
    """The survey's, where a program may be null, forced photometry may not say it, and a field is new."""
    schema = json.loads(SCHEMA_FILE.read_text())
    kinds = {one["name"]: one for one in schema["fields"]}
    records = [kinds["candidate"]["type"], *(kinds[h]["type"][1]["items"] for h in HISTORIES)]
    for record in records:
        for one in record["fields"]:
            if one["name"] == "programid":
                one["type"] = ["null", "int"]
    if not forced_says_program:
        records[2]["fields"] = [one for one in records[2]["fields"] if one["name"] != "programid"]
    note = [{"name": "programid", "type": ["null", "int"]}, {"name": "said", "type": "string"}]
    items = {"type": "record", "name": "note", "fields": note}
    schema["fields"].append({"name": "notes", "type": {"type": "array", "items": items}, "default": []})
    return schema


HISTORIES = ("prv_candidates", "fp_hists")
program = st.sampled_from(PROGRAMS)
drawn = st.tuples(program, st.lists(program, max_size=4), st.lists(program, max_size=3), st.booleans())


@dataclass
class Night:
    """Packets, and what of them must not be shown."""

    marks: Marks
    packets: list[bytes]
    records: list[dict[str, Any]]
    public: list[int]
    private: list[dict[str, Any]]


def made_night(batch: list[Any]) -> Night:
    marks = Marks()
    night = Night(marks, [], [], [], [])
    for number, (own, past, forced, says) in enumerate(batch):
        schema = loose_schema(says)
        record = made_alert(schema, 1000 + number, own, past, forced, says, marks)
        file = io.BytesIO()
        fastavro.writer(file, fastavro.parse_schema(copy.deepcopy(schema)), [record])
        night.packets.append(file.getvalue())
        night.records.append(record)
        if own == 1:
            night.public.append(record["candid"])
        else:
            night.private.append(record)
    return night


def made_alert(
    schema: Any, candid: int, own: Any, past: list[Any], forced: list[Any], says: bool, marks: Marks
) -> dict[str, Any]:
    kinds = {one["name"]: one["type"] for one in schema["fields"]}
    secret = own != 1
    record = alert(marks.candid() if secret else candid, programid=own, ra=10.0 + candid % 7, dec=5.0)
    record["candidate"]["candid"] = record["candid"]
    record["notes"] = [{"programid": one, "said": marks.word()} for one in (1, 2)]
    for name, rows in (("prv_candidates", past), ("fp_hists", forced)):
        fields = kinds[name][1]["items"]["fields"]
        record[name] = [made_row(fields, name, one, n, says, marks) for n, one in enumerate(rows)] or None
    for stamp in ("cutoutScience", "cutoutTemplate", "cutoutDifference"):
        held = (marks.word() if secret else "pixels").encode()
        record[stamp] = {"fileName": held.decode(), "stampData": held}
    if secret:
        record["objectId"] = marks.word()
        record["candidate"] |= {"magpsf": marks.number(), "ssnamenr": marks.word(), "rb": 0.9}
    return record


def made_row(fields: Any, name: str, own: Any, number: int, says: bool, marks: Marks) -> dict[str, Any]:
    row = {one["name"]: _nothing(one["type"]) for one in fields}
    row |= {"jd": JD - 0.01 - number / 100, "fid": 1, "pid": 70 + number}
    secret = own != 1 or (name == "fp_hists" and not says)
    if "programid" in row:
        row["programid"] = own
    value = marks.number() if secret else 18.25
    words = marks.word() if secret else "0"
    if name == "fp_hists":
        return row | {
            "forcediffimflux": value,
            "forcediffimfluxunc": 1.0,
            "procstatus": words,
            "magzpsci": 26.0,
        }
    more = {"magpsf": value, "sigmapsf": 0.1, "isdiffpos": "t", "pdiffimfilename": words}
    return row | more | {"candid": marks.candid() if secret else 5}


# What is done with them


READS = [
    *("jd", "magpsf", "rb", "ssnamenr", "programid", "prv_candidates.jd", "prv_candidates.magpsf"),
    *("prv_candidates.candid", "prv_candidates.programid", "fp_hists.jd", "fp_hists.forcediffimflux"),
    *("fp_hists.procstatus", "cutoutScience.stampData"),
]


def all_that_it_sees(alerts: pd.DataFrame) -> str:
    past, forced = history(alerts, "prv_candidates"), history(alerts, "fp_hists")
    own = {name: alerts[name].tolist() for name in READS if "." not in name}
    rows = [past[name].to_numpy().tolist() for name in ("magpsf", "candid", "programid")]
    more = [forced[name].to_numpy().tolist() for name in ("forcediffimflux", "procstatus")]
    stamps = alerts["cutoutScience.stampData"].tolist()
    return f"{own} {rows} {more} {stamps} {alerts['objectId'].tolist()} {alerts['candid'].tolist()}"


@alert_filter(survey="ztf", reads=READS, gives={"most": "mag", "all": "text"})
def talks(alerts: pd.DataFrame) -> Any:
    """Tells in its values whatever it sees."""
    most = history(alerts, "prv_candidates")["magpsf"].max()
    whole = all_that_it_sees(alerts)
    return {whole: alerts["rb"] >= 0}, {
        "most": most,
        "all": lambda rest: rest["objectId"].map(lambda _: whole),
    }


@alert_filter(survey="ztf", reads=READS)
def raises(alerts: pd.DataFrame) -> Any:
    """Tells it in an error, of the whole batch."""
    raise ValueError(all_that_it_sees(alerts))


@alert_filter(survey="ztf", reads=READS)
def raises_on_some(alerts: pd.DataFrame) -> Any:
    """Tells it in an error, of single alerts."""
    if (alerts["candid"] % 2 == 0).any():
        raise ValueError(all_that_it_sees(alerts))
    return {"odd": alerts["rb"] >= 0}


SAYS = expression("rb >= 0; most = (max(prv_candidates.magpsf), 'mag'); bright = (magpsf, 'mag')", "ztf")
TALKATIVE: list[Filter] = [talks, raises, raises_on_some, SAYS]


@dataclass
class Sent:
    """A record as a topic has it."""

    packet: bytes
    number: int

    def value(self) -> bytes:
        return self.packet

    def key(self) -> bytes:
        return b"k"

    def topic(self) -> str:
        return "mixed"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.number

    def leader_epoch(self) -> int:
        return 0

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_700_000_000_000


class Caught:
    """All that would be written to Kafka."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def produce(self, **record: Any) -> None:
        self.records.append(record)

    def running(self, channel: str, seconds: float) -> nullcontext[None]:
        return nullcontext()


@contextmanager
def logged() -> Iterator[io.StringIO]:
    """All that is logged, of every kind."""
    words = io.StringIO()
    handler = logging.StreamHandler(words)
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield words
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


def law(examples: int) -> Any:
    quiet = settings(max_examples=examples, phases=PHASES, suppress_health_check=list(HealthCheck))
    return lambda test: quiet(given(st.lists(drawn, min_size=2, max_size=6).map(made_night))(test))


def channels(access: str) -> ChannelSet:
    every = [
        Channel(f"{f.name[:6]}{n}", f, access=access, annotate=f is SAYS) for n, f in enumerate(TALKATIVE)
    ]  # type: ignore[arg-type]
    return ChannelSet(tuple(every))


def judged(night: Night, access: str) -> tuple[list[dict[str, Any]], str, str]:
    """The records that would be written, what was found in words, and the logs."""
    caught, some = Caught(), channels(access)
    with logged() as log:
        (found,) = Evaluator(some).evaluate(
            [night.packets], "mixed", caught, suspended={}, filter_seconds=60, failing_alerts=3
        )
        sent = [Sent(packet, number) for number, packet in enumerate(night.packets)]
        Outgoing(some, "mixed", found, sent).produce(caught)  # type: ignore[arg-type]
    told = [found.failures, found.gaps, found.chances, found.matches, found.refused]
    return caught.records, words_of(told), log.getvalue()


@law(25)
def test_the_stream(night: Night) -> None:
    """Channels' packets, headers, annotations, dead letters of a channel, gaps, tracebacks, logs."""
    records, told, log = judged(night, "public")
    for record in records:
        if record["topic"] != DEAD_LETTERS:  # which hold whole packets, for operators alone
            assert not night.marks.found_in(record["value"]), record["topic"]
        assert not night.marks.found_in(words_of(record.get("headers")))
    assert not night.marks.found_in(told)
    assert not night.marks.found_in(log)
    delivered = [r for r in records if r["topic"].startswith("channel.")]
    assert bool(delivered) == bool(night.public)


def test_the_law_sees_what_a_collaboration_channel_delivers() -> None:
    """All of it is found where it may be: else the law would look in the wrong way."""
    night = made_night([(2, [2, 1], [3], True), (1, [3], [1], False)])
    records, told, _ = judged(night, "collaboration")
    values = b"".join(record["value"] for record in records)
    headers = words_of([record.get("headers") for record in records])
    for where in (values, headers.encode(), told.encode()):
        found = night.marks.found_in(where)
        assert WORD.encode() in found
        assert len(found) > 5


@contextmanager
def archived(night: Night) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        address = f"{folder}/archive"
        ingest([write_packets(Path(folder) / "in", night.packets)], address)
        yield address


def shown(address: str, night: Night, public: bool) -> Iterator[tuple[str, Any]]:
    """All that an archive shows of what is public: what, and what it is."""
    part = Archive(address)
    columns = [*part.view(None).columns, *(name for name in READS if "." in name)]
    yield "frame", part.alerts(columns=columns, public=public).compute(scheduler="synchronous")
    for packet in part.bag(public=public, stamps=True).compute(scheduler="synchronous"):
        yield "bag", packet
    for record in night.records:
        try:
            yield "light curve", part.light_curve(record["objectId"], public=public)
        except ZadsError as error:
            yield "error", str(error).replace(record["objectId"], "what was asked for")
        try:
            yield "packet", part.packets([record["candid"]], public=public)[record["candid"]]
            yield "cutouts", part.cutouts(record["candid"], public=public)
        except ZadsError as error:
            yield "error", str(error).replace(str(record["candid"]), "what was asked for")
    found = replay(TALKATIVE, part, public=public, threads=1)
    yield "matches", found.matches
    yield "failures", found.failures
    yield "summary", found.to_json()


@law(8)
def test_the_archives_public_view(night: Night) -> None:
    """Frames, light curves, bags, packets, cutouts, a replay with its errors, and the logs meanwhile."""
    with archived(night) as address, logged() as log:
        for what, made in shown(address, night, public=True):
            assert not night.marks.found_in(made), what
        assert not night.marks.found_in(log.getvalue())


def test_the_law_sees_what_an_archive_shows_to_the_collaboration() -> None:
    night = made_night([(2, [2, 1], [3], True), (1, [3], [1], False)])
    with archived(night) as address:
        kinds = {what for what, made in shown(address, night, public=False) if night.marks.found_in(made)}
    assert {"frame", "bag", "light curve", "packet", "matches", "failures", "summary"} <= kinds


@law(3)
def test_explain(night: Night) -> None:
    """Whatever is asked about: the name that was asked for is all that comes back of what is not public."""
    with archived(night) as address, logged() as log, pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "4000")
        for record in night.records:
            for name in (str(record["candid"]), record["objectId"]):
                for form in ([], ["--json"]):
                    where = "rb >= 0 and magpsf > 0 and max(prv_candidates.magpsf) > 0"
                    command = ["explain", where, name, "--archive", address, *form]
                    done = CliRunner().invoke(application(), command)
                    said = done.output + repr(done.exception)
                    assert not night.marks.found_in(said.replace(name, "what was asked for")), said
        assert not night.marks.found_in(log.getvalue())
