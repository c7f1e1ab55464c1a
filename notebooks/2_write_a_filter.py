# %% [markdown]
# # Write a filter
#
# A filter is a Python function from columns of alerts to named cuts. Here one is written, tried on a night,
# asked why it missed something, and its threshold chosen from what the archive says.
#
# The archive is a simulated sky, made the first time; for real packets, fill one with
# `zads archive ingest FOLDER`, and change the line that begins with `archive =`.

# %%
from typing import Annotated

import zads
from zads import alert_filter, history, plot_examples, plot_funnel, plot_nights, replay, show

archive = zads.sample_archive()  # or zads.Archive("path/of/an/archive")

# %% [markdown]
# ## The idea
#
# Something that *brightens*: real, brighter than in the reference image, no star underneath, and brighter
# than it was some days ago in the same band. How much brighter is a parameter, with its unit, because nobody
# knows yet how much is enough.
#
# `reads` names the columns; those of `prv_candidates` are the packet's own history of the last thirty days.
# `history` makes one long table of them, a row for each past epoch, in which `past.alert[...]` is the alert
# that the epoch belongs to. What is missing is NaN, and a comparison with it is false.

# %%
READS = ["jd", "rb", "fid", "magpsf", "positive", "distpsnr1", "sgscore1"]
PAST = [f"prv_candidates.{name}" for name in ("jd", "fid", "magpsf", "positive")]


@alert_filter(survey="ztf", reads=READS + PAST)
def brightening(
    alerts,
    *,
    rise: Annotated[float, "mag"] = 0.3,
    rb_min: Annotated[float, ""] = 0.65,
    within: Annotated[float, "d"] = 10,
):
    """Brighter by `rise` than at some time in the last `within` days, in the same band; not a star."""
    past = history(alerts, "prv_candidates")
    days = past.alert["jd"] - past["jd"]
    same = past[(past["fid"] == past.alert["fid"]) & past["positive"] & (days <= within)]
    star = (alerts["distpsnr1"] <= 1.5) & (alerts["sgscore1"] >= 0.5)
    return {
        "real": alerts["rb"] >= rb_min,
        "brighter than the reference": alerts["positive"],
        "no star": ~star,
        "seen before in this band": same["magpsf"].count() > 0,
        "brightening": same["magpsf"].max() - alerts["magpsf"] >= rise,
    }


# %% [markdown]
# ## A night of alerts
#
# `archive.alerts` gives a Dask dataframe, which reads nothing until it is asked to `compute`. Given the
# columns that the filter reads, and `public=True` for a public channel, it is what the filter sees live.

# %%
night = archive.nights().sort_values("rows")["night"].iloc[-1]
alerts = archive.alerts(nights=night, columns=brightening.reads, public=True).compute()
brightening.funnel(alerts)

# %% [markdown]
# The filter gives a table of the cuts, one row an alert; `passes` says which alerts have them all. A look at
# the first of those:

# %%
passed = alerts[brightening.passes(alerts)]
show(archive.packets(passed["candid"].head(2)).values())

# %% [markdown]
# ## Why was this one missed?
#
# There is an object that we want: `pure_transient`, an old filter of the survey, finds it, and ours does not.
# `explain` says for each cut whether the alert passed, which one stopped it, and the values that it saw.

# %%
wanted = replay("pure_transient", archive, nights=night).matches["candid"]
missed = wanted[~wanted.isin(passed["candid"])].iloc[0]
brightening.explain(alerts, missed)[["cut", "passed", "stopped"]]

# %% [markdown]
# Is the filter wrong, or the wish? The picture helps: here is what the alert's packet says.

# %%
show(archive.packet(missed))

# %% [markdown]
# ## Which threshold?
#
# How many alerts a night would each threshold give? A list of values is a sweep, and a sweep reads the
# archive once, however long it is.

# %%
swept = replay(brightening, archive, parameters={"rise": [0.1, 0.2, 0.3, 0.5, 1.0]})
plot_nights(swept)

# %%
swept.nights().pivot(index="filter", columns="night", values="alerts")

# %% [markdown]
# ## What would be gained, what lost
#
# Two sets of parameters beside each other: a smaller rise, but only of what is surely real, against the
# filter as it is.

# %%
tried = replay(brightening, archive, parameters=[{}, {"rise": 0.2, "rb_min": 0.8}])
change = tried.compare(0, 1)
print(change)
change.examples(limit=3)

# %% [markdown]
# Some of what passes with the new values, and the funnel that leads there:

# %%
plot_examples(tried, 1, limit=3)

# %%
plot_funnel(tried, 1)

# %% [markdown]
# ## Let it run
#
# Put the function into a file, say `my_filters.py`, and make a channel of it:
#
# ```sh
# zads channel create brightening rise=0.2 rb_min=0.8 --filter my_filters.py:brightening --owner me
# zads channel enable brightening
# ```
#
# `zads channel enable` first does what this notebook did: it replays the filter on the last nights of the
# archive, shows alerts a night, the funnel and examples, and refuses what would flood. From the next batch
# on the channel delivers, to whoever listens to the topic `channel.brightening`. A threshold that turns out
# wrong at three in the morning is changed by `zads channel set brightening rise=0.3`.
