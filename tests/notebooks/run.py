"""Runs the notebooks; `make notebooks` leaves each beside its text as .ipynb, with its pictures."""

from pathlib import Path

import jupytext
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("[0-9]_*.py"))
_CELL_SECONDS = 120


def executed(text: str) -> NotebookNode:
    """A notebook in its text form, run from top to bottom in a kernel of its own.

    Raises CellExecutionError, with the cell and its traceback, when one of them fails.
    """
    notebook = jupytext.reads(text, fmt="py:percent")
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    place = {"metadata": {"path": str(FOLDER)}}
    return NotebookClient(notebook, timeout=_CELL_SECONDS, kernel_name="python3", resources=place).execute()


if __name__ == "__main__":
    for path in NOTEBOOKS:
        print(path.stem)
        jupytext.write(executed(path.read_text()), path.with_suffix(".ipynb"))
