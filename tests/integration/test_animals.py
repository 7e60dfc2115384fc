"""The shipped model `animals`: what its card tells, and what it sees in photos that it was not trained on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

import atrous
from atrous.cli.main import main
from atrous.core.data_source import TERMS
from atrous.core.errors import ModelFileError
from atrous.core.shipped import find_shipped
from atrous.data.datasets.camvid import CAMVID
from atrous.networks.model_card import read_card
from atrous.networks.model_source import find_model

ROOT = Path(__file__).parents[2]
PHOTOS = ROOT / "docs" / "images"
CLASSES = {"background": 0, "cat": 8, "cow": 10, "dog": 12, "horse": 13, "person": 15, "sheep": 17}
"""Names and ids as in PASCAL VOC."""


def test_the_card_tells_data_score_protocol_and_terms():
    card = read_card(find_shipped("animals"))
    assert dict(zip(card.label_space.names, card.label_space.ids, strict=True)) == CLASSES
    assert card.model["name"] == "deeplabv3-lite0"
    assert card.data == "voc train_aug"
    assert card.num_images is not None
    assert card.data_terms == (TERMS["voc"],)
    assert (card.scored_data, card.num_scored) == ("voc val", 223)
    assert card.protocol is not None
    assert (card.protocol["output_stride"], card.protocol["scales"], card.protocol["flip"]) == (16, [1.0], False)
    assert card.protocol["precision"] == "fp32"
    assert card.score == pytest.approx(np.mean(card.class_iou), abs=1e-9)
    assert len(card.recipe_sha256) == len(hashlib.sha256().hexdigest())
    assert {"atrous", "torch", "python"} <= set(card.versions)


def test_it_is_small_and_its_weights_are_in_half_precision():
    path = find_shipped("animals")
    assert path.stat().st_size < 15e6
    with safe_open(path, framework="np") as file:
        tensors = [file.get_slice(name) for name in file.keys()]
    assert {each.get_dtype() for each in tensors if len(each.get_shape()) > 1} == {"F16"}


def test_a_changed_file_is_refused(tmp_path):
    path = Path(shutil.copy(find_shipped("animals"), tmp_path / "changed.safetensors"))
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="has changed since it was written"):
        atrous.load(path)


def test_the_command_at_the_top_of_the_readme_makes_the_images_below_it(tmp_path, monkeypatch):
    """The animal or the human of a photo is its most frequent class besides the background. The images are in fp32."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    command = next(line for line in lines if line.startswith(".venv/bin/atrous predict"))
    assert main(command.split()[1:]) == 0
    assert main([*command.split()[1:], "--precision", "fp32", "--out", "fp32"]) == 0
    for name, expected in {"chelsea": "cat", "astronaut": "person"}.items():
        ids = np.array(Image.open(tmp_path / "predictions" / f"{name}.png"))
        shares = {each: float(np.mean(ids == number)) for each, number in CLASSES.items() if each != "background"}
        assert max(shares, key=lambda each: shares[each]) == expected
        assert shares[expected] > 0.15
        assert sum(shares.values()) - shares[expected] < 0.05
        made, shown = (
            np.array(Image.open(folder / f"{name}_overlay.jpg").convert("RGB"), dtype=float)
            for folder in (tmp_path / "fp32", PHOTOS)
        )
        assert np.abs(made - shown).mean() < 1  # where JPEG or a machine rounds otherwise


def test_little_confidence_becomes_void_by_the_temperature_of_the_card():
    model = atrous.load("animals", device="cpu")
    assert model.card.chosen.temperature != 1.0
    assert model.card.chosen.data == "voc val"
    photo = PHOTOS / "chelsea.jpg"
    plain = model.predict(photo, probabilities=True)
    kept = model.predict(photo, min_confidence=0.8)
    np.testing.assert_array_equal(kept.labels == 255, plain.confidence < 0.8)
    np.testing.assert_array_equal(kept.labels[kept.labels != 255], plain.labels[kept.labels != 255])
    assert 0 < np.mean(kept.labels == 255) < 0.5


REPOSITORY = sorted((ROOT / "models").glob("*.safetensors"))


@pytest.mark.parametrize("path", REPOSITORY, ids=lambda path: path.stem)
def test_a_model_of_the_repository_tells_its_terms_wherever_it_is_opened(path, tmp_path, monkeypatch, capsys):
    """It is not part of the package, since its data are for non-commercial use."""
    card = read_card(path)
    assert card.data_terms == (TERMS["camvid"],)
    assert (card.data, card.scored_data, card.num_scored) == ("camvid train", "camvid val", 101)
    assert card.label_space.names == CAMVID.names
    assert card.score == pytest.approx(np.mean(card.class_iou), abs=1e-9)
    assert path.name in (path.parent / "README.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(["predict", str(PHOTOS / "chelsea.jpg"), "--model", str(path), "--out", "labels"]) == 0
    assert "non-commercial" in capsys.readouterr().err
    heard = []
    atrous.load(path, on_message=heard.append)
    assert any("non-commercial" in message for message in heard)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "data"), [("animals", "voc=voc_animals"), *((str(path), "camvid=camvid") for path in REPOSITORY)]
)
def test_eval_prints_the_scores_of_the_card(model, data, capsys):
    name, _, folder = data.partition("=")
    root = Path(os.environ.get("ATROUS_DATA", "nowhere")) / folder
    if not root.is_dir():
        pytest.skip(f"ATROUS_DATA names no folder with {folder}/")
    card = read_card(find_model(model))
    assert main(["eval", model, f"{name}={root}", "--json", "--quiet"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert f"{scores['miou']:.4f}" == f"{card.score:.4f}"
    assert [round(row["iou"], 4) for row in scores["classes"]] == [round(iou, 4) for iou in card.class_iou]
    assert (scores["data"], scores["protocol"]["precision"]) == (card.scored_data, "fp32")
