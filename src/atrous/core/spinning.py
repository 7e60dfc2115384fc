"""How long threads that wait for each other spin before they sleep: bounded by the command line, before torch loads.

PyTorch's threads meet after every operation, and GNU's OpenMP lets those that wait spin for about 300,000 turns. Beside
another busy process they hold the core that the others wait for. How much several bounds cost and save on an idle and
on a busy machine is in docs/performance.md. A turn is one pause instruction.
"""

from __future__ import annotations

import os
import platform
import sys

TURNS, TURNS_OF_BUSY = 20_000, 1_000
"""Turns of waiting threads, on an idle machine and beside other programs."""
BUSY_LOAD = 0.7
"""Programs at work in the last minute, for each core of the machine, from which on it counts as busy."""
SETTING = "GOMP_SPINCOUNT"
OWN_SETTINGS = (SETTING, "OMP_WAIT_POLICY", "KMP_BLOCKTIME")
"""Variables by which people choose this themselves."""


def bound_spinning() -> None:
    """Bound the spin of this process's threads, unless its environment does so or torch is loaded already.

    Where torch comes with another OpenMP than GNU's, which reads no such variable, nothing is changed.
    """
    if _has_gnu_openmp() and "torch" not in sys.modules and not any(name in os.environ for name in OWN_SETTINGS):
        os.environ[SETTING] = str(TURNS_OF_BUSY if _is_busy() else TURNS)


def describe_spinning() -> str:
    """Return how the threads of this process wait for each other, and what to set where that can be slow."""
    own = next((f"{name}={os.environ[name]}" for name in OWN_SETTINGS if name in os.environ), None)
    if own is not None:
        return f"waiting threads: {own}"
    if not _has_gnu_openmp():
        return "waiting threads: default"
    return (
        f"waiting threads: default, slow beside other programs; set {SETTING}={TURNS_OF_BUSY} before torch is imported"
    )


def _has_gnu_openmp() -> bool:
    """Return whether PyTorch's packages for this system come with GNU's OpenMP."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


def _is_busy() -> bool:
    return os.getloadavg()[0] > BUSY_LOAD * (os.cpu_count() or 1)
