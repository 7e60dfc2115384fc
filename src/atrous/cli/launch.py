"""The option `--processes`: the same command in several processes, started, watched and ended together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import atrous
from atrous.core.errors import MachineError, OtherProcessFailed, UsageError
from atrous.core.interruption import StopRequest
from atrous.core.launch import Launch, find_launch
from atrous.core.machine import count_usable_cores
from atrous.core.spinning import choose_threads
from atrous.core.words import describe_count

GRACE_S = 15.0
"""Seconds in which the other processes end after one has failed: they notice it, and finish what they are writing."""
_LOOK_S = 0.05
_CHILD = "from atrous.cli.launch import run_child; run_child()"


def must_launch(processes: int | None) -> bool:
    """Return whether this process has to start the processes of a command: it is none of them.

    Args:
        processes: How many were asked for, if any.
    Raises:
        UsageError: A launcher has started another number, or there are fewer cores.
    """
    launch = find_launch()
    if launch is not None and processes not in (None, launch.size):
        raise UsageError(
            f"`processes={processes}` in one of {describe_count(launch.size, 'process')} that a launcher has started",
            "Leave out the option, or the launcher.",
        )
    if launch is not None or processes in (None, 1):
        return False
    cores = count_usable_cores()
    if processes is not None and processes > cores:
        raise UsageError(
            f"`processes={processes}`: {describe_count(cores, 'core')} can be used here", f"Use at most {cores}."
        )
    return True


def is_first() -> bool:
    """Return whether this process is the one that prints: it was started alone, or has number 0."""
    launch = find_launch()
    return launch is None or launch.rank == 0


def run_processes(words: Sequence[str], processes: int) -> int:
    """Run a command in several processes, and return its exit code: of those that failed that of the first.

    Signals that ask for an end are passed on. Once a process has failed, those that have not ended in `GRACE_S` are
    killed. The cores are shared out: each process gets threads for its part.

    Args:
        words: The words after `atrous`.
        processes: How many.
    Raises:
        MachineError: Process 0 was killed, which would have reported that of another one.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        launch = Launch(0, processes, "127.0.0.1", free.getsockname()[1])
    children: list[subprocess.Popen[bytes]] = []

    def pass_on() -> None:
        for child in children:
            if child.poll() is None:
                child.send_signal(signal.SIGINT)

    with StopRequest(pass_on, pass_on):
        try:
            for rank in range(processes):
                children.append(_start(words, replace(launch, rank=rank)))
            _wait(children)
        finally:
            for child in children:
                child.kill()
                child.wait()
    codes = [child.returncode for child in children]
    if codes[0] < 0 and all(code in (codes[0], OtherProcessFailed.exit_code) for code in codes):
        raise MachineError(
            f"process 0 of {processes} was killed ({signal.Signals(-codes[0]).name})",
            "Its run folder has its last checkpoint, from which `resume=RUN` continues.",
        )
    own = [code for code in codes if code not in (0, OtherProcessFailed.exit_code) and code > 0]
    return own[0] if own else MachineError.exit_code if any(codes) else 0


def run_child() -> None:
    """Run the command line in a process that `run_processes` started, and end it if that process dies."""
    from atrous.__main__ import run

    def watch() -> None:
        os.read(0, 1)  # nothing is ever written: this ends with the other end of the pipe
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    sys.exit(run())


def _start(words: Sequence[str], launch: Launch) -> subprocess.Popen[bytes]:
    package = str(Path(atrous.__file__).parents[1])
    variables = {
        **os.environ,
        **launch.to_variables(),
        "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
    }
    choose_threads(variables, max(count_usable_cores() // launch.size, 1))  # this process has taken all for itself
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _CHILD, *words],
        env=variables,
        stdin=subprocess.PIPE,
        start_new_session=True,  # a terminal's Ctrl-C reaches this process alone, which passes it on once
    )


def _wait(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """Return when all have ended, or one has failed and `GRACE_S` have passed."""
    failed_at: float | None = None
    while any(child.poll() is None for child in children):
        if failed_at is None and any(child.returncode for child in children):
            failed_at = time.monotonic()
        if failed_at is not None and time.monotonic() - failed_at > GRACE_S:
            return
        time.sleep(_LOOK_S)
