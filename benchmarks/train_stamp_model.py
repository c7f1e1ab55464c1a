"""Trains the model of stamps (filters/models/stamp_real.onnx) on the simulated sky, and says how good it is.

    python -m benchmarks.train_stamp_model [--write]

A network of two hidden layers on the 21 x 21 pixels about the middle of the difference stamp. It is trained
on three seeds of the sky and judged on three others: other places, objects and noise. Needs the package onnx.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import network
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


def sky(seeds: Sequence[int]) -> tuple[pd.Series, np.ndarray]:
    """The difference stamps of some seeds, and whether each is of a real source."""
    alerts = [alert for seed in seeds for alert in simulate(800, seed=seed) if alert.truth is not None]
    stamps = [read_packet(alert.packet)[0]["cutoutDifference"]["stampData"] for alert in alerts]
    real = np.array([alert.truth["class"] != "bogus" for alert in alerts])
    return pd.Series(stamps, dtype=object), real


def trained(pixels: np.ndarray, real: np.ndarray, epochs: int = 25) -> network.Weights:
    """Adam on the logistic loss, both classes of equal weight; each stamp also mirrored and turned."""
    pictures = pixels.reshape(-1, SIDE, SIDE)
    turned = [pictures, pictures[:, ::-1], pictures[:, :, ::-1], pictures.transpose(0, 2, 1)]
    x = np.concatenate(turned).reshape(-1, SIDE * SIDE)
    y = np.tile(real, len(turned)).astype(float)
    weight = np.where(y > 0, (1 - y.mean()) / y.mean(), 1.0)
    return network.trained(x, y[:, None], weight, LAYERS, "Sigmoid", epochs)


def main() -> None:
    """Train, judge, and write the two files if told to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="Write filters/models/stamp_real.*")
    options = parser.parse_args()
    stamps, real = sky(TRAINED)
    weights = trained(stamp_pixels(stamps, SIDE), real)
    for name, seeds in (("trained on", TRAINED), ("judged on", JUDGED)):
        stamps, real = sky(seeds)
        score = network.forward(weights, stamp_pixels(stamps, SIDE))[-1][:, 0]
        passes = score >= 0
        rules = point_score(images(stamps))
        print(
            f"{name} seeds {seeds}: area {roc_area(score, real):.4f}, rules {roc_area(rules, real):.4f};"
            f" real passes {passes[real].mean():.3f}, artefact passes {passes[~real].mean():.3f}"
        )
    if options.write:
        graph = network.as_onnx(weights, "stamp_real", ("stamp", "real"), "Sigmoid")
        (HERE / "stamp_real.onnx").write_bytes(graph)
        about = ABOUT.format(sha256=hashlib.sha256(graph).hexdigest(), side=SIDE)
        (HERE / "stamp_real.toml").write_text(about)


if __name__ == "__main__":
    main()
