from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.cli.main import main
from atrous.runs.probe import LearnedClass, Probe

LEARNED = Probe(
    images=("a", "b"),
    crop=257,
    losses=(2.0, 1.0, 0.5),
    before=0.1,
    after=0.6,
    classes=(LearnedClass("ground", 900, 0.2, 0.9, None), LearnedClass("pole", 100, 0.0, 0.3, "ground")),
    ignored=0.1,
    sheet=None,
)
PROBE = ("--probe", "--model", "fcn-tiny", "--weights", "none", "--lr", "0.03", "--quiet")


def test_what_was_learned_needs_no_advice():
    assert LEARNED.is_learned
    assert LEARNED.list_advice() == []
    assert LEARNED.describe_verdict().startswith("learned: 1 of 2 classes in 2 images")
    assert LEARNED.describe_scores() == "loss 2.000 before, 0.500 after; mIoU 0.100 before, 0.600 after; 3 steps"


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({"after": 0.4}, ["pole: most of its pixels were taken for ground", "masks: "]),
        ({"losses": (2.0, 1.9)}, ["learning rate: the loss went from 2.000 to 1.900", "masks: "]),
        ({"classes": LEARNED.classes[:1]}, ["classes: the masks hold ground alone", "masks: "]),
        (
            {"after": None, "ignored": 0.9, "losses": (2.0, 1.9)},
            ["ignored pixels: 90% of the two crops", "learning rate: ", "masks: "],
        ),
    ],
)
def test_what_was_not_learned_is_explained_by_what_is_known(changes, reasons):
    found = replace(LEARNED, **changes)
    assert not found.is_learned
    advice = found.list_advice()
    assert [line[: len(reason)] for line, reason in zip(advice, reasons, strict=True)] == reasons


def test_a_probe_learns_shapes_and_writes_its_images_alone(shapes_folder: Path, tmp_path: Path, capsys) -> None:
    assert main(["train", str(shapes_folder), *PROBE, "--out", str(tmp_path / "out"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["learned"]
    assert found["miou"][1] > 0.5 > found["miou"][0]
    assert found["loss"][1] < 0.5 * found["loss"][0]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["probe.png"]
    sheet = np.asarray(Image.open(tmp_path / "out" / "probe.png"))
    assert sheet.shape[1] == 8 + 3 * 224 - 4 + 8  # image, mask and prediction


def test_masks_that_do_not_follow_the_images_are_not_learned(shapes_folder: Path, tmp_path: Path, capsys) -> None:
    generator = np.random.default_rng(0)
    for path in shapes_folder.rglob("*.png"):
        target = tmp_path / path.relative_to(shapes_folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.asarray(Image.open(path))
        is_mask = pixels.ndim == 2
        Image.fromarray(generator.integers(0, 6, pixels.shape, np.uint8) if is_mask else pixels).save(target)
    before = sorted(tmp_path.rglob("*"))
    assert main(["train", str(tmp_path), *PROBE]) == 3
    out = capsys.readouterr().out
    assert "not learned: 0 of 6 classes in 2 images" in out
    assert "Try --lr ten times higher and ten times lower" in " ".join(out.split())
    assert "A probe cannot see that masks are shifted" in out
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("other", ["--dry-run", "--preview"])
def test_a_probe_is_no_dry_run_and_no_preview(shapes_folder: Path, other: str, capsys) -> None:
    assert main(["train", str(shapes_folder), *PROBE, other]) == 2
    assert "each end before a training" in capsys.readouterr().err


def test_a_foreign_file_is_not_replaced(shapes_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "probe.png").write_bytes(b"of another program")
    assert main(["train", str(shapes_folder), *PROBE, "--out", str(tmp_path)]) == 2
    assert (tmp_path / "probe.png").read_bytes() == b"of another program"
