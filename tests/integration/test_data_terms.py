"""Terms of use of registered data: models keep them, and whatever opens such a model reports them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import atrous
from atrous import api
from atrous.core.data_source import DATASETS, DRAWN, FOLDER, TERMS
from atrous.core.run_folder import RunFolder
from atrous.inference.exported import read_file
from atrous.networks.model_card import read_card

SETTINGS = {"model": "fcn-tiny", "weights": "none", "crop": 33, "batch": 2, "iterations": 1, "progress": False}


def write_pairs(images: Path, masks: Path, *, seed: int = 0, count: int = 2) -> None:
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    for number in range(count):
        cv2.imwrite(str(images / f"{number}.png"), generator.integers(0, 256, (40, 48, 3), dtype=np.uint8))
        cv2.imwrite(str(masks / f"{number}.png"), generator.integers(0, 11, (40, 48), dtype=np.uint8))


@pytest.fixture(scope="module")
def camvid(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data") / "camvid"
    for seed, split in enumerate(("train", "val")):
        write_pairs(root / split, root / f"{split}annot", seed=seed)
    return root


@pytest.fixture(scope="module")
def run(camvid, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "street"
    heard: list[str] = []
    atrous.train(f"camvid={camvid}", out=folder, on_message=heard.append, **SETTINGS)
    assert sum(TERMS["camvid"] in message for message in heard) == 1
    return folder


def test_every_registered_data_set_with_files_has_terms():
    assert set(TERMS) == set(DATASETS) - set(DATASETS.find_tagged(DRAWN)) - {FOLDER}


def test_whatever_opens_the_model_reports_them(run, camvid, tmp_path):
    assert read_card(RunFolder(run).model).data_terms == (TERMS["camvid"],)
    heard: list[str] = []
    model = atrous.load(run, on_message=heard.append)
    assert [note.code for note in heard] == ["data-terms"]
    image = camvid / "val" / "0.png"
    atrous.predict(image, run, tmp_path / "labels", progress=False, on_message=heard.append)
    record = json.loads((tmp_path / "labels" / "predictions.json").read_text())
    assert TERMS["camvid"] in json.dumps(record["notes"])
    assert any(TERMS["camvid"] in note for note in atrous.evaluate(run, progress=False, on_message=heard.append).notes)
    path, _ = atrous.export(run, tmp_path / "model.onnx", on_message=heard.append)
    assert read_file(path).card.data_terms == (TERMS["camvid"],)
    api.bench([run], [(33, 33)], rounds=1, progress=False, on_message=heard.append)
    assert [getattr(message, "code", "") for message in heard].count("data-terms") == 5
    saved = atrous.save(model.network, tmp_path / "saved.safetensors", classes=model.classes)
    assert read_card(saved).data_terms == (TERMS["camvid"],)
    heard.clear()
    atrous.predict(image, model, tmp_path / "more", progress=False, on_message=heard.append)
    assert not any(TERMS["camvid"] in message for message in heard)  # it was reported on loading


def test_a_model_file_has_the_score_of_its_card_on_registered_data(run, camvid, tmp_path):
    file = shutil.copy(RunFolder(run).model, tmp_path / "street.safetensors")  # the run is not known from here
    heard: list[str] = []
    scores = atrous.evaluate(file, f"camvid={camvid}", progress=False, on_message=heard.append)
    assert (scores.data, len(scores.images)) == ("camvid val", 2)
    assert scores.miou == read_card(file).score
    assert [note.code for note in heard] == ["data-terms", "data-folder"]
    shutil.copytree(camvid, tmp_path / "photos")
    every = atrous.evaluate(file, tmp_path / "photos", progress=False, on_message=heard.append)
    assert len(every.images) == 4  # of a folder, which may be any


def test_a_model_that_starts_from_another_keeps_its_terms(run, tmp_path):
    write_pairs(tmp_path / "own" / "images", tmp_path / "own" / "masks", count=6)
    first = shutil.copytree(run, tmp_path / "first")
    tuned = tmp_path / "tuned"
    atrous.train(tmp_path / "own", out=tuned, on_message=str, **SETTINGS | {"weights": first, "iterations": 2})
    card = read_card(RunFolder(tuned).model)
    assert card.data_terms == (TERMS["camvid"],)
    assert card.model["weights"] == "first"  # and not the folder that it is in
    shutil.rmtree(first)
    atrous.train(extend=tuned, iterations=3, progress=False, on_message=str)
    assert read_card(RunFolder(tuned).model).data_terms == (TERMS["camvid"],)


def test_without_registered_data_nothing_is_said(tmp_path):
    heard: list[str] = []
    atrous.train("shapes", out=tmp_path / "run", on_message=heard.append, **SETTINGS)
    atrous.load(tmp_path / "run", on_message=heard.append)
    assert not any(getattr(message, "code", "") == "data-terms" for message in heard)
