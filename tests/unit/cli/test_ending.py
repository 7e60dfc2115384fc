from __future__ import annotations

import errno
import io
import json
import logging
import os
import signal
import subprocess
import sys
import warnings
from contextlib import suppress

import pytest
import torch

from atrous.cli import main as cli
from atrous.cli.console import print_json
from atrous.cli.ending import run_to_the_end
from atrous.core.errors import (
    AtrousError,
    ConfigError,
    DataError,
    MachineError,
    ModelFileError,
    TrainingDiverged,
    UsageError,
    note_on_stop,
)
from atrous.core.interruption import interrupt
from atrous.core.registry import Registry
from atrous.display.console import build_console
from atrous.display.tables import build_table

BUG = "This is a bug in atrous; --debug shows the traceback."


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (UsageError("runs/x holds a run", "Choose another --out."), 2, ["runs/x holds a run", "Choose another --out."]),
        (ConfigError("training.lr is -1", "Allowed: 1."), 2, ["training.lr is -1", "Allowed: 1."]),
        (DataError("a.png holds id 7", "Name it."), 3, ["a.png holds id 7", "Name it."]),
        (ModelFileError("m.pth is cut short", "Copy it."), 4, ["m.pth is cut short", "Copy it."]),
        (MachineError("no device 'cuda'", "Use cpu."), 5, ["no device 'cuda'", "Use cpu."]),
        (TrainingDiverged("step 3 has loss nan", "Lower --lr."), 6, ["step 3 has loss nan", "Lower --lr."]),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            5,
            ["standard output: no space left on the disk", "Free some space, or write to another disk with --out."],
        ),
        (
            OSError(errno.EROFS, "Read-only file system", "runs/x"),
            5,
            ["runs/x: the disk is read-only", "Write to a folder where you have permission, with --out."],
        ),
        (
            OSError(errno.EMFILE, "Too many open files", "a.png"),
            5,
            ["a.png: too many open files", "Raise the limit with `ulimit -n 4096`, or use fewer --workers."],
        ),
        (
            FileExistsError(errno.EEXIST, "File exists", "runs/x"),
            2,
            ["runs/x: a file of this name exists", "Choose another --out."],
        ),
        (MemoryError(), 5, ["out of memory", "Try a smaller --batch or --crop, fewer --workers, or another --device."]),
        (KeyError("seven"), 70, ["KeyError: 'seven'", BUG]),
        (KeyboardInterrupt(), 130, ["interrupted"]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_every_end_is_two_lines_an_exit_code_and_how_to_continue(capsys, error, code, lines):
    def fail() -> None:
        with note_on_stop(lambda stopped: f"continue after {type(stopped).__name__}"):
            raise error

    assert run_to_the_end(fail, command="train") == code
    captured = capsys.readouterr()
    assert (captured.out, captured.err.splitlines()) == ("", [*lines, f"continue after {type(error).__name__}"])


@pytest.mark.parametrize("command", [*cli.COMMANDS, ""])
def test_advice_about_memory_names_options_of_the_command(capsys, command):
    assert run_to_the_end(lambda: torch.empty(2**60), command=command) == 5
    first, advice = capsys.readouterr().err.splitlines()
    assert first == "out of memory"
    options = {word.strip(",.") for word in advice.split() if word.startswith("--")}
    if options:
        assert cli.main([command, "--help"]) == 0
        assert options <= set(capsys.readouterr().out.split())


def test_a_number_is_the_exit_code_and_nothing_else_is_fine(capsys):
    assert [run_to_the_end(lambda value=value: value) for value in (0, 1, None, "text")] == [0, 1, 0, 0]
    assert capsys.readouterr() == ("", "")


def fail_in_a_command() -> None:
    raise DataError("masks/a.png holds id 7", "Name class 7, or ignore it.")


def interrupt_a_command() -> int:
    interruption = KeyboardInterrupt()
    interruption.add_note("2 of 5 done, in out")
    raise interruption


def test_an_interrupted_command_says_what_was_done_whatever_typer_makes_of_it(capsys, monkeypatch):
    monkeypatch.setattr(cli, "COMMANDS", Registry("command", (("stop", f"{__name__}:interrupt_a_command"),)))
    assert cli.main(["stop"]) == 130
    assert capsys.readouterr().err == "interrupted\n2 of 5 done, in out\n"


def test_debug_shows_the_trace_wherever_it_stands(capsys, monkeypatch):
    monkeypatch.setattr(cli, "COMMANDS", Registry("command", (("fail", f"{__name__}:fail_in_a_command"),)))
    for words in (["fail", "--debug"], ["--debug", "fail"]):
        assert cli.main(words) == 3
        err = capsys.readouterr().err
        assert err.startswith("Traceback")
        assert "in fail_in_a_command" in err
    assert cli.main(["fail"]) == 3
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert "\x1b" not in err


def print_everything() -> None:
    table = build_table("class", "IoU")
    table.add_row("Straße 日本 \udcff", "0.5")
    build_console().print(table)
    build_console(stderr=True).print("Straße 日本 \udcff")
    print_json({"class": "Straße 日本 \udcff"})


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8", "utf-16"])
def test_every_name_can_be_printed_in_every_encoding(monkeypatch, encoding):
    """A file name may hold bytes that are no text: "\\udcff" stands for one."""
    streams = [
        io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors) for errors in ("strict", "backslashreplace")
    ]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    assert run_to_the_end(print_everything) == 0
    out, err = (stream.buffer.getvalue().decode(encoding) for stream in streams)
    assert ("Straße" if encoding != "ascii" else "Stra\\xdfe") in out
    assert ("日本" if encoding.startswith("utf") else "\\u65e5\\u672c") in out
    assert "\\udcff" in out
    assert "\\udcff" in err
    assert json.loads(out[out.index("{") :]) == {"class": "Straße 日本 \udcff"}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no such device on this system")
