"""In the sandbox a filter comes to the same verdicts as in process, and its faults cost it alone."""

from __future__ import annotations

import pickle
import threading
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

import filters
from filters import Filter, registered
from filters.errors import FilterError
from filters.external.externals import frames_of
from filters.sandbox.errors import Changed, Ended, TooSlow
from filters.sandbox.keeper import Sandbox, sandbox
from filters.sandbox.question import Program
from filters.sandbox.uploaded import Uploaded, uploaded
from filters.testing import packet
from pipeline.broker.partition import Partition
from pipeline.channels.channel import Channel, ChannelSet
from pipeline.worker import process
from pipeline.worker.judging import envelope
from pipeline.worker.judging.evaluate import Evaluator
from pipeline.worker.judging.verdicts import Verdicts
from pipeline.worker.work import ChannelFailure, Work
from schemas.frame import TEXT
from tests.filters.packets import PHASES, packets
from tests.pipeline.night import night
from tests.sandbox.conftest import WELL, text_of

pytestmark = pytest.mark.usefixtures("strict")
VALUES = '''
from typing import Annotated

import numpy as np
from zads import alert_filter, history

@alert_filter(reads=["magpsf", "ssnamenr", "ndethist", "prv_candidates.magpsf"],
              gives={"mag": "mag", "brightest": "mag", "name": "text", "who": "text"})
def measured(alerts, *, faintest: Annotated[float, "mag"] = 19.0, word: str = "ZTF"):
    """Values of each kind, missing ones too."""
    past = history(alerts, "prv_candidates")
    values = {"mag": alerts["magpsf"], "who": lambda passing: passing["objectId"],
              "brightest": lambda passing: history(passing, "prv_candidates")["magpsf"].min(),
              "name": alerts["ssnamenr"]}
    return {"often": alerts["ndethist"] > 0, "named": alerts["objectId"].str.startswith(word),
            "bright": lambda rest: ~(rest["magpsf"] > faintest)}, values
'''


def text_of_ours(f: Filter) -> str:
    file = Path(str(filters.__file__)).parents[1] / f"{f.function.__module__.replace('.', '/')}.py"
    return file.read_text()


def of_ours(name: str) -> Filter:
    return uploaded(Program("law", text_of_ours(registered()[name]), f"{name}.py", name))


def in_process(text: str, folder: Path) -> Filter:
    file = folder / "mine.py"
    file.write_text(text)
    return filters.load(str(file))


def assert_same(there: Filter, here: Filter, frame: pd.DataFrame) -> None:
    cuts, own = there.evaluate(there.restricted(frame))[1], here.evaluate(here.restricted(frame))[1]
    assert {name: mask.tolist() for name, mask in cuts.items()} == {n: m.tolist() for n, m in own.items()}
    judged, mine = there.judge(frame), here.judge(frame)
    assert np.array_equal(judged.mask, mine.mask)
    pd.testing.assert_frame_equal(judged.values, mine.values)


@settings(max_examples=12, phases=PHASES)
@given(packets)
def test_filters_of_zads_as_a_strangers_text(batch: list[dict[str, Any]]) -> None:
    """Scalars and histories, with missing values, sentinels, and no alert at all."""
    for name, f in registered("ztf").items():
        frame = frames_of(f.require_reads(), "ztf").of_packets(batch)
        assert_same(of_ours(name), f, frame)
        assert_same(of_ours(name), f, frame.iloc[1:3])


