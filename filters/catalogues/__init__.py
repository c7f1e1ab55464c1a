"""Sources of other surveys beside the alerts: `reads=["galex.sep", "galex.nuv_mag"]`.

A catalogue is a HATS folder (Parquet by HEALPix cell, with a margin cache; lsdb reads it) and a small file
that says what its columns mean. `description` ← `tiles` (cells in memory) ← `match` (who is near) ← `columns`
(what a filter sees).
"""

from filters.catalogues.description import Description, describe

__all__ = ["Description", "describe"]
