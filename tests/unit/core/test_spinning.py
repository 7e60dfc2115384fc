"""Waiting threads of the command line spin for a bounded time, as OpenMP itself reports; a library changes nothing."""

from __future__ import annotations

import itertools
import mmap
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from atrous.core import spinning
from atrous.core.spinning import (
    BUSY_US,
    CHOSEN,
    CHOSEN_THREADS,
    IDLE_US,
    OWN_SETTINGS,
    SETTING,
    THREADS,
    USUAL_PAUSE_NS,
    bound_spinning,
    bound_threads,
    choose_threads,
    count_turns,
    describe_spinning,
    list_chosen,
    measure_pause_ns,
)

COMMAND_LINE = "import sys; sys.argv = ['atrous', '--version']; from atrous.__main__ import run; run(); import torch"
LIBRARY = "import atrous; atrous.build; import torch"
is_bounded = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="torch comes with another OpenMP than GNU's"
)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*OWN_SETTINGS, CHOSEN, THREADS, CHOSEN_THREADS):
        monkeypatch.setenv(name, "")  # so that what a test sets is undone
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "modules", {name: found for name, found in sys.modules.items() if name != "torch"})


def find_turns(program: str, **own: str) -> str:
    """Run a program; return the turns that OpenMP reports when it loads."""
    environment = {**os.environ, "OMP_DISPLAY_ENV": "verbose", **own}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    (line,) = [line for line in run.stderr.splitlines() if SETTING in line]
    return line.partition("'")[2].rstrip("'")


@is_bounded
def test_openmp_of_the_command_line_has_a_bound() -> None:
    told = f"{COMMAND_LINE}; import os; print('SPIN', os.environ['{CHOSEN}'], file=sys.stderr)"
    environment = {**os.environ, "OMP_DISPLAY_ENV": "verbose"}
    run = subprocess.run([sys.executable, "-c", told], env=environment, capture_output=True, text=True, check=True)
    (line,) = [line for line in run.stderr.splitlines() if SETTING in line]
    (chosen,) = [line for line in run.stderr.splitlines() if line.startswith("SPIN")]
    turns, limit, _ = chosen.removeprefix("SPIN ").split(", ")
    assert line.partition("'")[2].rstrip("'") == turns
    assert int(turns) > 1
    assert limit in [f"{each:,} microseconds" for each in (IDLE_US, BUSY_US)]


@is_bounded
def test_a_library_leaves_its_process_alone() -> None:
    assert find_turns(LIBRARY) == find_turns("import torch")


@is_bounded
def test_own_settings_are_kept() -> None:
    assert find_turns(COMMAND_LINE, GOMP_SPINCOUNT="777") == "777"
    assert find_turns(COMMAND_LINE, OMP_WAIT_POLICY="passive") == "0"