@settings(max_examples=20, phases=PHASES)
@given(batch=packets)
def test_values_travel_too(batch: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> None:
    there = uploaded(Program("law", VALUES, "mine.py", ""))
    here = in_process(VALUES, tmp_path_factory.getbasetemp())
    for some in ({}, {"faintest": 15, "word": "Z"}):
        assert_same(there.using(**some), here.using(**some), frames_of(here.reads or ()).of_packets(batch))


def test_a_filter_of_lsst() -> None:
    for name, f in registered("lsst").items():
        if f.scope == "alert" and f.surveys == ("lsst",) and "." not in "".join(f.reads or ()):
            frame = frames_of(f.require_reads(), "lsst").of_packets([packet("lsst"), packet("lsst")])
            assert_same(of_ours(name), f, frame)


def test_it_declares_what_it_does_in_process(tmp_path: Path) -> None:
    there, here = uploaded(Program("law", VALUES, "mine.py", "")), in_process(VALUES, tmp_path)
    for what in ("name", "doc", "surveys", "reads", "scope", "parameters", "values", "gives"):
        assert getattr(there, what) == getattr(here, what)
    assert there.cut_names() == here.cut_names()
    alert = {**packet("ztf", objectId="ZTF1", magpsf=17.0, ndethist=2), "prv_candidates": None}
    assert there.one(alert).cuts == here.one(alert).cuts


def test_it_travels_without_running() -> None:
    """Its pickle holds text, and no code that is run when it is opened."""
    bomb = "raise SystemExit('run in process')"
    f = uploaded(Program("law", text_of(WELL), "mine.py", "f"))
    sent = pickle.dumps(f)
    again = pickle.loads(sent)
    assert again.version == f.version
    assert isinstance(again.function, Uploaded)
    assert b"_make_skeleton_class" not in sent  # its class by name: a worker knows it for what it is
    other = pickle.loads(sent.replace(b"from filters import", b"raise SystemExit() ", 1))
    assert isinstance(other.function, Uploaded)
    with pytest.raises(FilterError, match="SystemExit: run in process"):
        uploaded(Program("law", bomb, "mine.py", ""))


def test_another_text_is_another_version() -> None:
    one, other = (uploaded(Program("law", text_of(b), "m.py", "f")) for b in (WELL, WELL.replace("5", "6")))
    assert one.version != other.version
    assert one.version == uploaded(Program("else", text_of(WELL), "m.py", "f")).version


LIES = {
    "survey": "f.__dict__['surveys'] = ('sdss',)",
    "column": "f.__dict__['declared'] = ('no_such_column',)",
    "kind": "f.parameters['a'] = type(next(iter(g.parameters.values())))(1, 'u', list)",
    "name": "f.function.__name__ = '../../x'",
    "scope": "f.__dict__['scope'] = 'night'",
    "unit": "f.gives['a'] = 5",
    "much": "f.gives.update({f'a{n}': '' for n in range(1000)})",
}


@pytest.mark.parametrize("lie", LIES)
def test_what_it_declares_is_checked(lie: str) -> None:
    head = "from filters import alert_filter\n\n@alert_filter(reads=['rb'])\n"
    good = f"{head}def g(alerts, *, b: float = 1.0): return {{}}\n"
    text = f"{good}\n@alert_filter(reads=['rb'])\ndef f(alerts): return {{}}\n{LIES[lie]}\n"
    with pytest.raises(Exception) as raised:  # of ours: FilterError or NoSuchColumn
        uploaded(Program("liar", text, "m.py", "../../x" if lie == "name" else "f"))
    assert type(raised.value).__module__.startswith(("filters.", "schemas."))


# In the evaluator, as live


class NoGuard:
    def running(self, channel: str, seconds: float) -> nullcontext[None]:
        return nullcontext()


def evaluated(*channels: Channel) -> Verdicts:
    packets = [alert.packet for alert in night()]
    made = Evaluator(ChannelSet(channels))
    (found,) = made.evaluate(
        [packets], "mixed", NoGuard(), suspended={}, filter_seconds=20, failing_alerts=20
    )
    return found


def channel(name: str, body: str, reads: str = "['rb']", **more: Any) -> Channel:
    text = text_of(body).replace("['rb']", reads, 1)
    return Channel(name, uploaded(Program(name, text, "mine.py", "f")), **more)


def test_a_public_channel_is_not_even_sent_what_is_not_public() -> None:
    """Neither alerts nor rows of histories of another program: what the code sees, it tells."""
    body = (
        "from filters import history\n"
        "rows = history(alerts, 'prv_candidates')['programid'].to_numpy()\n"
        "told = sorted({float(p) for p in rows}), sorted({float(p) for p in alerts['programid']})\n"
        "return {'seen': alerts['programid'] > 0, str(told): alerts['programid'] > 0}"
    )
    reads = "['programid', 'prv_candidates.programid']"
    cuts: dict[str, list[str]] = {}
    for access in ("public", "collaboration"):
        one = channel(access, body, reads, access=access)
        function = one.filter.function

        def noted(alerts: pd.DataFrame, own: Any = function, access: str = access, **values: Any) -> Any:
            found = own(alerts, **values)
            cuts.setdefault(access, []).append(list(found)[1])
            return found

        one.filter.__dict__["function"] = noted
        found = evaluated(one)
        programs = {match.program for match in found.matches[access]}
        assert programs == ({1} if access == "public" else {1, 2})
    assert cuts["public"] == ["([1.0], [1.0])"]
    assert "2.0" in cuts["collaboration"][0]


def test_the_evaluator_comes_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a channel of zads' own filter; who raises, loops or hoards is missing alone, and says why."""
    monkeypatch.setattr(envelope, "_UPLOADED_SECONDS", 60.0)  # a busy machine takes its time to halve
    ours = registered()["young_supernova"].using(rb_min=0.3)
    good = Channel("trusted", ours)
    same = Channel("theirs", of_ours("young_supernova").using(rb_min=0.3))
    raises = channel("raises", "raise RuntimeError('a mistake of mine')")
    some = channel("some", "if (alerts['candid'] % 97 == 0).any(): 1 / 0\n" + WELL)
    loops = channel("loops", "while len(alerts): pass\nreturn {}")
    began = time.monotonic()
    found = evaluated(good, same, raises, some, loops)
    assert found.matches["theirs"] == found.matches["trusted"]
    assert found.matches["trusted"]
    assert found.gaps.keys() == {"raises", "loops"}
    assert found.gaps["raises"] == "RuntimeError: a mistake of mine"
    (failure,) = found.failures
    assert ["loops" in words and "it goes on" in words for words in found.chances] == [True]
    assert (failure.channel, failure.message) == ("raises", "RuntimeError: a mistake of mine")
    assert 'File "mine.py", line 6, in f' in failure.traceback
    assert str(Path.cwd()) not in failure.traceback
    special = {a.candid for a in night() if a.programid == 1 and a.candid % 97 == 0}
    assert {one.candid for one in found.refused} == special
    again = evaluated(loops)
    assert [one.channel for one in again.failures] == ["loops"]
    assert "took more than" in again.failures[0].message
    assert time.monotonic() - began < 60  # a hang, not a speed


def test_batches_handed_out_before_the_coordinator_has_heard_are_not_judged_again(
    strict: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are gaps for the same reason, and say so; under other channels, in another run, all begin anew."""
    asked: list[str] = []
    judge = strict.judge
    monkeypatch.setattr(strict, "judge", lambda program, *rest: asked.append("") or judge(program, *rest))
    channels = ChannelSet((channel("raises", "raise RuntimeError('mine')"), channel("good", WELL)))
    work = Work(
        Partition("mixed", 0), 0, 9, 1, False, "r", 1, "g", b"", {}, channels.to_bytes(), channels.version
    )
    packets = [[alert.packet for alert in night()[:40]]]

    def outcome(one: Work) -> tuple[int, list[ChannelFailure], dict[str, str]]:
        asked.clear()
        (found,) = process._verdicts(one, packets, NoGuard())  # type: ignore[arg-type]
        return len(asked), found.failures, found.gaps

    often, failures, gaps = outcome(work)
    assert often > 2
    assert outcome(work) == (1, failures, gaps)
    assert outcome(replace(work, suspended={"raises": "told"})) == (1, [], {"raises": "told"})
    assert outcome(replace(work, run="another")) == (often, failures, gaps)
    process.prepare(channels.to_bytes(), "")
    assert outcome(replace(work, run="another")) == (often, failures, gaps)


# Filters that change their answer


CHANGING = {
    "random": "import numpy as np\nreturn {'a': np.random.default_rng().random(len(alerts)) > 0.5}",
    "neighbours": "return {'a': alerts['rb'] >= alerts['rb'].mean()}",
    "memory": "f.function.n = getattr(f.function, 'n', 0) + 1\nreturn {'a': alerts['rb'] > f.function.n % 2}",
}


@pytest.mark.parametrize("how", CHANGING)
def test_another_answer_to_the_same_alerts_is_found(
    strict: Sandbox, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Every batch is judged twice here; live, one in fifty."""
    monkeypatch.setattr(strict, "_twice", 1.0)
    with pytest.raises(Changed):
        many(CHANGING[how], np.linspace(0.01, 0.99, 40), times=20)
    good = judged(WELL, np.linspace(0, 1, 40))
    assert int(good.cuts["real"].sum()) == 20


EXPOSURES = """
from filters import alert_filter

@alert_filter(reads=["rb"], scope="exposure", gives={"size": "", "who": "text"})
def few(alerts, *, most: int = 6):
    own = alerts.groupby("exposure")["candid"].transform("size")
    return {"few": own <= most, "real": alerts["rb"] > 0.3}, {"size": SIZE, "who": alerts["objectId"]}
"""


@pytest.mark.parametrize(("size", "found"), [("own", None), ("0 * own + len(alerts)", Changed)])
def test_of_whole_exposures_each_is_judged_again_as_a_whole(
    strict: Sandbox, monkeypatch: pytest.MonkeyPatch, size: str, found: type[Changed] | None, tmp_path: Path
) -> None:
    """In any order of the alerts; who looks at the alerts of other exposures is found."""
    monkeypatch.setattr(strict, "_twice", 1.0)
    text = EXPOSURES.replace("SIZE", size)
    rows = [
        packet("ztf", candid=n, objectId=f"ZTF{n}", pid=n * n % 7, rb=n % 5 / 4, programid=1)
        for n in range(24)
    ]
    there, here = uploaded(Program("law", text, "mine.py", "few")), in_process(text, tmp_path)
    assert there.scope == "exposure"
    frame = frames_of(here.reads or ()).of_packets(rows)
    with pytest.raises(found) if found else nullcontext():
        for _ in range(20):
            assert_same(there, here, frame)
    assert 0 < here.judge(frame).mask.sum() < len(rows)


def test_who_remembers_answers_is_found_by_a_new_process(
    strict: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A filter that keeps its answers gives them again, until its process is replaced."""
    monkeypatch.setattr("filters.sandbox.seat.BATCHES", 4)
    body = (
        "import os\nkept = f.function.__dict__.setdefault('kept', os.getpid() % 2 == 0)\n"
        "return {'a': (alerts['rb'] >= 0) & kept}"
    )
    with pytest.raises(Changed, match="in a new process"):
        many(body, np.ones(3), times=300)


def test_who_is_slow_in_the_long_run_is_found(strict: Sandbox) -> None:
    slow = "import time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass\n"
    with pytest.raises(TooSlow, match="µs an alert"):
        many(slow + WELL, np.ones(3), times=30)


def test_who_was_ended_three_times_is_not_run_for_a_while(strict: Sandbox) -> None:
    """Another text of the same owner is."""
    for _ in range(3):
        with pytest.raises(Ended, match="ended itself"):
            judged("os._exit(1)", np.ones(3))
    with pytest.raises(Ended, match="is not run"):
        judged("os._exit(1)", np.ones(3))
    with pytest.raises(Ended, match="is not run"):
        sandbox().load(Program("os._exit(1)", text_of("os._exit(1)"), "mine.py", "f"))
    other = Program("os._exit(1)", text_of(WELL), "mine.py", "f")
    assert sandbox().load(other)["name"] == "f"


def test_a_zygote_that_is_gone_is_started_again(strict: Sandbox) -> None:
    judged(WELL, np.ones(3))
    assert strict._zygote is not None
    strict._zygote._process.kill()
    strict._zygote._process.wait()
    for _ in range(3):  # its children go with it, and no filter is blamed
        assert judged(WELL, np.ones(3)).cuts["real"].all()
    assert len(list(Path(f"/proc/{strict._zygote._process.pid}/task").iterdir())) == 1  # else no safe fork
    killer = threading.Timer(0.3, strict._zygote._process.kill)
    killer.start()
    assert judged(f"import time\ntime.sleep(0.6)\n{WELL}", np.ones(3)).cuts["real"].all()
    killer.join()


def many(body: str, rb: np.ndarray, times: int) -> None:
    for _ in range(times):
        judged(body, rb)
        time.sleep(0.002)


def judged(body: str, rb: np.ndarray) -> Any:
    names = pd.array(["a"] * len(rb), dtype=TEXT)
    columns = {"rb": rb, "candid": np.arange(len(rb)), "objectId": names}
    program = Program(body, text_of(body), "mine.py", "f")
    return sandbox().judge(program, {}, columns, pd.RangeIndex(len(rb)))
