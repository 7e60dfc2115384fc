from __future__ import annotations

import errno
import json

import pytest
import torch

from atrous import __version__
from atrous.cli import main as cli
from atrous.core.errors import (
    ConfigError,
    DataError,
    MachineError,
    ModelFileError,
    TrainingDiverged,
    UsageError,
)
from atrous.core.registry import Registry

_SPACE = "Free some space, or write to another disk with --out."
_RIGHTS = "Write to a folder where you have permission, with --out."
_FILES = "Raise the limit with `ulimit -n 4096`, or use fewer --workers."
_MEMORY = "Try a smaller --batch, --crop or --window, or another --device."


def run(capsys, *words):
    code = cli.main(words)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def raise_usage_error() -> None:
    raise UsageError("runs/x holds a run", "Choose another --out.")


def raise_config_error() -> None:
    raise ConfigError("training.lr is -1", "Allowed: greater than 0.")


def raise_data_error() -> None:
    raise DataError("masks/a.png holds id 7", "Name class 7, or ignore it.")


def raise_model_file_error() -> None:
    raise ModelFileError("m.pth is cut short", "Copy it again.")


def raise_machine_error() -> None:
    raise MachineError("no device 'cuda'", "Use device cpu.")


def raise_training_diverged() -> None:
    raise TrainingDiverged("step 3 has loss nan", "Lower --lr.")


def raise_full_disk() -> None:
    raise OSError(errno.ENOSPC, "No space left on device", "runs/x")


def raise_read_only_folder() -> None:
    raise OSError(errno.EROFS, "Read-only file system", "runs/x")


def raise_too_many_files() -> None:
    raise OSError(errno.EMFILE, "Too many open files", "a.png")


def raise_memory_error() -> None:
    raise MemoryError


def raise_memory_error_of_torch() -> None:
    torch.empty(2**60)


def raise_surprise() -> None:
    raise KeyError("seven")


def raise_interrupt() -> None:
    raise KeyboardInterrupt


def return_one() -> int:
    return 1


@pytest.fixture
def odd_commands(monkeypatch):
    names = [name for name in globals() if name.startswith(("raise_", "return_"))]
    monkeypatch.setattr(cli, "COMMANDS", Registry("command", tuple((name, f"{__name__}:{name}") for name in names)))
    monkeypatch.setattr(Registry, "load", lambda _, name: globals()[name])


def test_version(capsys):
    assert run(capsys, "--version") == (0, f"{__version__}\n", "")


def test_no_words_is_help(capsys):
    code, out, err = run(capsys)
    assert (code, err) == (0, "")
    assert "Example: atrous demo" in out


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["trian"], "No such command 'trian'. Did you mean 'train'?", "See `atrous --help`."),
        (["train", "--modle", "x"], "No such option: --modle", "See `atrous train --help`."),
        (["train", "shapes", "--crop", "x"], "Invalid value for '--crop'", "See `atrous train --help`."),
        (["train"], "no data given", "Name a folder"),
        (["train", "shapes", "--lr", "-1"], "--lr: training.lr is -1.0", "Allowed: greater than 0."),
        (["train", "--resume", "runs/x", "--recipe", "demo"], "--resume takes the recipe", "Leave out --recipe"),
        (["train", "--resume", "runs/x", "--dry-run"], "--dry-run is for a new run", "Leave out one"),
        (["train", "python"], "the data of this run were Python objects", "Name a folder"),
        (["train", "--resume", "nowhere"], "nowhere is no run: it has no config.yaml", "Name the folder"),
        (["train", "shapes", "--class-weights", "1,a"], "--class-weights got '1,a'", "Write numbers"),
        (["eval", "runs/x", "--scales", "1,-2"], "--scales is -2.0", "Allowed: greater than 0."),
        (["eval", "runs/x", "--output-stride", "7"], "--output-stride is 7", "Allowed: 4, 8"),
        (["predict", "a.jpg"], "Missing option '--model'", "See `atrous predict --help`."),
        (
            ["predict", "a.jpg", "--model", "m", "--format", "overly"],
            "--format got 'overly'",
            "Did you mean 'overlay'?",
        ),
        (["models", "show"], "`atrous models show` needs a model name", "For example: atrous models show"),
        (["datasets", "show"], "no data set named", "atrous datasets show shapes"),
    ],
)
def test_a_mistake_is_two_lines_on_standard_error(capsys, words, message, hint):
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    first, second = err.splitlines()
    assert first.startswith(message)
    assert second.startswith(hint)


