"""The fit of type Ia supernovae: its table, its sums, what it finds, and what it says where it knows
nothing."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from astropy.cosmology import FlatLambdaCDM
from hypothesis import given, settings
from hypothesis import strategies as st

from filters import load, registered
from filters.external.externals import frames_of, stored_columns, to_frame
from filters.scoring import STARS
from filters.supernovae import FITTED, FREE, Measured, fits, measured_by_ztf, templates
from filters.supernovae.make import DAYS, REST_B, dust_law, flux_in
from filters.supernovae.passbands import passbands
from filters.values import as_json
from schemas.packets.reader import PacketReader
from schemas.time import jd_of_tai
from simulator import simulate, truth_table
from simulator.sky.lightcurves import Curve, supernova
from simulator.sky.observed import observed_ia, observed_supernovae
from tests import rubin
from tests.filters.packets import alert, detection
from tests.frames import table_of_packets

CORE_COLLAPSE = ("SN II", "SN Ibc")


def made_of(
    one: int, peak: float, amplitude: float, days: list[float], bands: str, survey: str = "ztf"
) -> Measured:
    """Epochs that lie exactly on a template."""
    grid = templates(survey, -81, 61)
    light = grid.light[[grid.bands.index(band) for band in bands], :, one]
    flux = amplitude * np.array(
        [np.interp(day - peak, np.arange(-81, 62), curve) for day, curve in zip(days, light, strict=True)]
    )
    whole = np.zeros(len(days), int), np.array(days), np.array(list(bands), object), flux
    return Measured(*whole, np.maximum(0.02 * flux, 1.0), 1, ZERO[survey])


ZERO = {"ztf": 25.0, "lsst": 31.4}
DAYS_SEEN, BANDS_SEEN = [-24.0, -23.9, -18.0, -17.9, -12.0, -11.9, -6.0, -5.5, -3.0, 0.0], "grgrgrigrg"


@pytest.mark.parametrize(
    ("one", "peak", "survey"),
    [
        *((60, -9.0, "ztf"), (137, -14.0, "ztf"), (212, 3.0, "ztf"), (263, -2.0, "ztf")),
        *((62, -9.0, "lsst"), (237, -12.0, "lsst"), (337, 2.0, "lsst")),
    ],
)
def test_a_template_fits_itself(one: int, peak: float, survey: str) -> None:
    grid = templates(survey, -81, 61)
    amplitude = 10 ** (-0.4 * (grid.modulus[one] - 19.0 - ZERO[survey]))
    bands = BANDS_SEEN if survey == "ztf" else "grizyugriz"
    measured = made_of(one, peak, amplitude, DAYS_SEEN, bands, survey)
    found = fits(survey, measured, np.array([2460000.5])).iloc[0]
    assert found["chi2"] == pytest.approx(0, abs=1e-6)
    assert found["dof"] == len(DAYS_SEEN) - FREE
    assert found["peak_jd"] == pytest.approx(2460000.5 + peak, abs=0.1)
    assert found["amplitude"] == pytest.approx(amplitude)
    told = found[["redshift", "stretch", "dust"]].tolist()
    assert told == [grid.redshift[one], grid.stretch[one], grid.dust[one]]
    assert found["phase"] == pytest.approx(-peak / (1 + grid.redshift[one]), abs=0.1)


def test_too_few_epochs_are_no_fit() -> None:
    reads = registered()["type_ia"].require_reads()
    some = [detection(1440 * n, fid=1 + n % 2, magpsf=17.0, sigmapsf=0.05) for n in range(1, 5)]
    frame = to_frame(table_of_packets([alert(some, sigmapsf=0.05, magpsf=17.0)], reads), reads)
    found = fits("ztf", measured_by_ztf(frame), frame["jd"].to_numpy())
    assert found["dof"].tolist() == [0.0]
    assert as_json(found) == [dict.fromkeys(FITTED) | {"dof": 0}]


def test_nothing_as_bright_as_a_supernova_is_no_fit() -> None:
    measured = made_of(0, -9.0, 1e-3, DAYS_SEEN, BANDS_SEEN)
    found = fits("ztf", measured, np.array([0.0])).iloc[0]
    assert found["dof"] == 5
    assert found.drop("dof").isna().all()


def test_the_forced_flux_of_an_exposure_counts() -> None:
    reads = registered()["type_ia"].require_reads()
    row = detection(1440, magpsf=20.0, sigmapsf=0.1, pid=7)
    forced = {"jd": row["jd"], "fid": 1, "pid": 7, "programid": 1, "procstatus": "0"}
    forced |= {"forcediffimflux": 300.0, "forcediffimfluxunc": 20.0, "magzpsci": 26.0}
    before = forced | {"jd": row["jd"] - 5, "pid": 5, "forcediffimflux": -10.0}
    bad = forced | {"jd": row["jd"] - 6, "pid": 4, "procstatus": "56"}
    old = forced | {"jd": row["jd"] - 90, "pid": 3}
    packet = alert([row], sigmapsf=0.1) | {"fp_hists": [old, bad, before, forced]}
    found = measured_by_ztf(to_frame(table_of_packets([packet], reads), reads))
    assert found.days.tolist() == pytest.approx([-6, -1, 0])
    unit = 10**-0.4
    assert found.flux[:2].tolist() == pytest.approx([-10 * unit, 300 * unit])
    assert found.error[:2].tolist() == pytest.approx([20 * unit, 20 * unit])


@cache
def sky() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Some nights whose type Ia supernovae are observed ones, not the template's; and their truth."""
    reads = registered()["type_ia"].require_reads()
    alerts = list(simulate(2500, seed=24, nights=3, stamps=False, observed=True))
    table = PacketReader(stored_columns(reads)).read([one.packet for one in alerts]).table
    return to_frame(table, reads), truth_table(alerts).to_pandas()