@is_bounded
@pytest.mark.parametrize(
    ("running", "cores", "turns"),
    [
        ((1,), 2, 8_000),  # this process alone
        ((2,), 2, 400),  # one busy loop on two cores
        ((4, 4, 1, 4), 2, 8_000),  # a task that ended meanwhile
        ((2, 3, 2), 2, 400),
        ((2,), 4, 8_000),
        ((33,), 64, 400),
    ],
)
def test_the_bound_follows_what_runs_beside_this_process(
    running: tuple[int, ...], cores: int, turns: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    counts = itertools.cycle(running)

    class LoadFile:
        def read_text(self, encoding: str) -> str:
            return f"9.00 9.00 9.00 {next(counts)}/300 4711\n"  # programs that have ended count in the averages

    monkeypatch.setattr(spinning, "LOAD_FILE", LoadFile())
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(spinning, "measure_pause_ns", lambda: 50.0)
    bound_spinning()
    assert os.environ[SETTING] == str(turns)
    chosen = "400 microseconds, for an idle machine" if turns == 8_000 else "20 microseconds, for a busy machine"
    assert describe_spinning() == f"waiting threads: they sleep after {chosen} ({SETTING}={turns})"
    monkeypatch.setenv(SETTING, "7")  # as someone sets it for a child process
    assert describe_spinning() == f"waiting threads: {SETTING}=7"


THREAD_CASES = [
    (None, 2, False, "2"),
    (None, 8, False, None),
    ("5", 2, False, "5"),
    ("", 2, False, ""),
    (None, 2, True, None),
]


@pytest.mark.parametrize(("own", "quota", "is_loaded", "threads"), THREAD_CASES)
def test_threads_follow_the_quota_of_a_container(
    own: str | None, quota: int, is_loaded: bool, threads: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Affinity is known to OpenMP itself."""
    monkeypatch.setattr(spinning, "count_own_cores", lambda: 8)
    monkeypatch.setattr(spinning, "count_usable_cores", lambda: quota)
    if own is not None:
        monkeypatch.setenv(THREADS, own)
    if is_loaded:
        monkeypatch.setitem(sys.modules, "torch", spinning)
    bound_threads()
    assert os.environ.get(THREADS) == threads


def test_threads_that_the_command_line_chose_can_be_chosen_again_and_a_users_own_cannot() -> None:
    variables: dict[str, str] = {}
    for threads in (8, 4):
        choose_threads(variables, threads)
        assert variables[THREADS] == str(threads)
    assert list_chosen(variables) == (THREADS,)
    for own in ("3", ""):
        variables[THREADS] = own
        choose_threads(variables, 2)
        assert variables[THREADS] == own
        assert list_chosen(variables) == ()


def test_a_process_keeps_the_threads_that_the_first_one_gave_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spinning, "count_own_cores", lambda: 8)
    monkeypatch.setattr(spinning, "count_usable_cores", lambda: 4)
    choose_threads(os.environ, 2)
    bound_threads()
    assert os.environ[THREADS] == "2"


@pytest.mark.parametrize("text", [None, "", "0.1 0.1 0.1 many/300 1"])
def test_a_system_that_tells_no_load_counts_as_idle(
    text: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / "loadavg").write_text(text)
    monkeypatch.setattr(spinning, "LOAD_FILE", tmp_path / "loadavg")
    assert not spinning._is_busy()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_busy_loop_is_counted() -> None:
    with subprocess.Popen([sys.executable, "-c", "print(1, flush=True)\nwhile True: pass"], stdout=-1) as loop:
        try:
            assert loop.stdout is not None
            loop.stdout.readline()
            assert max(spinning._count_others() for _ in range(20)) >= 1
        finally:
            loop.kill()


@pytest.mark.parametrize("own", OWN_SETTINGS)
def test_each_own_setting_counts_even_if_empty(own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(own, "")
    bound_spinning()
    assert {name for name in OWN_SETTINGS if name in os.environ} == {own}


def test_nothing_is_set_where_it_would_come_too_late_or_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, system, machine in (("torch", "linux", "x86_64"), ("", "darwin", "x86_64"), ("", "linux", "aarch64")):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "platform", system)
            patch.setattr(platform, "machine", lambda machine=machine: machine)
            if module:
                patch.setitem(sys.modules, module, spinning)
            bound_spinning()
            assert SETTING not in os.environ
            monkeypatch.setattr(spinning, "measure_pause_ns", lambda: 50.0)
            assert (f"set {SETTING}=400 before torch" in describe_spinning()) == bool(module)


@is_bounded
def test_a_turn_is_measured_with_its_own_length_and_in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = time.thread_time()
    one = min(measure_pause_ns() for _ in range(5))
    assert time.thread_time() - begun < 5 * 0.005
    assert 1 < one < 200  # 4 to 160 cycles
    # Two pauses a turn take twice as long.
    double = bytes.fromhex("89f9 f390 f390 ffc9 75f8 c3")
    monkeypatch.setattr(spinning, "_LOOP", double)
    two = min(measure_pause_ns() for _ in range(5))
    assert 1.5 < two / one < 2.5


@is_bounded
def test_where_code_cannot_be_run_a_usual_length_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object, **named: object) -> None:
        raise PermissionError("no executable memory")

    monkeypatch.setattr(mmap, "mmap", refuse)
    assert measure_pause_ns() == USUAL_PAUSE_NS
    assert count_turns(IDLE_US) == 10_000
