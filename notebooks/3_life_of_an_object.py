# %% [markdown]
# # The life of an object
#
# An alert is a moment: something was there, this bright, in this image. The archive puts the moments of one
# object together: its light curve, its images, its place among others.
#
# The archive here is a simulated sky, made the first time; for real packets, fill one with
# `zads archive ingest FOLDER`, and change the line that begins with `archive =`.

# %%
import zads
from zads import history, plot_cutouts, plot_light_curve, plot_place, replay, show

archive = zads.sample_archive()  # or zads.Archive("path/of/an/archive")

# %% [markdown]
# ## Choose one
#
# Of all transients that the archive holds, we take the one that brightened most. Each packet has a history
# of thirty days: the faintest detection in it, less the magnitude now, is how much the object has brightened.

# %%
transients = replay("pure_transient", archive).matches
columns = ["jd", "ra", "dec", "magpsf", "prv_candidates.jd", "prv_candidates.magpsf"]
alerts = archive.alerts(columns=columns).compute()
alerts["rise"] = history(alerts, "prv_candidates")["magpsf"].max() - alerts["magpsf"]
alerts = alerts[alerts["candid"].isin(transients["candid"])].sort_values("rise", ascending=False)
alerts[["objectId", "candid", "jd", "magpsf", "rise"]].head()

# %%
alert = alerts.iloc[0]
name = alert["objectId"]
show(archive.packet(alert["candid"]))

# %% [markdown]
# That is what one packet knows: thirty days back from its own exposure, and three images.
#
# ## Its light curve
#
# `light_curve` joins what all of its packets know. Each exposure is there once, though the packets of three
# nights tell most of them three times: as an alert of its own if there was one, else from a history, and
# where nothing was seen, as the limit of that image.

# %%
curve = archive.light_curve(name)
curve.groupby(["kind", "fid"])["jd"].agg(["count", "min", "max"])

# %%
plot_light_curve(curve)

# %% [markdown]
# Magnitudes are those of the *difference* image: what has been added to, or (open symbols) taken from, the
# light of the reference image. Rings mark the alerts that the archive holds; all else is memory.
#
# ## Its images
#
# The cut-outs are in the archive too, pixel for pixel. The difference image of each alert:

# %%
plot_cutouts(archive, name)

# %% [markdown]
# As arrays, for whoever measures for himself; NaN where the camera has no data:

# %%
{which: pixels.shape for which, pixels in archive.cutouts(alert["candid"]).items()}

# %% [markdown]
# ## Its place
#
# Left, all alerts of the archive within half a degree: a *cone* reads only the part of the archive that holds
# this part of the sky. Right, the alerts of the object itself. They agree to a fraction of a pixel (an
# arcsecond), as they do for what is beyond the solar system.

# %%
plot_place(archive, name)

# %% [markdown]
# Who else was seen within six arcminutes, and how often?

# %%
around = archive.alerts(columns=["magpsf"], cone=(alert["ra"], alert["dec"], "6 arcmin")).compute()
around.groupby("objectId")["magpsf"].agg(["count", "min", "max"]).sort_values("count", ascending=False).head()

# %% [markdown]
# The packet itself, an Avro file as the telescope sent it, is one call away, for any program that reads
# alerts:

# %%
packet = archive.packet(alert["candid"])
print(f"{name}.avro: {len(packet):,} bytes, beginning with {packet[:4]}")
