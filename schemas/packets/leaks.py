"""What of a packet is not public, found in its values alone: a second opinion on what public channels get.

It shares with the rewriting of packets only the survey's list of what is public, and reads as anybody does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from schemas.surveys.registry import survey_of_packet
from schemas.surveys.survey import Public


def not_public(packet: Mapping[str, Any]) -> list[str]:
    """Why a packet is not public, a sentence for each field or row; empty when all of it is.

    packet: as `read_packet` gives it. One whose survey is not known is not public.
    """
    survey = survey_of_packet(packet)
    if survey is None:
        return ["its survey is not known"]
    if survey.public.everything:
        return []
    return [
        *_alert(packet[survey.candidate], survey.candidate, survey.public),
        *_fields(packet, "", survey.public),
    ]


def _alert(candidate: Mapping[str, Any], path: str, rule: Public) -> Iterator[str]:
    assert rule.field is not None
    if not rule.holds(candidate.get(rule.field)):
        yield f"{path}.{rule.field} is {candidate.get(rule.field)}"


def _fields(record: Mapping[str, Any], path: str, rule: Public) -> Iterator[str]:
    """What a record holds beside single values, which say something of the alert itself."""
    for name, value in record.items():
        where = f"{path}.{name}" if path else name
        if not isinstance(value, Mapping | list | tuple | bytes):
            continue
        if where not in rule.listed:
            yield f"{where} is not listed as public"
        elif where in rule.rows:
            yield from _rows(value, where, rule)
        elif isinstance(value, Mapping):
            yield from _fields(value, where, rule)


def _rows(value: Any, where: str, rule: Public) -> Iterator[str]:
    if not isinstance(value, list | tuple):
        yield f"{where} is no list of rows"
        return
    for number, row in enumerate(value):
        if not isinstance(row, Mapping):
            yield f"{where}[{number}] is no row"
            continue
        yield from _alert(row, f"{where}[{number}]", rule)
        yield from _fields(row, where, rule)
