"""How many threads there are, and how long they spin before they sleep: bounded by the command line before torch loads.

PyTorch's threads meet after every operation, and GNU's OpenMP lets those that wait spin for about 300,000 turns. Beside
another busy process they hold the core that the others wait for. How much several bounds cost and save on an idle and
on a busy machine is in docs/performance.md. A turn is one pause instruction, which takes 14 times as long on some CPUs
as on others: bounds are times, and turns are counted with the length that is measured at the start of the process.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path

from atrous.core.machine import count_own_cores, count_usable_cores

IDLE_US, BUSY_US = 400, 20
"""Microseconds for which waiting threads spin, on an idle machine and beside other programs. With AMX these are
20,000 and 1,000 turns. In results/performance/busy.csv so many turns cost nothing on an idle machine with AVX512, and
beside a loop 1,000 are about as good as not to spin; idle times with AMX were too unsteady to tell."""
USUAL_PAUSE_NS = 40.0
"""Length of a pause instruction where it cannot be measured: between those of common CPUs, 4 to 56 ns."""
_LOOP = bytes.fromhex("89f9 f390 ffc9 75fa c3")
"""Machine code of x86-64: `turns` times (first argument) a pause instruction, as OpenMP's threads wait."""
_TIMED_TURNS, _TIMES = 500, 5
BUSY_SHARE = 0.5
"""Threads of other programs at work now, for each core of the machine, from which on it counts as busy: the threads of
this process and one of them on two cores already wait for each other."""
_COUNTS, _BETWEEN_S = 5, 0.004
SETTING = "GOMP_SPINCOUNT"
CHOSEN = "ATROUS_SPINCOUNT"
"""Variable that says which `SETTING` was chosen and for what load; child processes inherit both."""
THREADS = "OMP_NUM_THREADS"
CHOSEN_THREADS = "ATROUS_THREADS"
"""Variable that repeats `THREADS` where the command line chose it; child processes inherit both."""
LOAD_FILE = Path("/proc/loadavg")
OWN_SETTINGS = (SETTING, "OMP_WAIT_POLICY", "KMP_BLOCKTIME")
"""Variables by which people choose this themselves."""


def bound_spinning() -> None:
    """Bound the spin of this process's threads, unless its environment does so or torch is loaded already.

    Where torch comes with another OpenMP than GNU's, which reads no such variable, nothing is changed.
    """
    if _has_gnu_openmp() and "torch" not in sys.modules and not any(name in os.environ for name in OWN_SETTINGS):
        limit, load = (BUSY_US, "a busy") if _is_busy() else (IDLE_US, "an idle")
        os.environ[SETTING] = str(count_turns(limit))
        os.environ[CHOSEN] = f"{os.environ[SETTING]}, {limit:,} microseconds, for {load} machine"


def bound_threads() -> None:
    """Give this process as many threads as its container's quota has cores: OpenMP knows a process's cores alone.

    Nothing is changed where the environment says how many, or torch is loaded already.
    """
    if THREADS not in os.environ and "torch" not in sys.modules and count_usable_cores() < count_own_cores():
        choose_threads(os.environ, count_usable_cores())


def choose_threads(variables: MutableMapping[str, str], threads: int) -> None:
    """Write into the variables of a process how many threads it gets, unless its user has said how many.

    Args:
        variables: Those of this process or of one that it starts.
        threads: How many.
    """
    if THREADS not in variables or THREADS in list_chosen(variables):
        variables[THREADS] = variables[CHOSEN_THREADS] = str(threads)


def list_chosen(variables: Mapping[str, str]) -> tuple[str, ...]:
    """Return those of OpenMP's variables that the command line has chosen itself, and that have not been changed since.

    Args:
        variables: Those of a process.
    """
    chosen = {SETTING: variables.get(CHOSEN, "").partition(", ")[0], THREADS: variables.get(CHOSEN_THREADS, "")}
    return tuple(name for name, value in chosen.items() if value and variables.get(name) == value)


def describe_spinning() -> str:
    """Return how the threads of this process wait for each other, and what to set where that can be slow."""
    own = next((f"{name}={os.environ[name]}" for name in OWN_SETTINGS if name in os.environ), None)
    chosen = os.environ.get(CHOSEN, "").partition(", ")[2]
    if SETTING in list_chosen(os.environ):
        return f"waiting threads: they sleep after {chosen} ({own})"
    if own is not None:
        return f"waiting threads: {own}"
    if not _has_gnu_openmp():
        return "waiting threads: default"
    setting = f"{SETTING}={count_turns(BUSY_US)}"
    return f"waiting threads: default, slow beside other programs; set {setting} before torch is imported"


def count_turns(microseconds: float) -> int:
    """Return the turns of waiting that take so long on this machine, at least 1.

    Args:
        microseconds: The time.
    """
    return max(1, round(1e3 * microseconds / measure_pause_ns()))


def measure_pause_ns() -> float:
    """Return the length of a turn of waiting in nanoseconds, measured in a fifth of a millisecond.

    The shortest of a few measurements counts, since other programs can only lengthen one.

    Returns: `USUAL_PAUSE_NS` on other CPUs than x86-64, and where a process may not run code of its own.
    """
    if not _has_gnu_openmp():
        return USUAL_PAUSE_NS
    try:
        import ctypes  # torch imports it too
        import mmap

        with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as page:
            page.write(_LOOP)
            start = ctypes.c_char.from_buffer(page)
            try:
                loop = ctypes.CFUNCTYPE(None, ctypes.c_int)(ctypes.addressof(start))
                shortest = min(_time_ns(lambda: loop(_TIMED_TURNS)) for _ in range(_TIMES))
            finally:
                del start  # the page cannot be closed before
    except (ImportError, OSError):
        return USUAL_PAUSE_NS
    return max(shortest / _TIMED_TURNS, 1.0)


def _time_ns(run: Callable[[], None]) -> int:
    begun = time.perf_counter_ns()
    run()
    return time.perf_counter_ns() - begun


def _has_gnu_openmp() -> bool:
    """Return whether PyTorch's packages for this system come with GNU's OpenMP."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


def _is_busy() -> bool:
    """Return whether other programs are at work now; an average of the last minute counts programs that have ended."""
    for _ in range(_COUNTS):  # a task of some milliseconds is no load
        if _count_others() < BUSY_SHARE * (os.cpu_count() or 1):
            return False
        time.sleep(_BETWEEN_S)
    return True


def _count_others() -> int:
    """Return how many threads besides this one are at work or wait for a core; 0 where the system does not tell.

    Source: proc_loadavg(5), fourth field.
    """
    try:
        running = LOAD_FILE.read_text(encoding="ascii").split()[3].partition("/")[0]
        return max(0, int(running) - 1)
    except (OSError, ValueError, IndexError):
        return 0
