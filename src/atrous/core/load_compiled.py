"""Loads functions that numba compiles, if it is installed and works."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from atrous.core.cache_folder import find_cache_folder

_CACHE_VARIABLE = "NUMBA_CACHE_DIR"


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
        with cache_in_a_folder():
            function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (ImportError, RuntimeError):  # numpy is newer than numba allows, or no folder for compiled code is writable
        return None
    return function


@contextmanager
def cache_in_a_folder() -> Iterator[None]:
    """Name a folder for compiled code while numba is imported, if no home folder is known: it would make one named ~.

    Raises:
        RuntimeError: No folder can be written, as numba reports it.
    """
    if _CACHE_VARIABLE in os.environ or os.path.expanduser("~") != "~":
        yield
        return
    folder = find_cache_folder()
    if folder is None:
        raise RuntimeError("no folder for compiled code")
    os.environ[_CACHE_VARIABLE] = str(folder / "numba")
    try:
        yield
    finally:
        del os.environ[_CACHE_VARIABLE]
