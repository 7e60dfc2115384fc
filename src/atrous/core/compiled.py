"""Parts that numba compiles, where it is installed and works."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from functools import lru_cache
from typing import Any


@lru_cache(maxsize=8)
def load_compiled(place: str) -> Callable[..., Any] | None:
    """Return a function that numba compiles, or None where it cannot.

    The import takes longer than many images, and is therefore put off until one is worked on.

    Args:
        place: "module:function".
    """
    if importlib.util.find_spec("numba") is None:
        return None
    module, _, name = place.partition(":")
    try:
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (ImportError, RuntimeError):  # numpy is newer than numba allows, or there is no place for compiled code
        return None
    return function