def test_it_finds_observed_supernovae_and_few_others() -> None:
    frame, truth = sky()
    f = registered()["type_ia"]
    could, passed = f.using(chi2_max=1e9).passes(frame), f.passes(frame)
    kind = truth["class"]
    assert (kind[could].isin(CORE_COLLAPSE)).sum() > 20
    completeness = (passed & (kind == "SN Ia")).sum() / (could & (kind == "SN Ia")).sum()
    purity = (kind[passed] == "SN Ia").mean()
    of_others = (passed & kind.isin(CORE_COLLAPSE)).sum() / (could & kind.isin(CORE_COLLAPSE)).sum()
    print(f"completeness {completeness:.2f}, purity {purity:.2f}, core collapse passes {of_others:.2f}")
    assert completeness > 0.9
    assert purity > 0.8
    assert of_others < 0.35
    assert not kind[passed].isin(STARS).any()


def test_it_knows_when_the_maximum_was() -> None:
    frame, truth = sky()
    judged = registered()["type_ia"].judge(frame)
    there = truth[judged.mask].reset_index(drop=True)
    ia = (there["class"] == "SN Ia").to_numpy()
    late = (judged.values["peak_jd"] - there["peak_jd"])[ia]
    assert late.abs().median() < 2
    assert judged.values["phase"].between(-60, 60).all()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 2499), max_size=30))
def test_neighbours_have_no_part_in_a_fit(chosen: list[int]) -> None:
    frame, _ = sky()
    some = frame.iloc[chosen]
    alone = [fits("ztf", measured_by_ztf(frame.iloc[[one]]), frame["jd"].to_numpy()[[one]]) for one in chosen]
    together = fits("ztf", measured_by_ztf(some), some["jd"].to_numpy())
    whole = pd.concat(alone, ignore_index=True) if alone else together
    pd.testing.assert_frame_equal(together, whole, check_exact=True)


@pytest.mark.parametrize("survey", ["ztf", "lsst"])
def test_the_table_is_sncosmos_template(survey: str) -> None:
    """Bandpass by bandpass, against sncosmo's own integrals."""
    sncosmo = pytest.importorskip("sncosmo", reason="sncosmo is needed to check the stored templates")
    grid = templates(survey, -81, 61)
    model = sncosmo.Model(
        "hsiao-subsampled", effects=[sncosmo.CCM89Dust()], effect_names=["d"], effect_frames=["rest"]
    )
    box = sncosmo.Bandpass(REST_B.wavelength, REST_B.transmission)
    peak = model.bandflux(box, np.arange(-3, 3, 0.25), zp=25, zpsys="ab").max()
    for one in (0, 62, 138, 213, 299):
        model.set(z=grid.redshift[one], debv=grid.dust[one], t0=0)
        rest = np.array([-10.0, 0.0, 15.0, 40.0 if survey == "ztf" else 30.0])
        seen = np.round(rest * grid.stretch[one] * (1 + grid.redshift[one])).astype(int)
        at = seen / grid.stretch[one]  # the template's days, in the observer's frame
        for number, band in enumerate(passbands(survey).values()):
            told = (
                model.bandflux(sncosmo.Bandpass(band.wavelength, band.transmission), at, zp=25, zpsys="ab")
                / peak
            )
            ours = grid.light[number, seen - grid.first, one]
            assert ours.tolist() == pytest.approx(told.tolist(), rel=0.02)


def rubin_alert(number: int, curve: Curve, rng: np.random.Generator, now: float) -> dict[str, Any]:
    """An alert on a source with this light curve, observed in g, r and i: two bands every third night."""
    days = np.sort(np.concatenate([np.arange(-57, 1, 3.0), np.arange(-57, -2, 3.0) + 0.02]))
    bands = rng.choice(["g", "r", "i"], len(days))
    true = curve(now + days, np.array([{"g": 1, "r": 2, "i": 3}[band] for band in bands])) * 10**2.56
    error = np.hypot({"g": 73.0, "r": 96.0, "i": 182.0}[bands[-1]], 0.01 * true)
    flux = true + error * rng.normal(size=len(days))
    rows = [
        {
            "midpointMjdTai": rubin.NOW + day,
            "band": band,
            "visit": 10 + at,
            "detector": 1,
            "psfFlux": f,
            "psfFluxErr": e,
        }
        for at, (day, band, f, e) in enumerate(zip(days, bands, flux, error, strict=True))
    ]
    *before, own = rows
    seen = [row | {"isNegative": False} for row in before if row["psfFlux"] > 5 * row["psfFluxErr"]]
    first = min([row["midpointMjdTai"] for row in seen], default=rubin.NOW)
    return rubin.alert(
        candid=number,
        past=seen,
        forced=before,
        records={"diaObject": {"diaObjectId": number, "firstDiaSourceMjdTai": first}},
        **{
            **own,
            "midpointMjdTai": rubin.NOW,
            "isNegative": False,
            "reliability": 0.9,
            "diaObjectId": number,
        },
    )


