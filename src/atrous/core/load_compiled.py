"""Loads functions that numba compiles, if it is installed and works."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from functools import lru_cache
from typing import Any


@lru_cache(maxsize=8)
def load_compiled(place: str) -> Callable[..., Any] | None:
    """Return a function that numba compiles, or None if it cannot.

    Importing numba takes longer than labelling many images, so it is imported only when a function is needed.

    Args:
        place: "module:function".
    """
    if importlib.util.find_spec("numba") is None:
        return None
    module, _, name = place.partition(":")
    try:
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (ImportError, RuntimeError):  # numpy is newer than numba allows, or no folder for compiled code is writable
        return None
    return function
