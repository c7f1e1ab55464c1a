"""A stranger's model says in the sandbox what it says in process, and its faults cost it alone."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from filters import Filter
from filters.errors import FilterError
from filters.external.externals import frames_of
from filters.external.store import kept_in
from filters.models import model
from filters.sandbox.errors import Ended, Raised
from filters.sandbox.keeper import with_models
from filters.sandbox.models import GRAPH, TABLE, ModelFile
from filters.sandbox.question import Program, content_hash
from filters.sandbox.uploaded import uploaded
from filters.testing import packet
from pipeline.channels.definition import Definition
from pipeline.channels.models import asked_by, asked_in, expression_of, model_store, text_of
from schemas.packets.packet import read_packet
from tests.pipeline.night import REPOSITORY, night

OURS = REPOSITORY / "filters" / "models"


@pytest.fixture(scope="module", autouse=True)
def room(walls: None) -> Iterator[None]:
    yield
    with_models().close()


def kept(folder: Path, about: dict[str, Any], raw: bytes, name: str = "snn") -> ModelFile:
    """A version of a model, as `zads model add` keeps one."""
    about = {**about, "sha256": sha256(raw).hexdigest()}
    place = folder / sha256(raw).hexdigest()[:12]
    place.mkdir(parents=True, exist_ok=True)
    (place / GRAPH).write_bytes(raw)
    (place / TABLE).write_text(json.dumps(about))
    return ModelFile(name, str(place))


def light_curves(folder: Path) -> ModelFile:
    about = tomllib.loads((OURS / "light_curve_class.toml").read_text())
    return kept(folder, about, (OURS / "light_curve_class.onnx").read_bytes())


def by(where: str, one: ModelFile) -> Filter:
    text = text_of(where, [one.name])
    assert asked_by(text) == [one.name]
    assert expression_of(text) == where
    return uploaded(Program("ann, public", text, "where.py", "where", (one,)))


def test_what_it_says_is_what_it_says_in_process(tmp_path: Path) -> None:
    """Verdicts and values; whatever alerts are beside; the filter's version is of the model's version."""
    there = by("rb > 0.2 and snn.supernova > 0.3; score = (snn.supernova, '')", light_curves(tmp_path))
    ours = model("light_curve_class")
    columns = list(dict.fromkeys([*there.require_reads(), *ours.reads]))
    frame = frames_of(columns, "ztf").of_packets([read_packet(a.packet)[0] for a in night()[:300]])
    says = ours(frame)["supernova"].to_numpy()
    wanted = (frame["rb"].to_numpy() > 0.2) & (says > 0.3)
    assert 5 < wanted.sum() < len(frame) - 5
    judged = there.judge(frame)
    assert np.array_equal(judged.mask, wanted)
    assert np.array_equal(judged.values["score"].to_numpy(), says[wanted])
    parts = [there.judge(frame.iloc[rows]).mask for rows in (slice(0, 7), slice(7, 300))]
    assert np.array_equal(np.concatenate(parts), wanted)


def test_another_version_of_a_model_is_another_filter(tmp_path: Path) -> None:
    """Of the same table and the same text: the child gets the new one, and the filter has another version."""
    wet, dry = (by("snn.supernova > 0", _relu(tmp_path, operator)) for operator in ("Abs", "Neg"))
    frame = frames_of(wet.require_reads(), "ztf").of_packets([packet("ztf", rb=0.5, magpsf=18.0)])
    assert [one.judge(frame).mask.tolist() for one in (wet, dry, wet)] == [[True], [False], [True]]
    assert wet.version != dry.version


def _relu(folder: Path, operator: str = "Relu") -> ModelFile:
    about = {
        "inputs": [{"name": "x", "columns": ["rb", "magpsf"]}],
        "outputs": [{"name": "y", "values": ["supernova", "other"]}],
    }
    return kept(folder, about, graph([helper.make_node(operator, ["x"], ["y"])]))


def graph(nodes: list[Any], constants: list[Any] = ()) -> bytes:  # type: ignore[assignment]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [32, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [32, 2])],
        list(constants),
    )
    return helper.make_model(
        made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    ).SerializeToString()


def endless() -> bytes:
    """A loop of 2^60 rounds."""
    flag = helper.make_tensor_value_info("on", TensorProto.BOOL, [])
    count = helper.make_tensor_value_info("n", TensorProto.INT64, [])
    state = helper.make_tensor_value_info("s", TensorProto.FLOAT, [32, 2])
    inner = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["on2"]), helper.make_node("Sin", ["s"], ["s2"])],
        "inner",
        [count, flag, state],
        [
            helper.make_tensor_value_info("on2", TensorProto.BOOL, []),
            helper.make_tensor_value_info("s2", TensorProto.FLOAT, [32, 2]),
        ],
    )
    constants = [
        helper.make_tensor("most", TensorProto.INT64, [], [2**60]),
        helper.make_tensor("yes", TensorProto.BOOL, [], [True]),
    ]
    return graph([helper.make_node("Loop", ["most", "yes", "x"], ["y"], body=inner)], constants)


def huge() -> bytes:
    """64 GB of zeros on the way."""
    constants = [
        helper.make_tensor("shape", TensorProto.INT64, [3], [2**28, 32, 2]),
        helper.make_tensor("axes", TensorProto.INT64, [1], [0]),
    ]
    nodes = [
        helper.make_node("Expand", ["x", "shape"], ["much"]),
        helper.make_node("ReduceSum", ["much", "axes"], ["y"], keepdims=0),
    ]
    return graph(nodes, constants)


HOSTILE = {"an endless loop": (endless, "took more than"), "much memory": (huge, "memory|bad_alloc|allocat")}


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_graph_is_ended(tmp_path: Path, attack: str) -> None:
    """Its owner's filter fails, in words; that of another goes on."""
    made, words = HOSTILE[attack]
    about = {
        "inputs": [{"name": "x", "columns": ["rb", "magpsf"]}],
        "outputs": [{"name": "y", "values": ["a", "b"]}],
    }
    bad = by("snn.a > 0", kept(tmp_path, about, made()))
    frame = frames_of(bad.require_reads(), "ztf").of_packets([packet("ztf", rb=0.5, magpsf=18.0)])
    with pytest.raises((Ended, Raised), match=words):
        bad.judge(frame)
    good = by("snn.supernova > 0.3", _relu(tmp_path))
    assert good.judge(frame).mask.all()


