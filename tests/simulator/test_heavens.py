"""Sun, Moon, distances, the Ia template, the grid of tiles, against astropy, sncosmo and counting."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import AltAz, EarthLocation, SkyCoord, get_body, get_sun
from astropy.cosmology import FlatLambdaCDM
from astropy.time import Time
from astropy.utils import iers
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.measure.catalogue import catalogue_around, hashed
from simulator.sky import heavens, templates
from simulator.sky.population import comoving_volume, luminosity_distance
from simulator.sky.telescope import Plan, Survey

PALOMAR = EarthLocation(lon=heavens.LONGITUDE * u.deg, lat=heavens.LATITUDE * u.deg, height=1712 * u.m)
DAYS = np.linspace(2460500.3, 2460970.9, 60)


@pytest.fixture(autouse=True)
def offline():
    """Earth rotation from the tables in the package: nothing is fetched."""
    with iers.conf.set_temp("auto_download", False), iers.conf.set_temp("iers_degraded_accuracy", "ignore"):
        yield


def test_sun_and_moon_are_where_astropy_has_them() -> None:
    times = Time(DAYS, format="jd")
    for own, theirs, close in (
        (heavens.sun(DAYS), get_sun(times), 0.4),  # of date against J2000: precession of 25 years
        (heavens.moon(DAYS), get_body("moon", times), 1.0),
    ):
        here = SkyCoord(own[0], own[1], unit="deg")
        away = here.separation(SkyCoord(theirs.ra, theirs.dec)).deg
        assert away.max() < close + 0.4


def test_nights_are_dark_by_astropy() -> None:
    for midnight in 2460570.8246 + np.arange(0, 400, 37):
        dusk, dawn = heavens.night_hours(midnight)
        times = Time([dusk, (dusk + dawn) / 2, dawn], format="jd")
        height = get_sun(times).transform_to(AltAz(obstime=times, location=PALOMAR)).alt.deg
        assert height[[0, 2]] == pytest.approx(-12, abs=0.5)
        assert height[1] < -12


@settings(deadline=None)
@given(ra=st.floats(0, 359.9), dec=st.floats(-89, 89))
def test_ecliptic_latitude(ra: float, dec: float) -> None:
    theirs = SkyCoord(ra, dec, unit="deg").barycentrictrueecliptic.lat.deg
    assert heavens.ecliptic_latitude(ra, dec) == pytest.approx(theirs, abs=0.02)


def test_a_full_moon_is_bright_and_near_it_brighter() -> None:
    full = DAYS[np.argmax(heavens.illumination(DAYS))]
    ra, dec = heavens.moon(full)
    up = full + np.arange(0, 1, 0.05)
    near, far = (
        heavens.moonlight(up, np.full(20, ra + away), np.full(20, float(dec)), np.full(20, 1)).max()
        for away in (20, 90)
    )
    assert near > far > 0.5
    assert heavens.moonlight(up, np.full(20, ra), np.full(20, dec), np.full(20, 3)).max() < near


@settings(deadline=None)
@given(st.floats(0.003, 0.15))
def test_distances(redshift: float) -> None:
    cosmology = FlatLambdaCDM(H0=70, Om0=0.3)
    assert luminosity_distance(redshift) == pytest.approx(
        cosmology.luminosity_distance(redshift).to_value(u.Mpc), rel=0.01
    )
    assert comoving_volume(redshift) == pytest.approx(
        cosmology.comoving_volume(redshift).to_value(u.Mpc**3), rel=0.03
    )


def test_the_template_is_sncosmos() -> None:
    sncosmo = pytest.importorskip("sncosmo", reason="sncosmo is needed to check the stored template")
    fresh = templates.compute()
    assert templates.hsiao().below == pytest.approx(fresh.below, abs=2e-3)
    # And by another way: the model's own light curve at a redshift between the grid's.
    model = sncosmo.Model("hsiao-subsampled")
    days, redshift = np.array([-10.0, 0, 12, 30, 60]), 0.053
    model.set(z=redshift, t0=0)
    for fid, (low, high) in enumerate(templates.BANDS.values(), 1):
        box = sncosmo.Bandpass(np.array([low - 50, low + 50, high - 50, high + 50]), np.array([0.0, 1, 1, 0]))
        mags = model.bandmag(box, "ab", days * (1 + redshift))
        ours = templates.below_peak(days, redshift, np.full(len(days), fid))
        assert ours - ours[1] == pytest.approx(mags - mags[1], abs=0.02)


def test_a_type_ia_rises_peaks_and_fades() -> None:
    days = np.arange(-25.0, 90)
    for fid in (1, 2, 3):
        mags = templates.below_peak(days, 0.03, np.full(len(days), fid))
        assert np.isinf(mags[days <= -20]).all()
        assert -4 <= days[np.argmin(mags)] <= 4
        assert mags[-1] > mags.min() + 2


def test_hashed_numbers_are_uniform_and_their_own() -> None:
    many = hashed(7, 1, np.arange(20000)[:, None], np.arange(3))
    assert many.min() >= 0
    assert many.max() < 1
    histogram = np.histogram(many, 20, (0, 1))[0]
    assert ((histogram - 3000) ** 2 / 3000).sum() < 50, "chi square of 19 degrees of freedom"
    assert abs(np.corrcoef(many.T)[0, 1]) < 0.03
    assert hashed(7, 1, 5, 2) == many[5, 2]
    assert hashed(8, 1, 5, 2) != many[5, 2]


def test_the_static_sky_is_the_same_whoever_looks() -> None:
    """Two overlapping looks list the same sources where both look."""
    survey = Survey(Plan(2, 4, 1), seed=5)
    rcid = survey.fields[1].quadrants[2]
    here, there = (np.array([800.0]), np.array([900.0])), (np.array([840.0]), np.array([930.0]))
    one, two = (catalogue_around(survey, 5, 1, rcid, *place, [None]) for place in (here, there))

    def close(catalogue):
        near = np.hypot(catalogue.x - 820, catalogue.y - 915) < 50
        return sorted(zip(catalogue.ident[near], catalogue.ra[near], catalogue.mags[near, 1], strict=True))

    assert len(close(one)) > 3
    assert close(one) == close(two)