@pytest.mark.parametrize(
    ("command", "code", "lines"),
    [
        ("raise-usage-error", 2, ["runs/x holds a run", "Choose another --out."]),
        ("raise-config-error", 2, ["training.lr is -1", "Allowed: greater than 0."]),
        ("raise-data-error", 3, ["masks/a.png holds id 7", "Name class 7, or ignore it."]),
        ("raise-model-file-error", 4, ["m.pth is cut short", "Copy it again."]),
        ("raise-machine-error", 5, ["no device 'cuda'", "Use device cpu."]),
        ("raise-training-diverged", 6, ["step 3 has loss nan", "Lower --lr."]),
        ("raise-full-disk", 5, ["runs/x: No space left on device", _SPACE]),
        ("raise-read-only-folder", 5, ["runs/x: Read-only file system", _RIGHTS]),
        ("raise-too-many-files", 5, ["a.png: Too many open files", _FILES]),
        ("raise-memory-error", 5, ["out of memory", _MEMORY]),
        ("raise-memory-error-of-torch", 5, ["out of memory", _MEMORY]),
        ("raise-surprise", 70, ["KeyError: 'seven'", "This is a bug in atrous; --debug shows the traceback."]),
        ("raise-interrupt", 130, []),
        ("return-one", 1, []),
    ],
)
def test_exit_codes(capsys, odd_commands, command, code, lines):
    got, out, err = run(capsys, command.replace("-", "_"))
    assert (got, out, err.splitlines()) == (code, "", lines)


def test_debug_shows_the_trace_wherever_it_stands(capsys, odd_commands):
    for words in (["raise_data_error", "--debug"], ["--debug", "raise_data_error"]):
        code, _, err = run(capsys, *words)
        assert code == 3
        assert err.startswith("Traceback")
        assert "in raise_data_error" in err
    assert "Traceback" not in run(capsys, "raise_data_error")[2]


def test_no_colours_outside_a_terminal(capsys, odd_commands):
    assert "\x1b" not in "".join(run(capsys, "raise_data_error")[1:])


def test_config_show_says_why(capsys):
    code, out, _ = run(capsys, "config", "show", "--recipe", "demo", "--set", "training.lr=1e-3", "--why")
    rows = dict(line.split("  # ") for line in out.splitlines())
    sources = {key.strip(): source for key, source in rows.items()}
    assert code == 0
    assert sources["training.lr: 0.001"] == "--set training.lr=1e-3"
    assert sources['data.source: "shapes"'].startswith("recipe demo:")
    assert sources["training.batch: 8"] == "default"


def test_config_as_json_is_one_object(capsys):
    _, out, err = run(capsys, "config", "show", "--json", "--why")
    shown = json.loads(out)
    assert err == ""
    assert shown["config"]["training"]["epochs"] == 50
    assert shown["sources"]["training.epochs"] == "default"
    assert json.loads(run(capsys, "config", "schema")[1])["properties"].keys() >= {"data", "model", "training"}


def test_what_config_show_prints_is_a_recipe(capsys, tmp_path):
    words = ("config", "show", "--recipe", "demo", "--set", "training.seed=9")
    first = run(capsys, *words)[1]
    (tmp_path / "again.yaml").write_text(first)
    assert run(capsys, "config", "show", "--recipe", str(tmp_path / "again.yaml"))[1] == first


def test_an_error_class_of_ours_keeps_its_code():
    assert cli._translate(MachineError("no GPU")).exit_code == 5
