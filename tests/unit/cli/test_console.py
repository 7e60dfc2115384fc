from __future__ import annotations

from pathlib import Path

import pytest

import atrous
from atrous.cli.console import open_display, spell_options
from atrous.cli.main import main


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("Choose another `out`.", "Choose another --out."),
        ("Use `crop=129` or more.", "Use --crop 129 or more."),
        ("Replace it: `overwrite=True`.", "Replace it: --overwrite."),
        ("Score without `flip=False`.", "Score without --no-flip."),
        ("Give `output_stride=8`, `data_root=~/my sets`", "Give --output-stride 8, --data-root ~/my sets"),
        ("`set` training.lr=x", "--set training.lr=x"),
        ("See `atrous models`, `images/` and `colour`.", "See `atrous models`, `images/` and `colour`."),
        ("plain", "plain"),
    ],
)
def test_keywords_become_options(message: str, shown: str) -> None:
    assert spell_options(message) == shown


def test_messages_of_a_command_are_spelled_and_notes_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    with open_display(quiet=False) as display:
        display.on_message("use more `workers`")
    assert capsys.readouterr().err == "use more --workers\n"


def test_one_error_names_the_keyword_in_python_and_the_option_in_a_command(
    shapes_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    with pytest.raises(atrous.AtrousError) as caught:
        atrous.train(shapes_folder, model="deeplabv3-tiny", crop=65, out=out, weights="none", lr=-1)
    assert "`lr`: training.lr" in str(caught.value)
    words = ["train", str(shapes_folder), "--model", "deeplabv3-tiny", "--weights", "none", "--lr", "-1"]
    assert main([*words, "--out", str(out)]) == 2
    assert "--lr: training.lr" in capsys.readouterr().err
    with pytest.raises(atrous.AtrousError, match="`crop=") as caught:
        atrous.train(shapes_folder, model="deeplabv3-tiny", crop=65, out=out, weights="none")
    assert main([*words[:-2], "--crop", "65", "--out", str(out)]) == 2
    assert "--model fcn-lite0" in capsys.readouterr().err
