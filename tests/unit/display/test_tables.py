from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from atrous.cli.console import print_json
from atrous.core.records import BandScore, ClassScore, ImageScore, Intervals, PartScore, Protocol, Scores
from atrous.display.console import build_console
from atrous.display.tables import build_table, describe_miou, print_scores


def build_scores(**changes):
    fields = {
        "miou": 0.5,
        "pixel_accuracy": 0.75,
        "classes": (
            ClassScore("road [wet]", 0, 0.5, 0.5, 1.0, 1000, 5, (0.25, 0.75)),
            ClassScore("car", 1, None, None, None, 0, 0),
        ),
        "confusion": ((5, 5), (0, 0)),
        "images": (ImageScore("a", 0.5, 3, 4),),
        "protocol": Protocol(),
        "baseline_class": "road [wet]",
        "baseline_miou": 0.25,
        "never_predicted": ("pole", "sign"),
        "data": "camvid val",
    }
    return Scores(**(fields | changes))


def test_beside_the_miou_stand_the_baseline_and_the_classes_never_predicted():
    text = describe_miou(build_scores())
    assert "mIoU 0.5000 (1 image, 1 of 2 classes; 0.2500 when always predicting 'road [wet]')" in text
    assert text.endswith("never predicted: pole, sign")
    assert describe_miou(build_scores(never_predicted=())).endswith(
        "every class that occurs in the masks was predicted somewhere"
    )
    assert "mIoU - " in describe_miou(build_scores(miou=None))


def test_the_table_has_a_row_a_class_and_takes_names_as_they_are(capsys):
    print_scores(build_console(), build_scores(notes=("2 images were trained on",)), title="run")
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    assert ["car", "-", "-", "-", "-", "-", "0"] in rows
    assert ["road", "[wet]", "0.5000", "0.250-0.750", "-", "0.5000", "1.0000", "1,000"] in rows
    assert "protocol: output stride 16, one scale, no flip, whole image, fp32" in out
    assert "2 images were trained on" in out


def test_intervals_are_printed_with_what_they_are_over(capsys):
    scores = build_scores(intervals=Intervals("group", 12, (0.25, 0.625), (0.5, 0.875)))
    text = describe_miou(scores)
    assert "mIoU 0.5000 in 0.250-0.625 (1 image" in text
    assert "pixel accuracy 0.7500 in 0.500-0.875" in text
    print_scores(build_console(), scores, title="run")
    assert "95 % intervals over 12 groups of images (data.split.group)" in capsys.readouterr().out
    bands = (BandScore("5 px", 0.25, (0.125, 0.375), 0.5, None),)
    print_scores(
        build_console(), build_scores(bands=bands, parts=(PartScore("larger", 2, 900, 0.5, None),)), title="run"
    )
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["5", "px", "0.2500", "0.125-0.375", "0.5000", "-"] in rows
    assert ["larger", "0.5000", "-", "2", "900"] in rows
    few = build_scores(intervals=Intervals("image", 3, None, None))
    assert " in " not in describe_miou(few).replace("in the masks", "")
    print_scores(build_console(), few, title="run")
    assert "no intervals: 3 images are too few to say" in capsys.readouterr().out


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_no_number_is_cut_however_narrow_the_terminal(width):
    stream = io.StringIO()
    table = build_table("class", "IoU", "recall", "precision", "pixels")
    numbers = ["0.1234", "0.5678", "0.9012", "1,234,567,890"]
    table.add_row("a class with a long name, and unbreakable" + "e" * 100, *numbers)
    Console(file=stream, width=width, soft_wrap=True).print(table)
    lines = stream.getvalue().splitlines()
    assert lines[1].split() == ["class", "IoU", "recall", "precision", "pixels"]
    assert lines[3].split()[-4:] == numbers
    assert max(map(len, lines)) <= max(width, 70)


def test_colours_only_on_a_terminal_and_none_under_no_color(monkeypatch):
    stream = io.StringIO()
    stream.isatty = lambda: True
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    build_console().print("wrong", style="red")
    assert "\x1b[31m" in stream.getvalue()
    stream.truncate(0)
    monkeypatch.setenv("NO_COLOR", "1")
    build_console().print("wrong", style="red")
    assert "\x1b[31m" not in stream.getvalue()


def test_json_is_strict_and_alone(capsys):
    print_json({"miou": 0.5})
    assert json.loads(capsys.readouterr().out) == {"miou": 0.5}
    with pytest.raises(ValueError, match="Out of range float"):
        print_json({"miou": float("nan")})
