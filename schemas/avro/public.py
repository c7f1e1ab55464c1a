"""Which parts of a packet may be public: nothing that the survey does not list.

New fields may come without an announcement (forced photometry did), and some hold rows that belong to a
collaboration. So the rule denies by default: of all record, array, map, bytes and fixed fields only those
that the survey's `public` lists stay, and of the listed histories only the rows that it calls public. Single
values (numbers, strings, enums) stay as received: they describe the public detection itself.
"""

from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from typing import Any

from schemas.avro.writer import WriterSchema, writer_schema
from schemas.errors import NoSuchColumn, UnsupportedSchema, ZadsError
from schemas.surveys.registry import SURVEYS
from schemas.surveys.survey import Survey

ANNOTATIONS, NAMESPACE = "annotations", "zads.annotations"
"""The field in which channels note what they found, and the namespace of its records: a public channel reads
public ones only, so they are public (`schemas.avro.annotate`)."""

_HOLDERS = ("record", "array", "map", "bytes", "fixed")


class DropsProgramid(ZadsError):
    """A public channel would drop the field that distinguishes public rows from others."""


@lru_cache(maxsize=64)
def unlisted(writer: WriterSchema) -> frozenset[str]:
    """The fields of this writer schema that must not be public, the outermost ones, by dotted path.

    What is in arrays goes by the array's path. Empty for surveys all of whose data are public, and for
    unknown surveys.
    """
    survey = SURVEYS.get(writer.survey)
    if survey is None or survey.public.everything:
        return frozenset()
    return frozenset(_unlisted(writer.tree, "", survey))


def refuse_dropping_programid(drop: Sequence[str], survey: str = "ztf") -> None:
    """Raise DropsProgramid when fields that a public channel drops take away what the rule needs.

    That is the field that says whose data it is (ZTF's programid), of the alert and of each history, unless
    the whole history is dropped. A reader of the channel, such as another public channel, would treat the
    rest as not public.
    """
    known = SURVEYS.get(survey)
    if known is None or known.public.everything:
        return
    paths = {path for name in drop for path in (name, _path(known, name))}
    field = known.public.field
    own = f"{known.candidate}.{field}"
    needed: list[tuple[str, tuple[str, ...]]] = [(own, (own, known.candidate))]
    needed += [(f"{h}.{field}", (f"{h}.{field}",)) for h in known.public.rows if h not in paths]
    for needs, taken_by in needed:
        if paths.intersection(taken_by):
            raise DropsProgramid(
                f"a public channel cannot drop {needs}: it tells public data from other",
                hint="drop the whole history, or make it a collaboration channel",
            )


def _path(survey: Survey, name: str) -> str:
    try:
        return survey.path(name)
    except NoSuchColumn:
        return name


def _unlisted(record: Any, path: str, survey: Survey) -> Iterator[str]:
    for field in record["fields"]:
        where = f"{path}.{field['name']}" if path else field["name"]
        if not _holds_more(field["type"]) or _is_annotation(where, field["type"]):
            continue
        rule = survey.public
        inner = _inner(field["type"], where in rule.rows) if where in rule.listed else None
        if inner is None:
            yield where
        elif inner["type"] == "record":
            yield from _unlisted(inner, where, survey)


def _is_annotation(path: str, tree: Any) -> bool:
    """Whether a field is the record of annotations, of single values only."""
    if path != ANNOTATIONS or not isinstance(tree, dict) or tree["type"] != "record":
        return False
    inner = [field["type"] for field in tree["fields"]]
    ours = all(
        isinstance(one, dict) and one["type"] == "record" and one["name"].startswith(f"{NAMESPACE}.")
        for one in inner
    )
    return ours and not any(_holds_more(field["type"]) for one in inner for field in one["fields"])


def _holds_more(tree: Any) -> bool:
    """Whether a field may hold more than a single value."""
    branches = tree if isinstance(tree, list) else [tree]
    return any(branch["type"] in _HOLDERS for branch in branches)


def _inner(tree: Any, is_history: bool) -> Any:
    """Of a listed field, its record, its rows' record or its bytes; None when it has another shape.

    What has another shape than the survey gave it cannot be looked into.
    """
    tree = _without_null(tree)
    if tree is None:
        return None
    if is_history:
        rows = _without_null(tree["items"]) if tree["type"] == "array" else None
        return rows if rows is not None and rows["type"] == "record" else None
    return tree if tree["type"] in ("record", "bytes") else None


def _without_null(tree: Any) -> Any:
    branches = [b for b in (tree if isinstance(tree, list) else [tree]) if b["type"] != "null"]
    return branches[0] if len(branches) == 1 else None


def check_reduced(writer: WriterSchema, reduced: Any, drop: Collection[str]) -> None:
    """Check that `reduced` is the writer schema without exactly the dropped fields.

    A schema that was repaired (a record has two fields of one name) may lose a field other than the one whose
    bytes are cut.

    Parameters
    ----------
    writer
        The schema before.
    reduced
        The schema after, as JSON data.
    drop
        Dotted paths of the fields that were dropped; fields inside arrays use the array's path.

    Raises
    ------
    UnsupportedSchema
        When the two differ by anything else.
    """
    left = [place for place in _places(writer.tree, "") if not _is_in(place[0], drop)]
    if left != list(_places(writer_schema(reduced).tree, "")):
        raise UnsupportedSchema("its fields cannot be distinguished, so none can be taken out")


def _is_in(path: str, drop: Collection[str]) -> bool:
    return any(path == dropped or path.startswith(f"{dropped}.") for dropped in drop)


def _places(tree: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every place of a resolved schema with what its bytes look like, in order."""
    if isinstance(tree, list):
        yield path, len(tree)
        for branch in tree:
            yield from _places(branch, path)
        return
    yield path, (tree["type"], tree.get("size"), len(tree.get("symbols", ())))
    for field in tree.get("fields", ()):
        yield from _places(field["type"], f"{path}.{field['name']}" if path else field["name"])
    for inner in ("items", "values"):
        if inner in tree:
            yield from _places(tree[inner], path)
