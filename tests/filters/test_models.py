"""Models: an ONNX file run as another runtime runs it, whoever else is in the batch."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from benchmarks.train_class_model import KINDS
from filters import load
from filters.errors import BadParameter
from filters.external.externals import stored_columns, to_frame
from filters.models import BadModel, Model, model
from filters.models.model import ROWS, stamp_pixels
from filters.scoring import roc_area
from schemas.packets.packet import read_packet
from schemas.packets.reader import PacketReader
from simulator import SimulatedAlert, simulate, truth_table
from tests.filters.packets import NOW, alert
from tests.filters.stamp_oracle import pixels_of
from tests.frames import table_of_packets

STAMP = "cutoutDifference.stampData"
HERE = Path(__file__).resolve().parents[2] / "filters" / "models"
NUMBERS = """
version = "1"
[[inputs]]
name = "facts"
columns = ["magpsf", "rb"]
mean = [18.0, 0.5]
std = [2.0, 0.5]
[[outputs]]
name = "sum"
values = ["sum"]
[[outputs]]
name = "both"
values = ["first", "second"]
"""


@cache
def night() -> tuple[SimulatedAlert, ...]:
    return tuple(simulate(150, seed=31))


@cache
def frame() -> pd.DataFrame:
    reads = load("filters.models.stamps:stamp_model").require_reads()
    return to_frame(PacketReader(stored_columns(reads)).read([a.packet for a in night()]).table, reads)


def slowly(stamps: list[bytes]) -> list[float]:
    """By the reference implementation of ONNX, on pixels that astropy reads."""
    network = ReferenceEvaluator(onnx.load(str(HERE / "stamp_real.onnx")))
    found = []
    for data in stamps:
        pixels = pixels_of(data)
        middle = [pixels.get((y, x), 0.0) for y in range(-10, 11) for x in range(-10, 11)]
        scaled = np.array([middle], np.float32) / np.float32(max(1e-6, *map(abs, middle)))
        (answer,) = network.run(None, {"stamp": scaled})
        found.append(float(answer[0, 0]))
    return found


def test_it_says_what_another_runtime_says() -> None:
    stamps = [read_packet(alert.packet)[0]["cutoutDifference"]["stampData"] for alert in night()[:40]]
    ours = model("stamp_real")(pd.DataFrame({STAMP: pd.Series(stamps, dtype=object)}))
    assert ours["real"].tolist() == pytest.approx(slowly(stamps), abs=1e-5)


@given(st.lists(st.integers(0, 149), max_size=3 * ROWS))
def test_neighbours_have_no_part_in_an_answer(chosen: list[int]) -> None:
    whole = model_of_stamps()(frame())["real"].to_numpy()
    some = model_of_stamps()(frame().iloc[chosen])["real"].to_numpy()
    assert some.tolist() == whole[chosen].tolist()


@cache
def model_of_stamps() -> Model:
    return model("stamp_real")


def test_it_tells_artefacts_from_sources_on_a_sky_that_it_has_not_seen() -> None:
    known = [number for number, alert in enumerate(night()) if alert.truth is not None]
    real = np.array([night()[number].truth["class"] != "bogus" for number in known])
    scores = model_of_stamps()(frame())["real"].to_numpy()[known]
    assert roc_area(scores, real) > 0.97


def test_a_filter_gives_its_score() -> None:
    f = load("filters.models.stamps:stamp_model")
    judged = f.judge(frame())
    assert 0 < judged.mask.sum() < len(frame())
    whole = model_of_stamps()(frame())["real"].to_numpy()
    assert judged.values["real"].tolist() == whole[judged.mask].tolist()
    assert (judged.values["real"] >= 0.5).all()
    assert pickle.loads(pickle.dumps(f)).version == f.version


def test_what_is_missing_has_no_answer() -> None:
    good = read_packet(night()[0].packet)[0]["cutoutDifference"]["stampData"]
    stamps = pd.Series([None, good, b"no image", b""], dtype=object)
    assert np.isnan(stamp_pixels(stamps, 21)).all(1).tolist() == [True, False, True, True]
    found = model_of_stamps()(pd.DataFrame({STAMP: stamps}))["real"]
    assert found.isna().tolist() == [True, False, True, True]
    assert model_of_stamps()(pd.DataFrame({STAMP: stamps[:0]})).shape == (0, 1)


def numbers(folder: Path, about: str = NUMBERS) -> Model:
    """A graph that sums two numbers, and gives both back."""
    shape = onnx.helper.make_tensor_value_info
    float32 = onnx.TensorProto.FLOAT
    axes = onnx.numpy_helper.from_array(np.array([1]), "axes")
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("ReduceSum", ["facts", "axes"], ["sum"]),
            onnx.helper.make_node("Identity", ["facts"], ["both"]),
        ],
        "numbers",
        [shape("facts", float32, ["n", 2])],
        [shape("sum", float32, ["n", 1]), shape("both", float32, ["n", 2])],
        [axes],
    )
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10)
    raw = made.SerializeToString()
    (folder / "numbers.onnx").write_bytes(raw)
    told = f'file = "numbers.onnx"\nsha256 = "{hashlib.sha256(raw).hexdigest()}"\n{about}'
    (folder / "numbers.toml").write_text(told)
    return model(folder / "numbers.toml")


def test_numbers_of_the_alert_go_in_normalised(tmp_path: Path) -> None:
    made = numbers(tmp_path)
    assert made.reads == ["magpsf", "rb"]
    alerts = pd.DataFrame({"magpsf": [20.0, np.nan, 17.0], "rb": [1.0, 0.5, 0.0]}, index=[4, 5, 9])
    found = made(alerts)
    assert found.loc[4].tolist() == [2.0, 1.0, 1.0]
    assert found.loc[5].isna().all()
    assert found.loc[9].tolist() == [-1.5, -0.5, -1.0]
    shutil.rmtree(tmp_path)  # it travels by value
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(made))(alerts), found)


def test_a_model_that_is_another_one_is_refused(tmp_path: Path) -> None:
    numbers(tmp_path)
    with (tmp_path / "numbers.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BadModel, match="sha256"):
        model(tmp_path / "numbers.toml")
    wrong = numbers(tmp_path, NUMBERS.replace('name = "facts"', 'name = "fact"'))
    with pytest.raises(BadModel, match="takes"):
        wrong(pd.DataFrame({"magpsf": [1.0], "rb": [1.0]}))
    fewer = numbers(tmp_path, NUMBERS.replace('["first", "second"]', '["first"]'))
    with pytest.raises(BadModel, match="gives 3 numbers"):
        fewer(pd.DataFrame({"magpsf": [1.0], "rb": [1.0]}))
    with pytest.raises(BadModel, match="cannot be read"):
        model(tmp_path / "nothing.toml")
    with pytest.raises(BadModel, match="needs"):
        numbers(tmp_path, 'version = "1"')


def test_an_input_may_be_an_expression_and_stand_in_for_what_is_missing(tmp_path: Path) -> None:
    about = NUMBERS.replace(
        '["magpsf", "rb"]', '["jd - jdstarthist", "missing(rise_rate())"]\nmissing = [7.0, 0.0]'
    )
    made = numbers(tmp_path, about)
    past = {"prv_candidates.jd", "prv_candidates.mag", "prv_candidates.exposure", "prv_candidates.band"}
    assert set(made.reads) == {"jd", "jdstarthist", "mag", "band", *past}
    packets = [alert(jdstarthist=NOW - 20.0), alert(jdstarthist=None)]
    found = made(to_frame(table_of_packets(packets, made.reads), made.reads))
    assert found["first"].tolist() == [pytest.approx(1.0, abs=1e-6), 7.0]
    assert found["second"].tolist() == [1.0, 1.0]


def test_the_class_of_a_light_curve_on_a_sky_that_it_has_not_seen() -> None:
    f = load("filters.models.light_curves:light_curve_class")
    alerts = list(simulate(600, seed=41, nights=3, stamps=False, observed=True))
    reads = f.require_reads()
    night = to_frame(PacketReader(stored_columns(reads)).read([one.packet for one in alerts]).table, reads)
    kind = truth_table(alerts).to_pandas()["class"]
    judged = f.using(score_min=0.0, rb_min=0.0).judge(night)
    known = kind[judged.mask].notna().to_numpy()
    true = kind[judged.mask][known].map({one: name for name, of in KINDS.items() for one in of})
    right = judged.values["kind"][known].to_numpy() == true.to_numpy()
    assert right.mean() > 0.9
    supernovae = f.judge(night)
    assert kind[supernovae.mask].isin(KINDS["supernova"]).mean() > 0.8
    parts = [f.judge(night.iloc[at : at + 77]).values for at in range(0, 600, 77)]
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), supernovae.values, check_exact=True)
    with pytest.raises(BadParameter, match="supernova"):
        f.using(kind="supernovae").passes(night)


def test_the_stamp_model_beside_the_surveys_own_on_real_packets(real_alerts: Path) -> None:
    """Where the survey's deep score is sure of a real source, the model trained on simulated stamps
    agrees."""
    reads = ["drb", "rb", STAMP]
    raw = [p.read_bytes() for p in sorted(real_alerts.glob("ztf_*/*.avro"))]
    table = PacketReader(stored_columns(reads)).read(raw).table
    night = to_frame(table, reads)
    score, drb = model_of_stamps()(night)["real"], night["drb"]
    known = (score.notna() & drb.notna()).to_numpy()
    sure, doubtful = known & (drb > 0.9).to_numpy(), known & (drb < 0.5).to_numpy()
    high, low = score[sure], score[doubtful]
    print(f"{len(high)} with drb > 0.9: median {high.median():.2f}, {(high > 0.5).mean():.0%} above 0.5")
    print(f"{len(low)} with drb < 0.5: median {low.median():.2f}, {(low > 0.5).mean():.0%} above 0.5")
    print(f"rank correlation of {known.sum()} {score[known].corr(drb[known], method='spearman'):.2f}")
    assert known.sum() > 100
    assert (score[sure] > 0.5).mean() > 0.5


RUNS = """
import numpy as np
from filters.models.model import model
m = model("stamp_real")
m._session.run(None, {one.name: np.zeros([n if isinstance(n, int) else 32 for n in one.shape], np.float32)
                      for one in m._session.get_inputs()})
"""


def test_a_model_that_runs_tells_nobody(tmp_path: Path) -> None:
    """ONNX Runtime would write a database of events at home, and send them."""
    environment = {**os.environ, "HOME": f"{tmp_path}", "PYTHONPATH": f"{Path(__file__).parents[2]}"}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    subprocess.run([sys.executable, "-c", RUNS], check=True, env=environment, cwd=tmp_path)
    assert not list(tmp_path.rglob("*onnxruntime*"))
