"""Compiled functions, kept on disk between runs where the package's folder can be written."""

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile at first use, without the interpreter lock."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no folder to keep it in: an installation that only root can write
        return njit(nogil=True)(function)
