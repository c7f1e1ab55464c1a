"""Which exposure a packet belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from pipeline.live.exposures.gathering import Key
from schemas.avro.framing import SchemaSource
from schemas.frame import FrameMaker
from schemas.packets.reader import PacketReader, read_by_survey


class ExposureKeys:
    """Reads the exposure of packets, and nothing else of them."""

    def __init__(self, surveys: Iterable[str], schemas: SchemaSource | None) -> None:
        self._makers = {name: FrameMaker(["exposure"], name, identity=()) for name in surveys}
        self._readers = [PacketReader(maker.columns, name, schemas) for name, maker in self._makers.items()]

    def of(self, topic: str, packets: Sequence[bytes]) -> list[Key | None]:
        """The key of each; None for what cannot be read, or is of a survey that nobody asks for."""
        found: list[Key | None] = [None] * len(packets)
        for reader, batch in read_by_survey(self._readers, packets):
            survey = reader.survey.name
            exposures = self._makers[survey].frame(batch.table)["exposure"]
            for index, exposure in zip(batch.packet.tolist(), exposures, strict=True):
                if not pd.isna(exposure):
                    found[index] = Key(topic, survey, int(exposure))
        return found
