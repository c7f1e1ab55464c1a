"""Old versions of users' lists and models are removed when nothing needs them any more."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pandas as pd
import pytest

from commands.external.lists import add_list
from commands.serve.lists import Lists
from filters.external import Store
from filters.external.store import KEPT_DAYS, Access, NoSuchExternal, owned
from pipeline.channels.config import RunConfig
from pipeline.channels.definition import Definition
from pipeline.channels.models import model_store

DAYS = 86400.0
LATER = KEPT_DAYS + 1


def versions(store: Store, name: str, count: int = 3) -> list[str]:
    """So many versions of a list, the last one in use."""
    made = []
    for number in range(count):
        add_list(pd.DataFrame({"objectId": [f"ZTF{number}"]}), name, store)
        made.append(store.current(name))
    return made


def test_the_version_in_use_those_that_are_needed_and_those_of_the_last_days_stay(tmp_path: Path) -> None:
    store, now = Store(tmp_path), time.time()
    first, second, third = versions(store, "followed")
    assert store.forget("followed", [], now + (KEPT_DAYS - 1) * DAYS) == []
    assert store.forget("followed", [second], now + LATER * DAYS) == [first]
    assert store.versions("followed") == [second, third]
    assert store.forget("followed", [], now + LATER * DAYS) == [], "it was needed until now"
    assert store.forget("followed", [], now + LATER * DAYS) == [second]
    assert store.forget("followed", [], now + 1000 * DAYS) == []
    assert store.current("followed") == third


def test_a_version_that_is_put_back_in_use_is_kept_from_then_on(tmp_path: Path) -> None:
    store, now = Store(tmp_path), time.time()
    first, second = versions(store, "followed", 2)
    store.use("followed", first)
    assert store.forget("followed", [], now + LATER * DAYS) == [second]
    assert store.versions("followed") == [first]


def test_owners_are_told_and_nothing_of_an_operators_goes(tmp_path: Path) -> None:
    """What a channel names stays, unless it is retired; models as well as lists."""
    lists = Lists(RunConfig(external=str(tmp_path)), None, threading.Lock())
    store, models = Store(tmp_path), model_store(tmp_path)
    name, named, model = (owned("ann-b", one) for one in ("targets", "named", "snn"))
    kept = versions(store, "of_an_operator")
    gone, tried = versions(store, name), versions(store, named)
    for version in ("1", "2", "3"):
        models.add(model, version, {"what": "model", "values": []}, lambda folder: None)
    for of, one in ((store, name), (store, named), (models, model)):
        of.share(one, Access("ann-b"))
    definition = Definition(name="ann-b.near", owner="ann-b", filter=f"{named}.match")
    channel = definition.model_copy(update={"external": {named: tried[0]}, "models": {"snn": f"{model}@1"}})
    later = time.time() + LATER * DAYS
    said = f"versions that were not in use for {KEPT_DAYS} days are removed:"
    assert lists.forget(lambda: [channel], later) == [
        ("ann-b", f"{named}: {said} {tried[1]}"),
        ("ann-b", f"{name}: {said} {gone[0]}, {gone[1]}"),
        ("ann-b", f"{model}: {said} 2"),
    ]
    assert store.versions("of_an_operator") == kept
    retired = channel.model_copy(update={"state": "retired"})
    assert lists.forget(lambda: [retired], later) == [], "from now on"
    with lists._large:
        assert lists.forget(lambda: [retired], later) is None, "nobody waits for who adds a model"
    assert len(lists.forget(lambda: [retired], later) or ()) == 2
    with pytest.raises(NoSuchExternal, match="has no version") as refused:
        store.folder(name, gone[0])
    assert f"{KEPT_DAYS} days" in str(refused.value.hint)
