"""Trains the model of light curves (filters/models/light_curve_class.onnx) on the simulated sky, and says
how good it is: its confusion beside that of the filters by rules.

    python -m benchmarks.train_class_model [--write] [--alerts 4000]

A network of two hidden layers on numbers of the light curve and of the catalogue source beside it. It is
trained on some seeds of the sky and judged on others: other places, objects and noise. Type Ia supernovae
have observed light curves, not a template's. Needs the package onnx.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import network
from filters import registered
from filters.expressions.filter import Number
from filters.external.externals import stored_columns, to_frame
from filters.models.model import model
from schemas.packets.reader import PacketReader
from simulator import simulate, truth_table

LAYERS = (48, 24)
TRAINED, JUDGED = (1, 2, 3, 4, 5, 6), (11, 12, 13)
HERE = Path(__file__).resolve().parent.parent / "filters" / "models"
NAME = "light_curve_class"

KINDS: dict[str, tuple[str, ...]] = {
    "supernova": ("SN Ia", "SN II", "SN Ibc", "kilonova"),
    "nucleus": ("AGN", "TDE"),
    "variable": ("RR Lyrae", "Cepheid", "long-period variable", "eclipsing binary", "spotted star"),
    "outburst": ("dwarf nova", "nova", "stellar outburst", "flare star"),
    "mover": ("asteroid", "unknown asteroid", "near-Earth asteroid"),
    "artefact": ("bogus",),
}
"""What the model says -> classes of the simulated sky."""

BY_RULES: dict[str, tuple[str, ...]] = {
    "mover": ("solar_system", "asteroid"),
    "outburst": ("blue_outburst", "stellar_outburst"),
    "supernova": ("type_ia", "young_supernova"),
    "nucleus": ("nuclear",),
    "variable": ("star_galaxy",),
}
"""What the filters by rules say, the first that passes first; "artefact" where `real_bogus` does not."""

_SEEN = "count(prv_candidates.magpsf)"
_SAME = "where=prv_candidates.fid == fid"
NUMBERS = (
    "magpsf",
    "sigmapsf",
    "positive",
    "magpsf - peak()",
    "since_peak()",
    "since_first()",
    "rise_rate()",
    "missing(rise_rate())",
    "limit_before_first()",
    "missing(limit_before_first())",
    'colour("g", "r")',
    'missing(colour("g", "r"))',
    "detections_tonight()",
    f"log10(1 + {_SEEN})",
    f"{_SEEN} / (1 + count(prv_candidates))",
    f"count(prv_candidates.magpsf, where=prv_candidates.positive) / (1 + {_SEEN})",
    f"mean(prv_candidates.magpsf, {_SAME}) - magpsf",
    f"max(prv_candidates.magpsf, {_SAME}) - min(prv_candidates.magpsf, {_SAME})",
    f"missing(mean(prv_candidates.magpsf, {_SAME}))",
    "log10(1 + ndethist)",
    "log10(1 + (jd - jdstarthist))",
    "missing(distpsnr1)",
    "log10(0.1 + distpsnr1)",
    "sgscore1",
    "missing(sgscore1)",
    "srmag1 - magpsf",
    "sgmag1 - srmag1",
    "magnr - magpsf",
    "log10(0.1 + distnr)",
    "missing(ssdistnr)",
    "log10(0.1 + ssdistnr)",
    "fwhm",
    "elong",
    "nbad",
)
"""What it sees of an alert: expressions (docs/expressions.md). Neither `rb` nor `drb` is among them."""


def sky(seeds: Sequence[int], alerts: int) -> tuple[pd.DataFrame, np.ndarray]:
    """The alerts of some seeds, and the number of each one's kind."""
    reads = {name for text in NUMBERS for name in Number(text).reads}
    judges = [f for names in BY_RULES.values() for name in names for f in [registered("ztf")[name]]]
    for f in [*judges, registered("ztf")["real_bogus"]]:
        reads |= set(f.require_reads())
    number = {kind: place for place, of in enumerate(KINDS.values()) for kind in of}
    frames, kinds = [], []
    for seed in seeds:
        every = list(simulate(alerts, seed=seed, nights=3, stamps=False, observed=True))
        table = PacketReader(stored_columns(sorted(reads))).read([one.packet for one in every]).table
        truth = truth_table(every).to_pandas()["class"].map(number)
        known = truth.notna().to_numpy()
        frames.append(to_frame(table, sorted(reads))[known])
        kinds.append(truth[known].to_numpy(int))
    return pd.concat(frames, ignore_index=True), np.concatenate(kinds)


