"""Compile once, at set-up, what every process would compile anew: the decoder and the fit of light curves
(numba keeps them), and the byte code of all that zads imports (where Python is told to write none, each
start would cost seconds more).
"""

import importlib
import pkgutil

import numpy as np

from filters.supernovae import Measured, fits
from schemas.avro.rewrite import rewrite
from schemas.packets.reader import PacketReader
from simulator import simulate

packet = next(simulate(1, seed=0)).packet
assert PacketReader(["jd", "objectId", "prv_candidates.jd"]).read([packet]).table.num_rows == 1
assert len(rewrite(packet, drop=["cutoutScience"], public_only=True)) < len(packet)

light = (np.zeros(9, int), -np.arange(9.0), np.array(["g"] * 9, object), np.ones(9), np.ones(9))
assert fits("ztf", Measured(*light, alerts=1, zero=25.0), np.zeros(1))["dof"].tolist() == [4.0]

THEIRS = ("dask.dataframe", "distributed.cli.dask_scheduler", "distributed.dashboard.scheduler", "pytest")
for name in THEIRS:
    importlib.import_module(name)
for room in ("cluster", "schemas", "simulator", "filters", "archive", "pipeline", "commands"):
    for module in pkgutil.walk_packages([room], f"{room}."):
        importlib.import_module(module.name)
