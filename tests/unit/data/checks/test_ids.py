from __future__ import annotations

import numpy as np

from atrous.core.findings import Finding
from atrous.core.labels import LabelSpace
from atrous.data.checks.survey import Survey, run_checks
from atrous.data.facts import DatasetFacts, ItemFacts
from atrous.data.facts_cache import MaskFacts, count_ids

TWO = LabelSpace(("background", "object"))


def describe(masks, space, name="mine train") -> DatasetFacts:
    items = [
        ItemFacts(f"{name}/{n}", None, None, None, MaskFacts(*count_ids(np.array(m)))) for n, m in enumerate(masks)
    ]
    return DatasetFacts(name, space, tuple(items))


def check(train, space, val=None, *, named=True) -> dict[str, Finding]:
    val_facts = describe(val, space, "mine val") if val else None
    findings = run_checks(Survey(train=describe(train, space), val=val_facts, are_classes_named=named))
    return {finding.code: finding for finding in findings}


def test_ids_outside_the_classes_have_every_file_value_count_and_fix():
    finding = check([[[0, 1], [1, 1]], [[0, 7], [7, 1]], [[200, 1], [1, 1]]], LabelSpace(("road", "car")))["unknown-id"]
    assert (finding.severity, finding.count) == ("error", 2)
    assert "2 masks with ids outside the classes" in finding.message
    assert "mine train/1: 7 (2 pixels)" in finding.message
    assert "mine train/2: 200 (1 pixel)" in finding.message
    assert finding.files == ("mine train/1", "mine train/2")
    assert "Name 7, 200 in data.classes, or put them into data.ignore" in finding.fix
    assert "0 road, 1 car" in finding.fix


def test_a_named_class_without_a_valid_pixel_is_an_error_with_its_name():
    space = LabelSpace(("road", "car", "tree"), ids=(0, 3, 5))
    found = check([[[0, 5]], [[0, 255]]], space)
    finding = found["named-class-empty"]
    assert finding.severity == "error"
    assert finding.message == "mine train: no valid pixel of 'car' (id 3) in 2 masks"
    assert "road, tree" in finding.fix
    assert "named-class-empty" not in check([[[0, 5]]], space, named=False)
    assert "255 (1 pixel)" in found["ignored-ids"].message


def test_an_object_saved_as_the_ignored_255_has_the_line_to_write():
    finding = check([[[0, 255]], [[0, 0]]], TWO)["named-class-empty"]
    assert "only 0 and 255, and 255 is ignored" in finding.message
    assert "label_map: {255: 1}, classes: [background, object];" in finding.fix


def test_an_object_saved_as_255_that_is_not_ignored_has_the_line_too():
    finding = check([[[0, 255]]], LabelSpace(("background", "object"), ignored_ids=()))["named-class-empty"]
    assert finding.settings == {"label_map": {255: 1}}
    assert finding.message.endswith("the masks hold only 0 and 255")
    assert "label_map: {255: 1}, classes: [background, object];" in finding.fix


def test_two_values_without_names_have_the_line_too():
    for ignored in ((255,), ()):
        ids = [number for number in (0, 255) if number not in ignored]
        space = LabelSpace(tuple(map(str, ids)), tuple(ids), ignored_ids=ignored)
        found = check([[[0, 255]]], space, named=False)
        assert {code for code, finding in found.items() if finding.severity == "error"} == {"binary-255"}
        assert found["binary-255"].message.startswith("the masks hold only the ids 0 and 255")
        assert ("255 is ignored" in found["binary-255"].message) == bool(ignored)
        assert "label_map: {255: 1}, classes: [background, object]" in found["binary-255"].fix
    assert "binary-255" not in check([[[0, 255]]], TWO)


def test_few_pixels_between_0_and_255_are_no_class():
    mask = np.repeat([0, 255], 200)[None].copy()
    mask[0, 0] = 127
    finding = check([mask], LabelSpace(("class 0", "class 127"), (0, 127)), named=False)["binary-255"]
    assert "127 (1 pixel)" in finding.message
    mask[0, :50] = 127
    assert "binary-255" not in check([mask], LabelSpace(("class 0", "class 127"), (0, 127)), named=False)


def test_one_class_is_an_error_unless_it_was_named():
    found = check([[[4, 255]]], LabelSpace(("class 4",), (4,)), named=False)
    assert found["single-class"].severity == "error"
    assert found["single-class"].message == "the masks hold only the ids 4 and 255, and 255 is ignored"
    assert check([[[4, 4]]], LabelSpace(("lake",), (4,)))["single-class"].severity == "warning"


def test_masks_without_a_labelled_pixel_are_an_error():
    found = check([[[255, 255]]], TWO)
    assert found["no-labelled-pixel"].severity == "error"
    assert "named-class-empty" not in found
    assert "only 255 (2 pixels)" in found["no-labelled-pixel"].message


def test_a_class_in_one_split_alone_is_a_warning_on_either_side():
    found = check([[[0, 0]]], TWO, val=[[[0, 1]]], named=False)["class-in-one-split-only"]
    assert found.severity == "warning"
    assert "'object' (id 1), which val holds: it cannot be learnt" in found.message
    found = check([[[0, 1]]], TWO, val=[[[0, 0]]])["class-in-one-split-only"]
    assert "mine val: no pixel of 'object' (id 1), which train holds" in found.message


def test_all_classes_present_is_silent():
    assert check([[[0, 1]]], TWO, val=[[[1, 0]]]) == {}


def test_numbered_objects_are_told_from_classes():
    numbered = [[[0, *range(1, 2 + number)]] for number in range(6)]
    space = LabelSpace(tuple(map(str, range(8))))
    finding = check(numbered, space, named=False)["instance-mask"]
    assert finding.severity == "error"
    assert "5 masks number objects from 1 in each mask, up to 6" in finding.message
    named = check(numbered, TWO)
    assert "unknown-id" not in named
    assert "instance-mask" in named
    assert "instance-mask" not in check(numbered, space)  # all of them are named classes
    assert "instance-mask" not in check([*numbered, [[0, 2]]], space, named=False)
    assert "instance-mask" not in check([[[0, 1, 2, 3]]] * 6, space, named=False)
