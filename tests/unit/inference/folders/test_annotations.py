"""Predictions as annotations: of all labels in the folder, and never over files that people have changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import atrous
from atrous.core.errors import UsageError
from atrous.core.inference_options import InferenceOptions
from atrous.data import CONVERTERS, WRITTEN
from atrous.inference.build import build_labeller
from atrous.inference.engine import Engine
from atrous.inference.folders.writer import PredictionRecord, save_predictions
from atrous.inference.labelling.labeller import Labeller
from atrous.networks.segmenter import Segmenter
from tiny import TINY_SPACE

FORMATS = CONVERTERS.find_tagged(WRITTEN)


@pytest.fixture
def labeller(tiny_network: Segmenter) -> Labeller:
    return build_labeller(Engine(tiny_network, device="cpu"), TINY_SPACE, InferenceOptions())


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number, name in enumerate(("a", "more/b")):
        pixels = np.random.default_rng(number).integers(0, 256, (33, 40, 3), dtype=np.uint8)
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{name}.png")
    return tmp_path / "in"


def label(labeller: Labeller, source: Path, out: Path, *formats: str, overwrite: bool = False) -> PredictionRecord:
    return save_predictions(labeller, [source], out, formats=formats, model_digest="m", overwrite=overwrite)


def find_annotations(folder: Path) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.suffix in (".json", ".xml", ".geojson")]
    return [path for path in files if path.name != "predictions.json"]


@pytest.mark.parametrize("name", FORMATS)
def test_annotations_hold_the_labels(name: str, labeller: Labeller, images: Path, tmp_path: Path) -> None:
    label(labeller, images, tmp_path / "out", "ids", name)
    classes = dict(zip(TINY_SPACE.ids, TINY_SPACE.names, strict=True))
    source = tmp_path / "annotations"
    source.mkdir()
    for path in find_annotations(tmp_path / "out"):
        shutil.copy(path, source)
    result = atrous.convert(source, tmp_path / "back", images=images, classes=classes, progress=False)
    assert (result.problems, result.images) == ((), 2)
    for key in ("a", "more/b"):
        before = np.array(Image.open(tmp_path / "out" / f"{key}.png"))
        after = np.array(Image.open(tmp_path / "back" / "masks" / f"{key}.png"))
        assert (before == after).mean() > 0.99


@pytest.mark.parametrize("name", FORMATS)
def test_images_that_were_labelled_before_are_annotated_too(
    name: str, labeller: Labeller, images: Path, tmp_path: Path
) -> None:
    label(labeller, images, tmp_path / "once", "ids", name)
    label(labeller, images, tmp_path / "out", "ids")
    record = label(labeller, images, tmp_path / "out", "ids", name)
    assert (len(record.done), len(record.kept)) == (0, 2)
    once, twice = (
        {path.name: path.read_bytes() for path in find_annotations(tmp_path / place)} for place in ("once", "out")
    )
    assert once == twice
    label(labeller, images, tmp_path / "out", "ids", name)  # which may replace what it has written


@pytest.mark.parametrize("name", FORMATS)
def test_annotations_that_were_corrected_are_not_replaced(
    name: str, labeller: Labeller, images: Path, tmp_path: Path
) -> None:
    label(labeller, images, tmp_path / "out", "ids", name)
    file = tmp_path / "out" / CONVERTERS.load(name).file.format(key="a")
    file.write_text("corrected", encoding="utf-8")
    with pytest.raises(UsageError, match="changed since atrous wrote it"):
        label(labeller, images, tmp_path / "out", "ids", name)
    assert file.read_text(encoding="utf-8") == "corrected"
    label(labeller, images, tmp_path / "out", "ids", name, overwrite=True)
    assert file.read_text(encoding="utf-8") != "corrected"


@pytest.mark.parametrize("name", FORMATS)
def test_annotations_of_others_are_not_replaced(name: str, labeller: Labeller, images: Path, tmp_path: Path) -> None:
    file = tmp_path / "out" / CONVERTERS.load(name).file.format(key="a")
    file.parent.mkdir()
    file.write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="not written by atrous"):
        label(labeller, images, tmp_path / "out", "ids", name)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [file.name]


def test_an_image_named_as_the_record_has_no_annotations_beside_it(
    labeller: Labeller, images: Path, tmp_path: Path
) -> None:
    (images / "a.png").rename(images / "predictions.png")
    with pytest.raises(UsageError, match=r"predictions\.json"):
        label(labeller, images, tmp_path / "out", "labelme")


def test_labelme_finds_the_image_from_its_file(labeller: Labeller, images: Path, tmp_path: Path) -> None:
    label(labeller, images, tmp_path / "out", "labelme")
    for key in ("a", "more/b"):
        file = tmp_path / "out" / f"{key}.json"
        named = json.loads(file.read_text(encoding="utf-8"))["imagePath"]
        assert (file.parent / named).resolve() == (images / f"{key}.png").resolve()
