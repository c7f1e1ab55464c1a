"""External information beside the alert: catalogues, regions, sky maps, kept in one folder with versions.

`store` (names, versions) ← `opened` (one of them, ready to use) ← `externals` (all that filters read).
"""

from filters.external.externals import Externals
from filters.external.store import NoSuchExternal, Store

__all__ = ["Externals", "NoSuchExternal", "Store"]
