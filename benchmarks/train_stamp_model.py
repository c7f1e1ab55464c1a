"""Trains the model of stamps (filters/models/stamp_real.onnx) on the simulated sky, and says how good it is.

    python -m benchmarks.train_stamp_model [--write]

A network of two hidden layers on the 21 x 21 pixels about the middle of the difference stamp. It is trained
on three seeds of the sky and judged on three others: other places, objects and noise. Needs the package onnx.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from filters.models.model import stamp_pixels
from filters.scoring import roc_area
from filters.stamps import images, point_score
from schemas.packets.packet import read_packet
from simulator import simulate

SIDE, LAYERS = 21, (48, 16)
TRAINED, JUDGED = (1, 2, 3), (11, 12, 13)
HERE = Path(__file__).resolve().parent.parent / "filters" / "models"
ABOUT = """# Real sources against artefacts, by the difference stamp. Made by benchmarks/train_stamp_model.py.
file = "stamp_real.onnx"
sha256 = "{sha256}"
version = "1"

[[inputs]]
name = "stamp"
stamp = "cutoutDifference.stampData"
side = {side}

[[outputs]]
name = "real"
values = ["real"]
"""
Weights = list[np.ndarray]


def sky(seeds: Sequence[int]) -> tuple[pd.Series, np.ndarray]:
    """The difference stamps of some seeds, and whether each is of a real source."""
    alerts = [alert for seed in seeds for alert in simulate(800, seed=seed) if alert.truth is not None]
    stamps = [read_packet(alert.packet)[0]["cutoutDifference"]["stampData"] for alert in alerts]
    real = np.array([alert.truth["class"] != "bogus" for alert in alerts])
    return pd.Series(stamps, dtype=object), real


def forward(weights: Weights, pixels: np.ndarray) -> list[np.ndarray]:
    """What each layer gives; the last one the score before the logistic curve."""
    outputs = [pixels]
    for at in range(0, len(weights), 2):
        found = outputs[-1] @ weights[at] + weights[at + 1]
        outputs.append(found if at == len(weights) - 2 else np.maximum(found, 0))
    return outputs


def trained(pixels: np.ndarray, real: np.ndarray, epochs: int = 25) -> Weights:
    """Adam on the logistic loss, both classes of equal weight; each stamp also mirrored and turned."""
    rng = np.random.default_rng(1)
    pictures = pixels.reshape(-1, SIDE, SIDE)
    turned = [pictures, pictures[:, ::-1], pictures[:, :, ::-1], pictures.transpose(0, 2, 1)]
    x = np.concatenate(turned).reshape(-1, SIDE * SIDE)
    y = np.tile(real, len(turned)).astype(float)
    weight = np.where(y > 0, (1 - y.mean()) / y.mean(), 1.0)
    sizes = [SIDE * SIDE, *LAYERS, 1]
    weights: Weights = []
    for a, b in pairwise(sizes):
        weights += [rng.normal(0, np.sqrt(2 / a), (a, b)), np.zeros(b)]
    first, second = [[np.zeros_like(w) for w in weights] for _ in range(2)]
    step = 0
    for _ in range(epochs):
        order = rng.permutation(len(x))
        for at in range(0, len(order), 128):
            some = order[at : at + 128]
            step += 1
            for k, slope in enumerate(_slopes(weights, x[some], y[some], weight[some])):
                first[k] = 0.9 * first[k] + 0.1 * slope
                second[k] = 0.999 * second[k] + 0.001 * slope**2
                rise = first[k] / (1 - 0.9**step) / (np.sqrt(second[k] / (1 - 0.999**step)) + 1e-8)
                weights[k] = weights[k] - 2e-3 * rise
    return [w.astype(np.float32) for w in weights]


def _slopes(weights: Weights, x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> Weights:
    outputs = forward(weights, x)
    score = 1 / (1 + np.exp(-outputs[-1][:, 0]))
    back = ((score - y) * weight / len(y))[:, None]
    slopes: Weights = []
    for at in range(len(weights) - 2, -1, -2):
        before = outputs[at // 2]
        slopes = [before.T @ back + 1e-4 * weights[at], back.sum(0), *slopes]
        if at:
            back = (back @ weights[at].T) * (before > 0)
    return slopes


def as_onnx(weights: Weights) -> bytes:
    """The network as an ONNX file, the logistic curve included."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, tensors, now = [], [], "stamp"
    for at in range(0, len(weights), 2):
        names = f"w{at}", f"b{at}", f"layer{at}"
        tensors += [numpy_helper.from_array(weights[at + i], names[i]) for i in (0, 1)]
        nodes.append(helper.make_node("Gemm", [now, names[0], names[1]], [names[2]]))
        kind, now = ("Sigmoid", "real") if at == len(weights) - 2 else ("Relu", f"out{at}")
        nodes.append(helper.make_node(kind, [names[2]], [now]))
    shape: Any = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "stamp_real",
        [shape("stamp", TensorProto.FLOAT, ["n", SIDE * SIDE])],
        [shape("real", TensorProto.FLOAT, ["n", 1])],
        tensors,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    return bytes(made.SerializeToString())


def main() -> None:
    """Train, judge, and write the two files if told to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="Write filters/models/stamp_real.*")
    options = parser.parse_args()
    stamps, real = sky(TRAINED)
    weights = trained(stamp_pixels(stamps, SIDE), real)
    for name, seeds in (("trained on", TRAINED), ("judged on", JUDGED)):
        stamps, real = sky(seeds)
        score = forward(weights, stamp_pixels(stamps, SIDE))[-1][:, 0]
        passes = score >= 0
        rules = point_score(images(stamps))
        print(
            f"{name} seeds {seeds}: area {roc_area(score, real):.4f}, rules {roc_area(rules, real):.4f};"
            f" real passes {passes[real].mean():.3f}, artefact passes {passes[~real].mean():.3f}"
        )
    if options.write:
        graph = as_onnx(weights)
        (HERE / "stamp_real.onnx").write_bytes(graph)
        about = ABOUT.format(sha256=hashlib.sha256(graph).hexdigest(), side=SIDE)
        (HERE / "stamp_real.toml").write_text(about)


if __name__ == "__main__":
    main()
