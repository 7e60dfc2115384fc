from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from annotated import save_image
from atrous.core.errors import MachineError, UsageError
from atrous.core.labels import LabelSpace
from atrous.data.writing import describe_settings, open_folder_writer

SPACE = LabelSpace(("background", "cat"), (0, 7))
MASK = np.array([[0, 7], [7, 255]], np.uint8)


def test_images_keep_their_bytes_and_masks_hold_ids_with_colours(tmp_path):
    image = save_image(tmp_path / "photo.jpg")
    with open_folder_writer(tmp_path / "out", SPACE) as writer:
        writer.write("a/photo", image, ".jpg", MASK)
        writer.write("other", b"bytes", ".png", MASK)
        writer.write_settings(SPACE, "From a test.")
    assert (tmp_path / "out" / "images" / "a" / "photo.jpg").read_bytes() == image.read_bytes()
    assert (tmp_path / "out" / "images" / "a" / "photo.jpg").stat().st_nlink == 1
    assert (tmp_path / "out" / "images" / "other.png").read_bytes() == b"bytes"
    with Image.open(tmp_path / "out" / "masks" / "a" / "photo.png") as mask:
        assert mask.mode == "P"
        assert (np.array(mask) == MASK).all()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["atrous.yaml", "images", "masks"]


@pytest.mark.parametrize("name", ["plain", 'a "quoted" one', "no", "null", "a: b # c", "ü", "1e3", "\x1b", "\u2028"])
def test_any_name_of_a_class_comes_back(name):
    read = YAML(typ="safe").load(describe_settings(LabelSpace(("background", name)), "From a test."))
    assert read == {"data": {"classes": {0: "background", 1: name}, "ignore": [255]}}


def test_a_folder_that_is_not_empty_is_refused(tmp_path):
    (tmp_path / "mine").touch()
    with pytest.raises(UsageError, match="not empty"), open_folder_writer(tmp_path, SPACE):
        pass


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_leaves_no_half_written_file(tmp_path):
    with pytest.raises(MachineError), open_folder_writer(tmp_path / "out", SPACE) as writer:
        writer.write("a", bytes(2**16), ".png", MASK)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").rglob("a.png"))
