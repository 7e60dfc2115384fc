"""Files for the servers of benchmarks: their names, ids and colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.core.errors import UsageError
from atrous.core.inference_options import InferenceOptions
from atrous.core.labels import LabelSpace
from atrous.data.datasets.cityscapes import CITYSCAPES
from atrous.data.datasets.voc import VOC
from atrous.inference.build import build_labeller
from atrous.inference.engine import Engine
from atrous.inference.folders.inputs import ImageFile
from atrous.inference.folders.submission import build_submission
from atrous.inference.folders.writer import save_predictions
from atrous.networks.segmenter import Segmenter
from tiny import TINY_SPACE


def choose(space: LabelSpace, first: int) -> LabelSpace:
    """Return as many classes of a benchmark as the tiny network has."""
    part = slice(first, first + TINY_SPACE.num_classes)
    return LabelSpace(space.names[part], space.ids[part], space.colours[part], ())


@pytest.mark.parametrize(
    ("name", "space", "image", "result", "mode"),
    [
        ("voc", choose(VOC, 8), "2008_000006.jpg", "VOC2012/Segmentation/comp6_test_cls/2008_000006.png", "P"),
        (
            "cityscapes",
            choose(CITYSCAPES, 9),
            "berlin/berlin_000000_000019_leftImg8bit.png",
            "cityscapes/berlin_000000_000019_labelIds.png",
            "L",
        ),
    ],
)
def test_results_hold_the_official_ids(
    name: str, space: LabelSpace, image: str, result: str, mode: str, tiny_network: Segmenter, tmp_path: Path
) -> None:
    path = tmp_path / "in" / image
    path.parent.mkdir(parents=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (33, 40, 3), dtype=np.uint8)).save(path)
    labeller = build_labeller(Engine(tiny_network, device="cpu"), space, InferenceOptions())
    save_predictions(labeller, [tmp_path / "in"], tmp_path / "out", submission=name)
    labels = np.array(Image.open((tmp_path / "out" / image).with_suffix(".png")))
    with Image.open(tmp_path / "out" / "results" / result) as found:
        assert found.mode == mode
        np.testing.assert_array_equal(np.array(found), labels)
        if mode == "P":
            colours = np.array(found.getpalette()).reshape(-1, 3)[: len(VOC.ids)]
            np.testing.assert_array_equal(colours, VOC.colours)
    assert set(np.unique(labels).tolist()) <= set(space.ids)


FILES = [ImageFile(Path("in/2008_000006.jpg"), "2008_000006")]


def test_other_classes_images_and_servers_are_refused() -> None:
    with pytest.raises(UsageError, match="there is no submission 'vox'") as caught:
        build_submission("vox", FILES, VOC)
    assert "voc" in caught.value.hint
    with pytest.raises(UsageError, match=r"the model has classes that are not the benchmark's: 0 sky"):
        build_submission("voc", FILES, LabelSpace(("sky", "aeroplane")))
    train_ids = LabelSpace(CITYSCAPES.names)
    with pytest.raises(UsageError, match=r"not the benchmark's: 0 road"):
        build_submission("cityscapes", FILES, train_ids)
    with pytest.raises(UsageError, match=r"1 image of other names: photo\.jpg"):
        build_submission("voc", [*FILES, ImageFile(Path("in/photo.jpg"), "photo")], VOC)
    with pytest.raises(UsageError, match="several images of one name"):
        build_submission("voc", [*FILES, ImageFile(Path("more/2008_000006.jpg"), "more/2008_000006")], VOC)


def test_a_least_confidence_is_refused_since_servers_take_no_void(tiny_network: Segmenter, tmp_path: Path) -> None:
    image = tmp_path / "in" / "2008_000006.jpg"
    image.parent.mkdir()
    Image.fromarray(np.zeros((33, 40, 3), dtype=np.uint8)).save(image)
    labeller = build_labeller(Engine(tiny_network, device="cpu"), choose(VOC, 8), InferenceOptions())
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="the server takes none without one"):
        save_predictions(labeller, [image], out, submission="voc", min_confidence=0.5)
    assert not out.exists()
    save_predictions(labeller, [image], out, submission="voc", min_confidence=0.0)