WRONG = {
    "snn.nothing > 0": "gives no nothing, but supernova, other",
    "rb > {least: 0.5} and snn.other > 1": "has no parameters",
    "snn.other > max(prv_candidates.magpsf)": "a term of its own",
}


@pytest.mark.parametrize("where", WRONG)
def test_what_an_expression_cannot_ask(tmp_path: Path, where: str) -> None:
    with pytest.raises(FilterError, match=WRONG[where]):
        by(where, _relu(tmp_path))


def test_a_model_that_is_gone_is_said(tmp_path: Path) -> None:
    with pytest.raises(FilterError, match="the model snn, version 0123, is gone"):
        by("snn.a > 0", ModelFile("snn", str(tmp_path / "0123")))


def test_an_approved_text_that_asks_a_model_stays_in_the_sandbox() -> None:
    """The hash that an operator answers for is of the text alone."""
    text = text_of("snn.a > 0", ["snn"])
    approved = Definition(name="ann.x", filter="where.py:where", source=text, approved=content_hash(text))
    assert approved.trusted
    assert not approved.model_copy(update={"models": {"snn": "ann__snn@1"}}).trusted


def test_which_models_are_asked(tmp_path: Path) -> None:
    """By a text as far as it writes them out; by an expression those that are there."""
    text = "from zads import model\na, b = model('one'), model('two')\nc = model('one')\nd = print('no')"
    assert asked_by(text) == ["one", "two"]
    assert asked_by("def (") == []
    assert expression_of(text) == ""
    with kept_in(tmp_path):
        model_store().add("ann__snn", "1", {"what": "model", "values": ["a"]}, lambda folder: None)
        assert asked_in("rb > 0.5 and snn.a > 1 and other.sep < 2", "ann") == ["snn"]
        assert asked_in("ann__snn.a > 1", "ben") == ["ann__snn"]
        assert asked_in("snn.a > 1", "ben") == []
