# %% [markdown]
# # From the archive to pandas, polars, DuckDB and lsdb
#
# The archive is nobody's private format. It is a Delta Lake table of Parquet files, and whatever reads those
# reads the alerts: without zads, if need be, in twenty years too. `docs/archive.md` describes every column.
#
# The archive here is a simulated sky, made the first time; for real packets, fill one with
# `zads archive ingest FOLDER`, and change the line that begins with `archive =`.

# %%
import duckdb
import matplotlib.pyplot as plt
import polars as pl
from deltalake import DeltaTable

import zads

archive = zads.sample_archive()  # or zads.Archive("path/of/an/archive")
archive.nights()

# %% [markdown]
# ## pandas, by way of Dask
#
# `alerts` is a Dask dataframe: columns as filters see them, with NaN for what is missing, and one row a
# candid. It is computed piece by piece, on a cluster if there is one, so that what is counted may be far
# larger than the memory. In green (`fid` 1) and red (2):

# %%
alerts = archive.alerts(columns=["fid", "magpsf", "rb"])
alerts.groupby("fid")[["magpsf", "rb"]].agg(["count", "mean"]).compute()

# %% [markdown]
# What fits into the memory is plain pandas after `compute`. How faint are the alerts?

# %%
frame = alerts.compute()
figure, axes = plt.subplots(figsize=(7, 3))
for fid, name, colour in [(1, "g", "#009E73"), (2, "r", "#D55E00")]:
    axes.hist(frame.loc[frame["fid"] == fid, "magpsf"], bins=40, histtype="step", color=colour, label=name)
axes.set(xlabel="difference magnitude", ylabel="alerts")
legend = axes.legend(frameon=False)

# %% [markdown]
# ## polars
#
# `scan_delta` is lazy as well. Here and below there is no zads between the reader and the files, so values
# are raw: what is missing may be a sentinel such as -999, and a candid that came twice is there twice.

# %%
table = pl.scan_delta(archive.root)
real = table.filter(pl.col("programid") == 1, pl.col("rb") >= 0.65)
nights = real.group_by("night").agg(
    alerts=pl.len(), objects=pl.col("objectId").n_unique(), brightest=pl.col("magpsf").min()
)
nights.sort("night").collect()

# %% [markdown]
# A history is a list in its alert's row. `explode` makes a long table of them, a row for each past epoch:

# %%
past = table.select("candid", jd="prv_candidates.jd", fid="prv_candidates.fid", mag="prv_candidates.magpsf")
epochs = past.explode("jd", "fid", "mag").drop_nulls("mag")
epochs.group_by("fid").agg(detections=pl.len(), alerts=pl.col("candid").n_unique()).sort("fid").collect()

# %% [markdown]
# ## DuckDB
#
# SQL on the very same files. The table is known to DuckDB under the name of the Python variable, and only the
# columns and nights that the question needs are read.

# %%
ztf = DeltaTable(archive.root).to_pyarrow_dataset()
duckdb.sql("""
    SELECT objectId, fid, count(*) AS alerts, min(magpsf) AS brightest, max(magpsf) - min(magpsf) AS change
    FROM ztf
    WHERE programid = 1 AND rb >= 0.65 AND isdiffpos IN ('t', '1')
    GROUP BY objectId, fid
    ORDER BY change DESC
    LIMIT 5
""").df()

# %% [markdown]
# Histories in SQL are `unnest`ed. How many epochs does an alert remember, and how many of them are limits?

# %%
duckdb.sql("""
    SELECT night, avg(len("prv_candidates.jd")) AS epochs,
           avg(len(list_filter("prv_candidates.magpsf", lambda mag: mag IS NULL))) AS limits
    FROM ztf
    GROUP BY night
    ORDER BY night
""").df()

# %% [markdown]
# ## lsdb
#
# The archive is sorted on the sky by `_healpix_29`, as catalogues in the HATS format are, and
# [lsdb](https://docs.lsdb.io) matches those against each other, billions of rows if need be. It is not
# among the packages of zads: `pip install lsdb`. A selection of alerts becomes a catalogue, to keep or not:
#
# ```python
# import lsdb
#
# alerts = archive.alerts(columns=["ra", "dec", "magpsf", "rb"], where="rb >= 0.65").compute()
# catalog = lsdb.from_dataframe(alerts, ra_column="ra", dec_column="dec", catalog_name="alerts")
# catalog.write_catalog("real_alerts")
#
# around = catalog.cone_search(ra=alerts["ra"].iloc[0], dec=alerts["dec"].iloc[0], radius_arcsec=600)
# around.compute()
# ```
#
# From there, `lsdb.open_catalog("real_alerts").crossmatch(other, radius_arcsec=2)` finds the alerts'
# neighbours in any other HATS catalogue: Gaia, Pan-STARRS, the survey's own light curves.
