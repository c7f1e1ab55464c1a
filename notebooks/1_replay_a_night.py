# %% [markdown]
# # Replay a night
#
# The archive keeps every alert packet. A *replay* asks filters about the alerts of past nights, with the very
# code that judges them live, and so tells what a channel would have delivered.
#
# The archive here is a simulated sky of three nights, which is made the first time (ten seconds). For real
# packets, fill one with `zads archive ingest FOLDER`, and change the line that begins with `archive =`.

# %%
import zads
from zads import plot_examples, plot_funnel, plot_nights, plot_sky, replay

archive = zads.sample_archive()  # or zads.Archive("path/of/an/archive")
archive.nights()

# %% [markdown]
# `public` counts the alerts of the public survey; the others belong to the partners of the telescope, and a
# public channel never sees them.
#
# ## One pass, many filters
#
# We take the night with the most alerts, and ask three filters about it. They run in one pass over the data:
# `pure` keeps what looks like a real point source; `pure_transient` wants it brighter than before, away from
# stars, and not moving; `young_supernova` wants it young as well.

# %%
night = archive.nights().sort_values("rows")["night"].iloc[-1]
found = replay(["pure_transient", "young_supernova", "pure"], archive, nights=night)
found.nights()

# %% [markdown]
# Those columns are the alerts and the objects that pass, `of` so many that the filters were asked about. The
# matches themselves say which alert, of which object, passed which version of which filter.

# %%
found.matches[["filter", "version", "candid", "objectId", "programid"]].head()

# %% [markdown]
# ## Where alerts are lost
#
# A filter is a list of named cuts. The funnel counts what is left after each. Most of what reaches a
# telescope's stream is real but not new: variable stars, and asteroids on their way.

# %%
plot_funnel(found, "pure_transient")

# %% [markdown]
# And on the sky: what was observed that night in grey, what passes in colour.

# %%
plot_sky(found, "pure_transient")

# %% [markdown]
# ## What they look like
#
# Numbers do not make a supernova. A random sample of what passed, each with the light curve that its packet
# carries, and the three images: as observed, the reference, and the difference.

# %%
plot_examples(found, "pure_transient", limit=4)

# %% [markdown]
# ## All nights
#
# Without `nights` every night of the archive is replayed. How even is the flow that somebody who listens to
# the channel would get?

# %%
every = replay(["pure_transient", "young_supernova"], archive)
plot_nights(every)

# %% [markdown]
# What it cost: only the columns that the filters name are read, so a replay touches a small part of the
# archive, of which the images are the most.

# %%
print(f"{every.alerts:,} alerts, {every.seconds:.2f} s, {every.tally.bytes / 1e6:.1f} MB read")
print(f"of an archive of {archive.nights()['bytes'].sum() / 1e6:.0f} MB")
every.costs()

# %% [markdown]
# The same from the command line, and to a Kafka topic, so that whoever listens to it can rehearse the night:
#
# ```sh
# zads replay pure_transient young_supernova --nights 2025-10-10..2025-10-12
# zads replay pure_transient --nights 2025-10-12 --to-topic rehearsal --speed 60
# ```
