"""The fit of type Ia supernovae: time a fit, and what it finds, beside `sncosmo.fit_lc` on the same epochs.

    python -m benchmarks.type_ia [--alerts 2500] [--seeds 24 25] [--peer 40]

The simulated sky has supernovae of type Ia as they were observed (simulator/sky/observed.toml), not those
of the template that both fits use, and core-collapse supernovae. Bar: 3 ms an alert that is fitted.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from typing import Any

import numpy as np
import pandas as pd

from filters import registered
from filters.external.externals import stored_columns, to_frame
from filters.supernovae import FREE, Measured, fits, measured_by_ztf
from filters.supernovae.fit import SCATTER
from filters.supernovae.passbands import passbands
from schemas.packets.reader import PacketReader
from simulator import simulate, truth_table

BAR = 3.0


def sky(alerts: int, seed: int) -> tuple[pd.DataFrame, pd.Series]:
    """The alerts that the filter would fit, and their true class."""
    f = registered("ztf")["type_ia"]
    reads = f.require_reads()
    every = list(simulate(alerts, seed=seed, nights=3, stamps=False, observed=True))
    frame = to_frame(PacketReader(stored_columns(reads)).read([one.packet for one in every]).table, reads)
    fitted = f(frame).drop(columns="fits").all(axis=1).to_numpy()
    return frame[fitted].reset_index(drop=True), truth_table(every).to_pandas()["class"][fitted].reset_index(
        drop=True
    )


def told(name: str, chi2_dof: np.ndarray, kind: pd.Series, milliseconds: float) -> None:
    """One line of the answer."""
    passes, ia, core = chi2_dof <= 2, kind == "SN Ia", kind.isin(["SN II", "SN Ibc"])
    shares = (
        f"{passes[ia].mean():.0%} of {ia.sum()} of type Ia pass, {passes[core].mean():.0%} of {core.sum()}"
    )
    print(f"{name:10} {milliseconds:8.2f} ms a fit; {shares} core-collapse; purity {ia[passes].mean():.0%}")


def peer(measured: Measured, jd: np.ndarray, chosen: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """chi squared over the degrees of freedom, and the maximum (jd), by sncosmo."""
    import sncosmo
    from astropy.table import Table

    for name, band in passbands("ztf").items():
        made = sncosmo.Bandpass(band.wavelength, band.transmission, name=f"zads_{name}")
        sncosmo.register(made, force=True)
    model = sncosmo.Model("hsiao-subsampled", [sncosmo.CCM89Dust()], ["host"], ["rest"])
    found = np.full((2, len(chosen)), np.nan)
    for place, one in enumerate(chosen):
        some = measured.rows == one
        flux = measured.flux[some]
        error = np.hypot(measured.error[some], SCATTER * np.clip(flux, 0, None))
        names = [f"zads_{band}" for band in measured.bands[some]]
        columns = {"time": measured.days[some], "band": names, "flux": flux, "fluxerr": error}
        table = Table({**columns, "zp": np.full(len(flux), 25.0), "zpsys": ["ab"] * len(flux)})
        bounds = {"z": (0.005, 0.16), "t0": (-60, 20), "hostebv": (-0.1, 0.35)}
        try:
            free = ["z", "t0", "amplitude", "hostebv"]
            answer: Any = sncosmo.fit_lc(table, model, free, bounds=bounds, minsnr=0.0)[0]
        except (RuntimeError, sncosmo.fitting.DataQualityError):
            continue
        found[:, place] = answer.chisq / max(len(flux) - FREE + 1, 1), jd[one] + answer.parameters[1]
    return found[0], found[1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--alerts", type=int, default=2500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[24, 25])
    parser.add_argument("--peer", type=int, default=40, help="how many of them sncosmo fits too")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    skies = [sky(options.alerts, seed) for seed in options.seeds]
    fits("ztf", measured_by_ztf(skies[0][0].iloc[:1]), skies[0][0]["jd"].to_numpy()[:1])  # compiled
    print(f"load {os.getloadavg()[0]:.1f}")
    found, kinds, spent = [], [], 0.0
    for frame, kind in skies:
        began = time.process_time()
        found.append(fits("ztf", measured_by_ztf(frame), frame["jd"].to_numpy()))
        spent += time.process_time() - began
        kinds.append(kind)
    whole, kind = pd.concat(found, ignore_index=True), pd.concat(kinds, ignore_index=True)
    mean = spent / len(whole) * 1e3
    told("zads", whole["chi2_dof"].to_numpy(), kind, mean)
    print(f"{'':10} bar {BAR} ms: {'met' if mean <= BAR else 'NOT met'}")
    frame, kind = skies[0]
    chosen = np.random.default_rng(1).permutation(len(frame))[: options.peer]
    began = time.process_time()
    chi2, peaks = peer(measured_by_ztf(frame), frame["jd"].to_numpy(), chosen.tolist())
    told(
        "fit_lc", chi2, kind[chosen].reset_index(drop=True), (time.process_time() - began) / len(chosen) * 1e3
    )
    ours = found[0].loc[chosen]
    told("the same", ours["chi2_dof"].to_numpy(), kind[chosen].reset_index(drop=True), mean)
    ia = (kind[chosen] == "SN Ia").to_numpy()
    apart = np.abs(ours["peak_jd"].to_numpy() - peaks)[ia]
    print(f"the two put the maximum of a type Ia {np.nanmedian(apart):.1f} d apart in the median")


if __name__ == "__main__":
    main()