def numbers_of(frame: pd.DataFrame) -> np.ndarray:
    """(n, k) float64, NaN where one is missing."""
    return np.stack([Number(text)(frame) for text in NUMBERS], axis=1)


def by_rules(frame: pd.DataFrame) -> np.ndarray:
    """What the filters by rules hold each alert for; -1 where none passes."""
    known, found = list(KINDS), np.full(len(frame), -1)
    for kind, names in reversed(BY_RULES.items()):
        for name in names:
            found[registered("ztf")[name].passes(frame).to_numpy()] = known.index(kind)
    found[~registered("ztf")["real_bogus"].passes(frame).to_numpy()] = known.index("artefact")
    return found


def confusion(true: np.ndarray, said: np.ndarray) -> str:
    """A table: a row for each true kind, the share of its alerts that are held for each kind."""
    names = [*KINDS, "none"]
    lines = ["| true | alerts | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for place, kind in enumerate(KINDS):
        of = said[true == place]
        shares = [np.mean(of == (k if k < len(KINDS) else -1)) for k in range(len(names))]
        lines.append(f"| {kind} | {len(of):,} | " + " | ".join(f"{share:.0%}" for share in shares) + " |")
    purity = [np.mean(true[said == k] == k) if (said == k).any() else np.nan for k in range(len(KINDS))]
    return "\n".join([*lines, "| pure | | " + " | ".join(f"{one:.0%}" for one in purity) + " | |"])


def about(graph: bytes, mean: np.ndarray, std: np.ndarray) -> str:
    """The table beside the graph."""
    numbers = "\n".join(f"    {json.dumps(text)}," for text in NUMBERS)
    return f"""# Classes of light curves on the simulated sky. Made by benchmarks/train_class_model.py.
file = "{NAME}.onnx"
sha256 = "{hashlib.sha256(graph).hexdigest()}"
version = "1"
survey = "ztf"

[[inputs]]
name = "numbers"
columns = [
{numbers}
]
mean = {[round(float(x), 4) for x in mean]}
std = {[round(float(x), 4) for x in std]}
missing = 0.0

[[outputs]]
name = "kinds"
values = {json.dumps(list(KINDS))}
"""


def main() -> None:
    """Train, judge, and write the two files if told to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"Write filters/models/{NAME}.*")
    parser.add_argument("--judge", action="store_true", help="Judge the files that are there.")
    parser.add_argument("--alerts", type=int, default=4000)
    options = parser.parse_args()
    if not options.judge:
        frame, kind = sky(TRAINED, options.alerts)
        x = numbers_of(frame)
        mean = np.asarray(np.nanmean(x, axis=0)).round(4)
        std = np.asarray(np.maximum(np.nanstd(x, axis=0), 1e-3)).round(4)
        scaled = np.nan_to_num((x - mean) / std, nan=0.0, posinf=0.0, neginf=0.0)
        share = np.bincount(kind, minlength=len(KINDS)) / len(kind)
        weight = (1 / np.sqrt(share))[kind]
        y = np.eye(len(KINDS))[kind]
        weights = network.trained(scaled, y, weight / weight.mean(), LAYERS, "Softmax", 40)
        graph = network.as_onnx(weights, NAME, ("numbers", "kinds"), "Softmax")
        if options.write:
            (HERE / f"{NAME}.onnx").write_bytes(graph)
            (HERE / f"{NAME}.toml").write_text(about(graph, mean, std))
    frame, kind = sky(JUDGED, options.alerts)
    if options.judge or options.write:
        said = model(NAME)(frame).to_numpy().argmax(1)
    else:
        scaled = np.nan_to_num((numbers_of(frame) - mean) / std, nan=0.0, posinf=0.0, neginf=0.0)
        said = network.forward(weights, scaled)[-1].argmax(1)
    rules = by_rules(frame)
    print(f"judged on seeds {JUDGED}, {len(kind):,} alerts; model right {np.mean(said == kind):.1%}")
    print(confusion(kind, said))
    print(f"\nfilters by rules right {np.mean(rules == kind):.1%}")
    print(confusion(kind, rules))


if __name__ == "__main__":
    main()