def test_it_finds_observed_supernovae_among_rubins_alerts_and_few_others() -> None:
    """Light curves of the Carnegie Supernova Project, not the template's, in g, r and i."""
    rng, now = np.random.default_rng(3), float(jd_of_tai(np.array(rubin.NOW)))
    curves, kinds = [], []
    for one in observed_supernovae():
        for redshift in (0.04, 0.07, 0.1):
            modulus = FlatLambdaCDM(H0=70, Om0=0.3).distmod(redshift).value
            curves.append(observed_ia(one, now - float(rng.uniform(5, 35)), modulus - 19.05, redshift))
            kinds.append("SN Ia")
    for number in range(60):
        kind, redshift = CORE_COLLAPSE[number % 2], float(rng.uniform(0.02, 0.08))
        modulus = FlatLambdaCDM(H0=70, Om0=0.3).distmod(redshift).value
        peak = modulus + (-16.9 if kind == "SN II" else -17.6) + 0.8 * float(rng.normal())
        bands = (peak + 0.2, peak, peak + 0.1)
        curves.append(supernova(kind, now - float(rng.uniform(20, 55)), bands, 1 + redshift))
        kinds.append(kind)
    packets = [rubin_alert(number + 1, curve, rng, now) for number, curve in enumerate(curves)]
    f = load("filters.supernovae.rubin:type_ia_rubin")
    frame = frames_of(f.require_reads(), "lsst").of_packets(packets)
    could, judged, kind = f.using(chi2_max=1e9).passes(frame).to_numpy(), f.judge(frame), np.array(kinds)
    ia = kind == "SN Ia"
    completeness = (judged.mask & ia).sum() / (could & ia).sum()
    of_others = (judged.mask & ~ia).sum() / (could & ~ia).sum()
    print(
        f"could {could[ia].sum()} and {could[~ia].sum()}, {completeness:.2f}, core collapse {of_others:.2f}"
    )
    assert could[ia].sum() > 20
    assert could[~ia].sum() > 20
    assert completeness > 0.8
    assert of_others < 0.5


def test_dust_is_that_of_cardelli() -> None:
    sncosmo = pytest.importorskip("sncosmo", reason="sncosmo is needed to check the dust")
    dust = sncosmo.CCM89Dust()
    dust.set(ebv=1.0, r_v=3.1)
    waves = np.array([1500.0, 2500.0, 3500.0, 4800.0, 6400.0, 7900.0, 12000.0])
    told = -2.5 * np.log10(dust.propagate(waves, np.ones((1, len(waves))))[0]) / 3.1
    assert dust_law(waves).tolist() == pytest.approx(told.tolist(), rel=1e-3)


def test_a_flat_spectrum_has_the_same_flux_in_each_band() -> None:
    class Flat:
        """f_ν constant: f_λ goes as λ⁻²."""

        def flux(self, days: np.ndarray, wave: np.ndarray) -> np.ndarray:
            return np.tile(wave**-2.0, (len(days), 1))

    fluxes = [flux_in(band, Flat(), 0.0, 0.0) for band in passbands("ztf").values()]
    assert np.ptp(fluxes) == pytest.approx(0, abs=1e-9)
    assert fluxes[0].shape == DAYS.shape


def test_passbands_are_where_they_are_published() -> None:
    """ZTF's mean wavelengths by Bellm et al. (2019) and the SVO filter service; the LSST's effective ones by
    Rubin's technote PSTN-054."""
    told = {"g": 4806, "r": 6436, "i": 7968}
    for name, band in passbands("ztf").items():
        assert band.mean == pytest.approx(told[name], rel=0.015)
    told = {"u": 3680, "g": 4780, "r": 6230, "i": 7530, "z": 8690, "y": 9730}
    assert list(passbands("lsst")) == list(told)
    for name, band in passbands("lsst").items():
        assert band.mean == pytest.approx(told[name], rel=0.015)


def test_explain_shows_what_the_fit_saw() -> None:
    frame, _ = sky()
    f = registered()["type_ia"]
    passing = frame[f.passes(frame)].iloc[:1]
    told = f.explain(passing, int(passing["candid"].iloc[0])).set_index("cut")["saw"]
    assert "fp_hists.forcediffimflux" in told["fits"]
    assert f.values_of(passing)["chi2_dof"] <= 2
