# %% [markdown]
# # Rubin
#
# The same filters' contract, archive and pictures serve the Vera C. Rubin Observatory (LSST). Its alerts
# are other packets: fluxes in nanojansky instead of magnitudes, six bands, histories without limits, one
# stamp three times as sharp that may lie turned on the sky. What all surveys have goes by the same names:
# `jd`, `band`, `mag`, `flux`, `positive`, `night`, `exposure`. `zads columns --survey lsst` lists every
# column.
#
# The alerts here are of one simulated night, made the first time; for real ones change the line that
# begins with `archive =`.

# %%
import zads
from zads import finder_chart, plot_light_curve, plot_nights, read_packet, replay, show

archive = zads.sample_archive(400, 1, survey="lsst")  # or zads.Archive("path", survey="lsst")
archive.nights()

# %% [markdown]
# ## What there is
#
# A Dask dataframe again, one row an alert. `flux` has its sign; `mag` is that of its absolute value. The
# bands are letters, here as everywhere:

# %%
alerts = archive.alerts(columns=["band", "mag", "flux", "positive"]).compute()
alerts.groupby("band")[["mag", "flux"]].agg(["count", "median"])

# %% [markdown]
# ## Filters that come with zads
#
# `reliable` and `new_transient` are for Rubin. They are asked in one pass, as ever, and a match carries
# place, time, band, magnitude and what the filter read.

# %%
found = replay(["reliable", "new_transient"], archive, public=False)
print(found)

# %%
found.nights()

# %%
found.of("reliable")[["objectId", "ra", "dec", "utc", "band", "mag"]].head()

# %%
plot_nights(found)

# %% [markdown]
# ## One of them
#
# The pictures turn the stamps as their FITS headers say, so that north is up and east is left; the light
# curve is in nanojansky, for a difference flux may be negative.

# %%
name = found.of("reliable")["objectId"].iloc[0]
packets = found.packets("reliable", limit=2)
show(packets)

# %%
plot_light_curve(archive.light_curve(name))

# %% [markdown]
# ## For the telescope
#
# From Cerro Pachón, tonight:

# %%
finder_chart(read_packet(packets[0])[0], site="pachon")
