from __future__ import annotations

import json
import re

import numpy as np
import pytest

from atrous.core.errors import DataError
from atrous.core.labels import IGNORE_INDEX, LabelSpace, build_palette

SPACE = LabelSpace(names=("road", "car", "sky"), ids=(7, 300, 0), ignored_ids=(255, 65535))


def test_encode_agrees_with_a_naive_loop_and_decode_undoes_it():
    generator = np.random.default_rng(0)
    mask = generator.choice(np.array([7, 300, 0, 255, 65535], dtype=np.uint16), size=(9, 11))
    expected = np.array(
        [[SPACE.ids.index(i) if i in SPACE.ids else IGNORE_INDEX for i in row] for row in mask.tolist()]
    )
    indices = SPACE.encode(mask)
    assert indices.dtype == np.uint16
    np.testing.assert_array_equal(indices, expected)
    valid = indices != IGNORE_INDEX
    np.testing.assert_array_equal(SPACE.decode(indices[valid]), mask[valid])


@pytest.mark.parametrize("num_classes", [2, 200, 253, 254, 256])
def test_masks_of_bytes_encode_as_wider_ones_do(num_classes):
    ids = tuple(np.random.default_rng(0).permutation(256)[:num_classes].tolist())
    space = LabelSpace(tuple(map(str, range(num_classes))), ids, ignored_ids=tuple({*range(256)} - {*ids, 7}))
    known = np.array([number for number in range(256) if number in (*ids, *space.ignored_ids)], np.uint8)
    mask = np.random.default_rng(1).choice(known, (50, 60))
    encoded = space.encode(mask)
    assert encoded.dtype == np.uint16
    np.testing.assert_array_equal(encoded, space.encode(mask.astype(np.uint16)))
    if 7 not in known:
        with pytest.raises(DataError, match=r"7 \(1 pixel\)"):
            space.encode(np.array([[7, known[0]]], np.uint8))


def test_an_image_in_place_of_a_mask_is_a_short_message():
    with pytest.raises(DataError) as caught:
        SPACE.encode(np.arange(256, dtype=np.uint8).reshape(16, 16))
    assert re.fullmatch(r"ids outside the classes: (\d+ \(1 pixel\), ){5}and 2\d\d more", caught.value.message)


def test_an_id_outside_the_classes_is_named_with_its_pixels():
    mask = np.array([[7, 9, 9], [255, 0, 12]], dtype=np.uint8)
    with pytest.raises(DataError) as caught:
        SPACE.encode(mask)
    assert caught.value.message == "ids outside the classes: 9 (2 pixels), 12 (1 pixel)"
    assert caught.value.hint == "Classes have the ids 0, 7, 300; ignored are 255, 65535."


def test_files_are_8_bit_only_where_every_id_fits():
    assert SPACE.decode(np.array([0])).dtype == np.uint16
    assert LabelSpace(names=("a", "b")).decode(np.array([1])).dtype == np.uint8


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"names": ("a", "b"), "ids": (1,)}, "2 class names but 1 ids"),
        ({"names": ("a", "a")}, "class name 'a' occurs twice"),
        ({"names": ("a", "b"), "ids": (4, 4)}, "class id 4 occurs twice"),
        ({"names": ("a", "b"), "ids": (0, 255)}, "id 255 is both the class 'b' and ignored"),
        ({"names": ("a",), "ids": (65535,), "ignored_ids": ()}, "class ids lie between 0 and 65534"),
    ],
)
def test_impossible_spaces_are_refused(fields, message):
    with pytest.raises(DataError) as caught:
        LabelSpace(**fields)
    assert caught.value.message == message


def test_json_gives_the_same_space():
    assert LabelSpace.from_json(json.loads(json.dumps(SPACE.to_json()))) == SPACE
    assert SPACE.index_of("sky") == 2
    assert SPACE.num_classes == 3


def test_a_palette_has_as_many_different_colours_as_asked_for():
    assert build_palette(0) == ()
    palette = build_palette(150)
    assert palette[0] == (0, 0, 0)
    assert len(set(palette)) == 150


@pytest.mark.parametrize(
    ("ids", "ignored", "void"),
    [
        ((0, 8, 12), (1, 2, 255), 255),  # a subset of VOC: 1 is aeroplane
        ((0, 8, 12), (1,), 255),
        ((0, 255), (), 254),
        ((0, 254, 255), (253,), 252),
        ((0, 300), (65535,), 255),
        (tuple(range(256)), (), 256),
        (tuple(range(1, 256)), (), 0),
    ],
)
def test_void_is_255_or_else_the_nearest_id_without_a_meaning(ids, ignored, void):
    space = LabelSpace(tuple(f"class {number}" for number in ids), ids=ids, ignored_ids=ignored)
    assert space.void_id == void
    is_void = np.array([[True, False]])
    labels = space.decode(np.array([[0, len(ids) - 1]]), is_void)
    assert labels.tolist() == [[void, ids[-1]]]
    assert labels.dtype == (np.uint16 if max(void, *ids) > 255 else np.uint8)
