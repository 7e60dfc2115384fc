from __future__ import annotations

import threading

import numpy as np
import pytest
from PIL import ExifTags, Image

from atrous.core.errors import DataError
from atrous.core.labels import LabelSpace
from atrous.data.inventory import Pair
from atrous.data.pairs import PairDataset
from atrous.data.statistics import compute_class_weights, find_empty_classes, iter_threads, require_classes, scan_masks


def build(tmp_path, masks, space, sizes=None) -> PairDataset:
    pairs = []
    for number, mask in enumerate(masks):
        image, path = tmp_path / f"{number}.jpg", tmp_path / f"{number}.png"
        Image.fromarray(np.asarray(mask, np.uint8)).save(path)
        Image.new("RGB", (sizes or {}).get(number, np.asarray(mask).shape[::-1])).save(image)
        pairs.append(Pair(str(number), image, path))
    return PairDataset("mine train", space, tuple(pairs))


def test_counts_agree_with_a_naive_loop(tmp_path):
    generator = np.random.default_rng(0)
    masks = [generator.choice([0, 4, 9, 255], (6, 7)) for _ in range(10)]
    dataset = build(tmp_path, masks, LabelSpace(("a", "b", "c"), ids=(0, 4, 9)))
    seen = []

    statistics = scan_masks(dataset, seen.append)

    for index, number in enumerate((0, 4, 9)):
        assert statistics.pixels[index] == sum(int((mask == number).sum()) for mask in masks)
        assert statistics.images[index] == sum(bool((mask == number).any()) for mask in masks)
        assert statistics.presence[:, index].tolist() == [bool((mask == number).any()) for mask in masks]
    assert statistics.ignored_pixels == sum(int((mask == 255).sum()) for mask in masks)
    assert statistics.num_masks == 10
    assert [progress.done for progress in seen] == list(range(1, 11))
    assert "255" in statistics.findings[0]


def test_ids_outside_the_classes_stop_with_every_file_value_count_and_fix(tmp_path):
    masks = [[[0, 1], [1, 1]], [[0, 7], [7, 1]], [[200, 1], [1, 1]]]
    dataset = build(tmp_path, masks, LabelSpace(("road", "car")))
    with pytest.raises(DataError) as caught:
        scan_masks(dataset)
    assert "2 masks hold ids outside the classes" in caught.value.message
    assert f"{tmp_path / '1.png'}: 7 (2 pixels)" in caught.value.message
    assert f"{tmp_path / '2.png'}: 200 (1 pixels)" in caught.value.message
    assert "Name 7, 200 in data.classes, or put them into data.ignore" in caught.value.hint
    assert "0 road, 1 car" in caught.value.hint


def test_broken_files_size_mismatches_and_strange_ids_come_in_one_message(tmp_path):
    masks = [[[0, 1]], [[0, 1]], [[0, 5]], [[0, 1]]]
    dataset = build(tmp_path, masks, LabelSpace(("road", "car")), sizes={1: (2, 2)})
    (tmp_path / "3.png").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        scan_masks(dataset)
    message = caught.value.message
    assert "1 files cannot be read" in message
    assert "3.png: an empty file" in message
    assert "1.jpg is 2x2 (height x width)" in message
    assert "5 (1 pixels)" in message
    assert "never resized" in caught.value.hint


def test_exif_rotations_are_counted_and_mismatches_explained(tmp_path):
    dataset = build(tmp_path, [np.zeros((4, 4)), np.zeros((4, 6))], LabelSpace(("road",)))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (4, 4)).save(tmp_path / "0.jpg", exif=exif)
    assert "1 images have an EXIF rotation" in scan_masks(dataset).findings[0]
    Image.new("RGB", (6, 4)).save(tmp_path / "1.jpg", exif=exif)
    with pytest.raises(DataError, match="drawn on the unrotated image"):
        scan_masks(dataset)


def test_a_changed_mask_is_read_again(tmp_path):
    dataset = build(tmp_path, [[[0, 1]]], LabelSpace(("road", "car")))
    assert scan_masks(dataset).pixels.tolist() == [1, 1]
    build(tmp_path, [[[0, 0, 1]]], LabelSpace(("road", "car")))
    assert scan_masks(dataset).pixels.tolist() == [2, 1]


def test_named_class_without_a_valid_pixel_stops_with_its_name(tmp_path):
    space = LabelSpace(("road", "car", "tree"), ids=(0, 3, 5))
    statistics = scan_masks(build(tmp_path, [[[0, 5]], [[0, 255]]], space))
    assert find_empty_classes(statistics, space) == ["'car' (id 3)"]
    with pytest.raises(DataError, match=r"mine train: no valid pixel of 'car' \(id 3\) in 2 masks") as caught:
        require_classes(statistics, space, "mine train")
    assert "road, tree" in caught.value.hint


def test_object_stored_as_the_ignored_255_stops_with_the_line_to_write(tmp_path):
    space = LabelSpace(("background", "object"))
    statistics = scan_masks(build(tmp_path, [[[0, 255]], [[0, 0]]], space))
    with pytest.raises(DataError, match="only 0 and 255, and 255 is ignored") as caught:
        require_classes(statistics, space, "mine train")
    assert "classes: {0: background, 255: object} and ignore: []" in caught.value.hint


def test_object_stored_as_255_that_is_not_ignored_stops_with_the_line_too(tmp_path):
    space = LabelSpace(("background", "object"), ignored_ids=())
    with pytest.raises(DataError, match=r"255 \(1 pixels\)") as caught:
        scan_masks(build(tmp_path, [[[0, 255]]], space))
    assert "classes: {0: background, 255: object}" in caught.value.hint


def test_all_classes_seen_is_silent(tmp_path):
    space = LabelSpace(("background", "object"))
    require_classes(scan_masks(build(tmp_path, [[[0, 1]]], space)), space, "mine")


def test_class_weights_by_hand():
    weights = compute_class_weights(np.array([64, 16, 4, 0]))
    raw = np.array([1.0, 2.0, 4.0, 10.0])  # 1 / sqrt of the shares 64 : 16 : 4, and the cap
    np.testing.assert_allclose(weights, raw / raw.mean())
    assert np.mean(weights) == pytest.approx(1.0)


def test_threads_keep_order_and_hand_errors_over():
    def work(number: int) -> int:
        if number == 3:
            raise DataError("three")
        return number * number

    results = list(iter_threads(work, range(6), "counting"))
    assert [str(item) for item in results] == ["0", "1", "4", "three", "16", "25"]
    assert threading.active_count() < 20