@pytest.mark.parametrize("words", [["--version"], ["models", "--json"], ["config", "show"], ["--help"]])
def test_results_that_cannot_be_printed_are_an_error(monkeypatch, capfd, words):
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert cli.main(words) == 5
    assert capfd.readouterr().err.startswith("standard output: no space left on the disk\n")


@pytest.mark.parametrize("words", [["--version"], ["config", "schema"], ["--help"]])
def test_a_reader_that_has_seen_enough_is_no_error(monkeypatch, capfd, words):
    reader, writer = os.pipe()
    os.close(reader)
    pipe = os.fdopen(writer, "w", encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", pipe)
    assert cli.main(words) == 0
    with suppress(BrokenPipeError):
        pipe.close()
    assert capfd.readouterr().err == ""


def test_other_packages_are_quiet_and_their_settings_come_back(capsys, caplog):
    def chatter() -> None:
        warnings.warn("a file of protocol 3", stacklevel=1)
        logging.getLogger("PIL.TiffImagePlugin").error("More samples per pixel than can be decoded")
        logging.getLogger("atrous").warning("downloading")

    before = list(warnings.filters), logging.root.manager.disable
    assert run_to_the_end(chatter) == 0
    assert capsys.readouterr() == ("", "")
    assert [record.getMessage() for record in caplog.records] == ["downloading"]
    assert (list(warnings.filters), logging.root.manager.disable) == before
    with pytest.warns(UserWarning, match="protocol 3"):
        run_to_the_end(chatter, debug=True)


def test_work_goes_on_without_a_terminal_to_print_to(monkeypatch):
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(sys, "stderr", Gone())
    build_console(stderr=True).print("step 3 of 8")
    monkeypatch.setattr(sys, "stderr", None)
    build_console(stderr=True).print("step 3 of 8")


SLOW = """
import sys, time
from atrous.cli.ending import run_to_the_end
from atrous.core.errors import note_on_stop

def work():
    with note_on_stop(lambda error: "2 of 5 done, in out"):
        try:
            print("ready", flush=True)
            time.sleep(60)
        finally:
            time.sleep(float(sys.argv[1]))

sys.exit(run_to_the_end(work))
"""


def start_slow(finishing_s: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(finishing_s)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_each_signal_is_answered_at_once_and_the_end_says_what_is_done():
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    for number, process in [(number, start_slow(0)) for number in numbers]:
        process.send_signal(number)
        _, err = process.communicate(timeout=200)
        assert (process.returncode, err.splitlines()[1:]) == (130, ["interrupted", "2 of 5 done, in out"])
        assert err.startswith("stopping, what is being written is finished first; another Ctrl-C ends now\n")


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_a_second_signal_ends_at_once():
    process = start_slow(60)
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline().startswith("stopping")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1.1)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=200)[1].startswith("ended at once")
    assert process.returncode == 130


def test_an_interruption_of_which_nothing_is_known_says_that_nothing_is_kept(capsys):
    assert run_to_the_end(interrupt) == 130
    assert capsys.readouterr().err == "interrupted\nNothing unfinished was kept: the same command starts again.\n"


def test_an_error_without_a_hint_is_one_line(capsys):
    def fail() -> None:
        raise AtrousError("the message says it all")

    assert run_to_the_end(fail) == 70
    assert capsys.readouterr().err == "the message says it all\n"


QUIET = """
import sys, time
from atrous.cli.ending import run_to_the_end

def work():
    try:
        print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        return 130

sys.exit(run_to_the_end(work))
"""
"""As a training, which saves and returns; with --quiet nothing is printed after the answer to the signal."""


@pytest.mark.skipif(os.name == "nt", reason="a terminal of Unix")
@pytest.mark.parametrize("script", [QUIET, SLOW], ids=["quiet", "slow"])
def test_a_terminal_that_has_closed_does_not_change_the_exit_code(script):
    """What could not be printed stays in a buffer, and the interpreter would try again at its end, and return 120."""
    terminal, stderr = os.openpty()
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", script, "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=buffered) as process:
        os.close(stderr)
        assert process.stdout.readline() == b"ready\n"
        os.close(terminal)
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=200) == 130
