from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import atrous
from atrous.cli.main import main
from atrous.core.errors import UsageError
from atrous.core.records import Scores

CLASSES = ("ground", "cell")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Twelve images with masks of two classes, and a network that has not learned them."""
    folder = tmp_path_factory.mktemp("evaluation")
    generator = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / "data" / kind).mkdir(parents=True)
    for number in range(12):
        mask = np.kron(generator.integers(0, 2, (5, 6)), np.ones((8, 8), int)).astype(np.uint8)
        mask[:2] = 255
        image = np.stack([mask * 120, 255 - mask, generator.integers(0, 255, mask.shape)], axis=-1).astype(np.uint8)
        Image.fromarray(image).save(folder / "data/images" / f"p{number:02}.png")
        Image.fromarray(mask).save(folder / "data/masks" / f"p{number:02}.png")
    torch.manual_seed(0)
    network = atrous.build("fcn-tiny", classes=CLASSES)
    atrous.save(network, folder / "model.safetensors")
    return folder / "model.safetensors", folder / "data"


def test_one_pass_writes_scores_rows_plots_and_the_worst_images(
    made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, data = made
    out = tmp_path / "out"
    assert main(["eval", str(model), str(data), "--out", str(out), "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert "expected calibration error" in shown
    assert "min_confidence" in shown
    assert "'cell' from a probability of" in shown
    assert shown.rstrip().endswith(str(out))
    scores = json.loads((out / "scores.json").read_text())
    with (out / "images.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [row["key"] for row in scores["images"]]
    assert [float(row["miou"]) for row in rows] == pytest.approx([row["miou"] for row in scores["images"]], abs=1e-6)
    opened = atrous.load(model, device="cpu")
    for row in rows:
        mask = np.asarray(Image.open(data / f"masks/{Path(row['image']).name}.png"))
        labels = opened.predict(data / f"images/{Path(row['image']).name}.png").labels
        valid = mask != 255
        assert float(row["pixel_accuracy"]) == pytest.approx((labels == mask)[valid].mean(), abs=1e-6)
        hit, either = ((labels == 1) & (mask == 1)).sum(), (((labels == 1) | (mask == 1)) & valid).sum()
        assert float(row["IoU cell"]) == pytest.approx(hit / either, abs=1e-6)
    worst = sorted(scores["images"], key=lambda row: row["miou"])[:8]
    assert [row["key"] for row in scores["worst"]] == [row["key"] for row in worst]
    strip = np.asarray(Image.open(out / scores["worst"][0]["file"]))
    assert strip.shape == (40, 3 * 48, 3)
    name = Path(worst[0]["key"]).name
    np.testing.assert_array_equal(strip[:, :48], np.asarray(Image.open(data / f"images/{name}.png")))
    for plot in ("reliability.png", "precision_recall.png"):
        assert np.asarray(Image.open(out / plot).convert("L")).std() > 10
    for number, row in enumerate(scores["classes"]):
        hits = scores["confusion"][number][number]
        assert row["dice"] == pytest.approx(2 * hits / (row["pixels"] + row["predicted_pixels"]))
        assert row["dice"] == pytest.approx(2 * row["iou"] / (1 + row["iou"]))
    again = atrous.evaluate(opened, data, progress=False)
    assert again == Scores.from_json(scores)
    assert main(["eval", str(model), str(data), "--out", str(out), "--quiet"]) == 0  # its own files are replaced


def test_files_of_others_are_not_replaced(made: tuple[Path, Path], tmp_path: Path) -> None:
    model, data = made
    (tmp_path / "images.csv").write_text("mine")
    with pytest.raises(UsageError, match=r"images\.csv exists, and would be lost"):
        atrous.evaluate(model, data, out=tmp_path, progress=False)
    (tmp_path / "scores.json").write_text("[]")
    with pytest.raises(UsageError, match=r"scores\.json exists, and would be lost"):
        atrous.evaluate(model, data, out=tmp_path, progress=False)
    assert (tmp_path / "images.csv").read_text() == "mine"
    atrous.evaluate(model, data, out=tmp_path, overwrite=True, progress=False)
    assert (tmp_path / "images.csv").read_text().startswith("image,group,")
