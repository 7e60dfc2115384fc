from __future__ import annotations

import json
import re
import shlex
import shutil

import pytest

from atrous.cli.main import main
from atrous.config.load import load_config
from atrous.config.schema import Config
from atrous.core.data_source import PYTHON_SOURCE
from atrous.core.run_folder import RunFolder
from atrous.training.outlook import describe_outlook

FALLING = (1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)


@pytest.mark.parametrize(
    ("mious", "losses", "code"),
    [
        ((0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65), FALLING, "still-improving"),
        ((0.1, 0.2, 0.3, 0.4, 0.5, 0.60, 0.604, 0.605), FALLING, "levelled-off"),
        ((0.1, 0.2, 0.3, 0.4, 0.5, 0.60, 0.598, 0.596), FALLING, "levelled-off"),
        ((0.1, 0.2, 0.3, 0.6, 0.5, 0.50, 0.55, 0.58), FALLING, "overfitting"),
        ((0.1, 0.2, 0.3, 0.6, 0.55, 0.5, 0.5, 0.5), tuple(reversed(FALLING)), "unsteady"),
        ((0.5, 0.7, 0.6, 0.62), (0.1, 0.2, 0.3, 0.4), "unsteady"),  # a gain, but far below the best
        ((0.5, 0.8, 0.7, 0.4), (0.1, 0.2, 0.3, 0.4), "unsteady"),
        ((0.1, 0.2, 0.3, 0.4), FALLING[:4], "still-improving"),
        ((0.1, 0.2, 0.4), FALLING[:3], None),
        ((0.1, 0.2, None, 0.4), FALLING[:4], None),
    ],
)
def test_what_the_curve_says(mious, losses, code, tmp_path):
    rows = [
        {"step": 10 * number, "miou": miou, "loss": loss}
        for number, (miou, loss) in enumerate(zip(mious, losses, strict=True), start=1)
    ]
    note = describe_outlook(rows, RunFolder(tmp_path), Config(), 5.0)
    assert (note and note.code) == code


def test_data_in_python_get_a_python_call(tmp_path):
    rows = [{"step": number, "miou": 0.1 * number, "loss": 1.0 / number} for number in range(1, 6)]
    config = Config.model_validate({"data": {"source": PYTHON_SOURCE}})
    note = describe_outlook(rows, RunFolder(tmp_path), config, 1.5)
    assert "atrous.train((train, val)" in note
    assert "epochs=3" in note


def test_the_command_that_trains_on_works_as_printed(trained_run, shapes_folder, tmp_path):
    rows = [{"step": number, "miou": 0.1 * number, "loss": 1.0 / number} for number in range(1, 6)]
    config = Config.model_validate({"data": {"source": str(shapes_folder)}})
    folder = tmp_path / "my run"
    shutil.copytree(trained_run, folder)
    note = describe_outlook(rows, RunFolder(folder), config, 2.5)
    (command,) = re.findall(r"`atrous (.*)`", note)
    assert main([*shlex.split(command), "--quiet"]) == 0
    assert "extended after step 8 of 8 to 10 steps" in (folder / "log.txt").read_text()


@pytest.mark.parametrize(
    ("mious", "losses", "change"),
    [
        ((0.1, 0.6, 0.5, 0.5), FALLING[:4], "--set training.jitter=0.2"),
        ((0.1, 0.6, 0.5, 0.5), FALLING[3::-1], "--set training.lr=0.15"),
    ],
)
def test_the_command_of_another_training_works_as_printed(mious, losses, change, trained_run, tmp_path):
    rows = [
        {"step": step, "miou": miou, "loss": loss} for step, (miou, loss) in enumerate(zip(mious, losses, strict=True))
    ]
    folder = tmp_path / "my run"
    shutil.copytree(trained_run, folder)
    config = load_config(recipe=folder / "config.yaml").config
    (command,) = re.findall(r"`atrous (.*)`", describe_outlook(rows, RunFolder(folder), config, 2.5))
    assert command.endswith(change)
    out = tmp_path / "again"
    assert main([*shlex.split(command), "--out", str(out), "--quiet"]) == 0
    name, _, value = change.removeprefix("--set training.").partition("=")
    changed = load_config(recipe=out / "config.yaml").config
    assert changed.training == config.training.model_copy(update={name: float(value)})
    assert (changed.data, changed.model) == (config.data, config.model)


def test_a_run_in_stages_and_data_in_python_get_no_such_command(tmp_path):
    rows = [{"step": step, "miou": miou, "loss": 1.0 / step} for step, miou in enumerate((0.1, 0.6, 0.5, 0.5), start=1)]
    shapes, python = (Config.model_validate({"data": {"source": source}}) for source in ("shapes", PYTHON_SOURCE))
    run = RunFolder(tmp_path)
    assert "`" not in describe_outlook(rows, run, python, 2.5)
    run.config.write_text("stages: [{}, {}]")
    run.stage(1).config.parent.mkdir()
    run.stage(1).config.write_text("data: {source: shapes}")
    assert "`" not in describe_outlook(rows, run, shapes, 2.5)
    assert "`" not in describe_outlook(rows, run.stage(1), shapes, 2.5)


def test_a_run_says_what_it_saw_and_how_it_ended(trained_run):
    log = (trained_run / "log.txt").read_text()
    assert "optimizer: sgd, learning rate 0.3" in log
    metrics = json.loads((trained_run / "metrics.json").read_text())
    codes = {note["code"] for note in metrics["notes"]}
    assert len(codes & {"still-improving", "levelled-off", "overfitting", "unsteady"}) == 1
    assert re.search(r"^(still improving|levelled off|overfitting|unsteady): ", log, re.MULTILINE)


def test_an_earlier_stage_gets_no_command(tmp_path):
    """The next one goes on from it; the last one can be extended."""
    rows = [{"step": number, "miou": 0.1 * number, "loss": 1.0 / number} for number in range(1, 6)]
    config = Config.model_validate({"data": {"source": "shapes"}})
    run = RunFolder(tmp_path)
    run.config.write_text("stages: [{}, {}]")
    assert describe_outlook(rows, run.stage(1), config, 1234.5).endswith("since step 4.")
    assert f"--extend {tmp_path} --epochs 2469.0`" in describe_outlook(rows, run, config, 1234.5)


@pytest.mark.parametrize(("epochs", "advises_more"), [(4.5, True), (40.0, False)])
def test_a_flat_end_after_few_passes_does_not_say_that_more_are_useless(epochs, advises_more, tmp_path):
    """The learning rate falls to 0 at the end of every training, and the curve is flat there however short it was."""
    rows = [{"step": number, "miou": 0.6, "loss": 1.0 / number} for number in range(1, 6)]
    note = describe_outlook(rows, RunFolder(tmp_path), Config.model_validate({"data": {"source": "shapes"}}), epochs)
    assert note.code == "levelled-off"
    assert ("atrous train" in note) == advises_more
    assert ("more images" in note) != advises_more
