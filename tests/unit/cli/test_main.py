from __future__ import annotations

import inspect
import json
import re

import pytest
from typer.main import get_command

from atrous import __version__
from atrous.cli import main as cli


def run(capsys, *words):
    code = cli.main(words)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


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
        (["train", "shapes", "--lr", "-1"], "--lr: training.lr is -1.0", "Allowed: greater than 0 or 'auto'."),
        (
            ["train", "--resume", "runs/x", "--recipe", "demo"],
            "a run that is continued keeps its recipe and its folder",
            "Leave out the recipe",
        ),
        (
            ["train", "--resume", "runs/x", "--dry-run"],
            "a run that is continued has no dry run, preview or probe",
            "Leave out one",
        ),
        (["train", "python"], "the data of this run were Python objects", "Name a folder"),
        (["train", "--resume", "nowhere"], "nowhere is no run: it has no config.yaml", "Name the folder"),
        (["train", "shapes", "--class-weights", "1,a"], "--class-weights got '1,a'", "Write numbers"),
        (["eval", "runs/x", "--scales", "1,-2"], "--scales is -2.0", "Allowed: greater than 0."),
        (["eval", "runs/x", "--no-crf", "--crf-set", "x=1"], "--no-crf and --crf-set contradict", "Remove one"),
        (["convert", "a"], "Missing option '--out'", "See `atrous convert --help`."),
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


def test_the_settings_of_a_run_are_shown(capsys, trained_run):
    code, out, _ = run(capsys, "config", "show", str(trained_run), "--json")
    assert code == 0
    shown = json.loads(out)
    assert shown["training"]["lr"] == 0.3
    assert shown["model"]["name"] == "deeplabv3-tiny"


def test_what_config_show_prints_is_a_recipe(capsys, tmp_path):
    words = ("config", "show", "--recipe", "demo", "--set", "training.seed=9")
    first = run(capsys, *words)[1]
    (tmp_path / "again.yaml").write_text(first)
    assert run(capsys, "config", "show", "--recipe", str(tmp_path / "again.yaml"))[1] == first


def list_texts():
    """Return every argument and option of every command that takes a text, in a command line that lacks nothing."""
    needed = {
        "predict": ["x", "--model", "x"],
        "eval": ["x"],
        "export": ["x"],
        "bench": ["x"],
        "reproduce": ["table10"],
    }
    needed |= {"config": ["show"], "datasets": ["show"], "models": ["show"]}
    for name in cli.COMMANDS:
        signature = inspect.signature(cli.COMMANDS.load(name), eval_str=True)
        texts = {
            key for key, each in signature.parameters.items() if {"str", "Path"} & set(re.findall(r"\w+", str(each)))
        }
        for parameter in get_command(cli.build_app()).commands[name].params:
            if parameter.name in texts and parameter.param_type_name == "option":
                yield [name, *needed.get(name, []), parameter.opts[-1]]
            elif parameter.name in texts:
                yield [name, *(word for word in needed.get(name, []) if word == "show")]


@pytest.mark.parametrize("words", list(list_texts()), ids=" ".join)
@pytest.mark.parametrize("empty", ["", "  "], ids=["empty", "blank"])
def test_an_empty_word_is_never_the_current_folder(capsys, monkeypatch, tmp_path, words, empty):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *words, empty)
    assert (code, out) == (2, "")
    assert re.match(rf"({words[-1]}|an argument) is empty\nGive a (name or a path|value), or leave it out", err), err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "is_path"),
    [
        (["train"], True),
        (["eval", "x"], True),
        (["datasets", "show"], True),
        (["predict", "x", "--model"], True),
        *((["train", option], True) for option in ("--out", "--resume", "--weights", "--recipe", "--data-root")),
        (["bench", "x", "--data"], True),
        (["export", "x", "--calibrate"], True),
        (["export"], True),
        (["config"], False),
        *((["train", option], False) for option in ("--set", "--lr", "--epochs", "--model", "--class-weights")),
        *((["predict", "x", "--model", "x", option], False) for option in ("--device", "--format", "--crf-set")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_the_current_folder_is_named_where_a_path_can_be_given(capsys, words, is_path):
    code, _, err = run(capsys, *words, "")
    assert code == 2
    assert ("the current folder is `.`" in err) == is_path, err
    assert is_path or err.endswith("is empty\nGive a value, or leave it out.\n")


def test_every_parameter_that_is_a_path_is_known_as_one():
    for name in cli.COMMANDS:
        for key, parameter in inspect.signature(cli.COMMANDS.load(name), eval_str=True).parameters.items():
            assert "Path" not in re.findall(r"\w+", str(parameter.annotation)) or key in cli._PATHS, (name, key)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_a_shell_completes_a_line_with_empty_words(name):
    command = get_command(cli.build_app()).commands[name]
    for words in ([""], ["--out", ""], ["--set", ""], ["", "--model"]):
        command.make_context(name, list(words), resilient_parsing=True)
