from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from atrous.data.file_names import MOST_GUESSED, guess_places


def fill(root, folder, names):
    (root / folder).mkdir(parents=True)
    for name in names:
        Image.fromarray(np.zeros((2, 2), np.uint8)).save(root / folder / name)


@pytest.mark.parametrize(
    ("folders", "guess"),
    [
        (
            {"pics": ["a.jpg", "b.jpg"], "hand drawn": ["a_seg.png", "b_seg.png"]},
            {"images": "pics", "masks": "hand drawn/{stem}_seg.png"},
        ),
        (
            {"one": ["a_rgb.png", "b_rgb.png"], "two": ["gt_a.png", "gt_b.tif"]},
            {"images": "one/{stem}_rgb.*", "masks": "two/gt_{stem}.*"},
        ),
        ({"in": ["a.jpg", "b.jpg", "c.jpg"], "out": ["a.png", "b.png"]}, {"images": "in", "masks": "out"}),
        ({"in": ["a.png"], "out": ["a.png"]}, {}),  # which of them?
        ({"pics": ["a.jpg"], "old": ["a_seg.png"], "new": ["a_seg.png"]}, {}),
        ({"pics": ["a.jpg"], "other": ["z_seg.png"]}, {}),
        ({"pics": ["a.jpg"], ".cache": ["a_seg.png"]}, {}),
        ({}, {}),
    ],
)
def test_two_folders_are_taken_for_images_and_masks_if_no_others_could_be(tmp_path, folders, guess):
    for folder, names in folders.items():
        fill(tmp_path, folder, names)
    assert guess_places(tmp_path) == guess


def test_nothing_is_guessed_among_many_folders(tmp_path):
    fill(tmp_path, "pics", ["a.jpg"])
    fill(tmp_path, "drawn", ["a_seg.png"])
    assert guess_places(tmp_path)
    for number in range(MOST_GUESSED):
        (tmp_path / f"empty{number}").mkdir()
    assert guess_places(tmp_path) == {}
