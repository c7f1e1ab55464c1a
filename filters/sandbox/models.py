"""Models that users own, as their filters get them: read by the pipeline, opened and run by a child alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from filters.errors import FilterError

GRAPH, TABLE = "graph.onnx", "table.json"
"""The files of a version of a model."""


class ModelFile(NamedTuple):
    """A model that a text asks for. name: as the text calls it. folder: of this version of it."""

    name: str
    folder: str

    @property
    def version(self) -> str:
        """A hash over its graph and its table."""
        return Path(self.folder).name


def read_models(models: tuple[ModelFile, ...]) -> tuple[list[dict[str, Any]], pa.RecordBatch]:
    """Name and table of each, and their graphs, for a child. Raises FilterError for one that is gone."""
    told, graphs = [], []
    for one in models:
        folder = Path(one.folder)
        try:
            told.append({"name": one.name, "about": json.loads((folder / TABLE).read_text())})
            graphs.append((folder / GRAPH).read_bytes())
        except OSError:
            raise FilterError(f"the model {one.name}, version {one.version}, is gone") from None
    return told, pa.record_batch({"graph": pa.array(graphs, pa.large_binary())})
