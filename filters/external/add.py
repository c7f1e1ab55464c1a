"""Regions and sky maps into the folder of external information."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from filters.external.store import Store
from filters.regions.area import read_area
from filters.regions.circles import read_gcn
from filters.regions.skymap import Notice, SkyMap, read_fits, read_notice
from filters.regions.skymaps import WINDOW


def add_region(name: str, text: str, root: str | Path | None = None) -> str:
    """Add a region that filters read as `name.inside`; returns its version.

    Parameters
    ----------
    name
        Lower-case letters, digits and _.
    text
        "cone RA DEC RADIUS", "polygon RA DEC …", or a MOC file (see `read_area`).
    root
        The folder of external information.

    Raises
    ------
    BadRegion
        For a text that is no region.
    ExternalError
        For a name that cannot be used.
    """
    area = read_area(text)
    version = hashlib.sha256(area.ranges.tobytes()).hexdigest()[:12]
    about = {"what": "region", "name": name, "text": text, "ranges": "ranges.npy"}
    about["square_degrees"] = str(round(area.square_degrees, 4))
    Store(root).add(name, version, about, lambda folder: np.save(folder / "ranges.npy", area.ranges))
    return version


def add_notices(
    name: str,
    contents: Iterable[bytes],
    root: str | Path | None = None,
    window: float = WINDOW,
    tests: bool = False,
) -> list[Notice]:
    """Add sky maps, updates and retractions, in their order; filters read them as `name.level`.

    Parameters
    ----------
    name
        Of the collection, "skymaps" for instance.
    contents
        Multi-order FITS files, or notices as JSON: of IGWN with the map in them, of GCN's unified schema with
        a map or a place and its error. A map of an event that has one supersedes it; a retraction makes the
        event void.
    root
        The folder of external information.
    window
        days after an event in which its map counts.
    tests
        Take notices that are marked as tests too.

    Returns
    -------
    list
        The notices.

    Raises
    ------
    BadSkyMap
        For what is neither.
    ExternalError
        For a name that cannot be used, or that something else has.
    """
    store = Store(root)
    store.refuse_other(name, {"skymaps"})
    kept = _kept(store, name)
    notices = []
    for content in contents:
        notice = _notice(content, tests)
        notices.append(notice)
        if notice.map is None:
            kept.pop(notice.event, None)
        else:
            number = kept[notice.event]["number"] + 1 if notice.event in kept else 0
            kept[notice.event] = {"number": number, "content": notice.content, "jd": notice.map.jd}
    _write(store, name, kept, window)
    return notices


def _kept(store: Store, name: str) -> dict[str, dict[str, Any]]:
    """Event -> number and content of its newest map."""
    if name not in store.names():
        return {}
    folder = store.folder(name)
    return {
        one["event"]: {
            "number": one["number"],
            "content": (folder / one["file"]).read_bytes(),
            "jd": one.get("jd"),
        }
        for one in store.about(name)["maps"]
    }


def _write(store: Store, name: str, kept: dict[str, dict[str, Any]], window: float) -> None:
    digest = hashlib.sha256(repr(window).encode())
    maps = []
    for event, one in sorted(kept.items()):
        digest.update(event.encode() + str(one["number"]).encode() + hashlib.sha256(one["content"]).digest())
        maps.append({"event": event, "number": one["number"], "file": _file(event), "jd": one["jd"]})

    def write(folder: Path) -> None:
        for event, one in kept.items():
            (folder / _file(event)).write_bytes(one["content"])

    about = {"what": "skymaps", "name": name, "window": window, "maps": maps}
    store.add(name, digest.hexdigest()[:12], about, write)


def _file(event: str) -> str:
    """A file name of its own for each event, whatever it is called."""
    return f"{quote(event, safe=' ')}.fits"


def _notice(content: bytes, tests: bool) -> Notice:
    if content.lstrip()[:1] in (b"{", b"["):
        return read_gcn(content, tests=tests) or read_notice(content)
    made: SkyMap = read_fits(content)
    return Notice(made.event, "MAP", made.jd, made, content)
