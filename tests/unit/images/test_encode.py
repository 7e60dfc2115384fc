from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib import pyplot
from PIL import Image

from atrous.core.labels import VOID_COLOUR, LabelSpace
from atrous.images.decode import load_mask
from atrous.images.encode import draw_overlay, find_borders, save_overlay
from atrous.inference.folders.prediction import Prediction

SPACE = LabelSpace(("sky", "road", "car"), ids=(7, 0, 200), colours=((10, 20, 30), (200, 0, 0), (0, 0, 250)))


def predict(labels: np.ndarray, space: LabelSpace = SPACE, probabilities: np.ndarray | None = None) -> Prediction:
    image = np.full((*labels.shape, 3), 100, np.uint8)
    confidence = np.linspace(0, 1, labels.size, dtype=np.float32).reshape(labels.shape)
    return Prediction("sub/photo.v2", image, labels, confidence, probabilities, space)


def read_with_matplotlib(path: Path) -> np.ndarray:
    pixels = pyplot.imread(path)  # floats in [0, 1]
    return np.rint(pixels * np.iinfo(np.uint8 if pixels.max() * 255 % 1 < 1e-3 else np.uint16).max)


READERS: dict[str, Callable[[Path], np.ndarray]] = {
    "Pillow": lambda path: np.asarray(Image.open(path)),
    "Pillow, convert": lambda path: np.asarray(Image.open(path).convert("L")),
    "OpenCV, unchanged": lambda path: cv2.imread(str(path), cv2.IMREAD_UNCHANGED),
    "OpenCV, grey": lambda path: cv2.imread(str(path), cv2.IMREAD_GRAYSCALE),
    "OpenCV, colour": lambda path: cv2.imread(str(path))[:, :, 0],
    "matplotlib": read_with_matplotlib,
    "atrous": load_mask,
}
SIXTEEN_BITS = ("Pillow", "OpenCV, unchanged", "atrous")
"""What reads 16 bits as they are, as the README says; other calls scale them to 8."""


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("largest", [200, 1000])
def test_every_library_reads_the_ids_of_a_label_file(tmp_path: Path, reader: str, largest: int) -> None:
    if largest > 255 and reader not in SIXTEEN_BITS:
        pytest.skip("scales 16 bits")
    labels = np.array([[7, 0, largest], [9, 7, 7]], np.uint8 if largest < 256 else np.uint16)
    (path,) = predict(labels).save(tmp_path, overlay=False)
    np.testing.assert_array_equal(READERS[reader](path), labels)


def test_a_palette_holds_ids_and_shows_colours_but_other_libraries_read_the_colours(tmp_path: Path) -> None:
    labels = np.array([[7, 0, 200], [255, 7, 7]], np.uint8)
    (path,) = predict(labels).save(tmp_path, overlay=False, palette=True)
    assert not np.array_equal(READERS["OpenCV, grey"](path), labels)  # why it is not the default
    assert path == tmp_path / "sub" / "photo.v2.png"
    with Image.open(path) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), labels)  # pixel values are ids
        shown = np.asarray(image.convert("RGB"))
    expected = [[(10, 20, 30), (200, 0, 0), (0, 0, 250)], [VOID_COLOUR, (10, 20, 30), (10, 20, 30)]]
    np.testing.assert_array_equal(shown, expected)  # not black


def test_ids_above_255_become_16_bit_grey(tmp_path: Path) -> None:
    space = LabelSpace(("a", "b"), ids=(3, 1000))
    labels = space.decode(np.array([[0, 1, 1]]))
    (path,) = predict(labels, space).save(tmp_path, overlay=False)
    with Image.open(path) as image:
        assert image.mode == "I;16"
        np.testing.assert_array_equal(np.asarray(image), [[3, 1000, 1000]])


def test_confidence_and_probabilities_are_written_where_wanted(tmp_path: Path) -> None:
    labels = np.zeros((4, 6), np.uint8)
    probabilities = np.random.default_rng(0).random((3, 4, 6)).astype(np.float16)
    prediction = predict(labels, probabilities=probabilities)
    files = prediction.save(tmp_path, confidence=True)
    names = ["photo.v2.png", "photo.v2_overlay.jpg", "photo.v2_confidence.png", "photo.v2_probabilities.npy"]
    assert [file.name for file in files] == names
    assert sorted(file.name for file in (tmp_path / "sub").iterdir()) == sorted(names)  # no temporary file is left
    with Image.open(files[2]) as image:
        np.testing.assert_allclose(np.asarray(image) / 255, prediction.confidence, atol=0.5 / 255 + 1e-6)
    np.testing.assert_array_equal(np.load(files[3], allow_pickle=False), probabilities)


def test_the_overlay_blends_colours_draws_borders_and_leaves_ignored_pixels() -> None:
    labels = np.full((9, 9), 0, np.uint8)
    labels[:, 5:] = 200
    labels[7:, :3] = 255
    image = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    drawn = draw_overlay(image, labels, SPACE)
    np.testing.assert_allclose(drawn[0, 0], 0.45 * image[0, 0] + 0.55 * np.array([200, 0, 0]), atol=1)
    np.testing.assert_allclose(drawn[0, 8], 0.45 * image[0, 8] + 0.55 * np.array([0, 0, 250]), atol=1)
    np.testing.assert_array_equal(drawn[8, 0], image[8, 0])
    np.testing.assert_array_equal(drawn[:, 4], np.full((9, 3), 255))


def test_borders_equal_a_naive_loop() -> None:
    labels = np.random.default_rng(1).integers(0, 3, (7, 8)).astype(np.uint8)
    expected = np.zeros((7, 8), bool)
    for row in range(7):
        for column in range(8):
            right = column < 7 and labels[row, column] != labels[row, column + 1]
            below = row < 6 and labels[row, column] != labels[row + 1, column]
            expected[row, column] = right or below
    np.testing.assert_array_equal(find_borders(labels), expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 70000)])
def test_strips_of_any_length_have_an_overlay(tmp_path: Path, shape: tuple[int, int]) -> None:
    path = tmp_path / "strip.jpg"
    save_overlay(path, np.zeros((*shape, 3), np.uint8))
    with Image.open(path) as image:
        assert image.height == 1


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"old")
    with pytest.raises((TypeError, ValueError, OSError)):
        save_overlay(path, np.zeros((0, 4, 3), np.uint8))
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.jpg"]
