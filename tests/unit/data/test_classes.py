from __future__ import annotations

import pytest

from atrous.core.errors import ConfigError
from atrous.core.labels import LabelSpace
from atrous.data.classes import find_classes, name_classes, select_classes, suggest_mapping

ANIMALS = LabelSpace(("background", "cat", "dog"), ids=(0, 8, 12), ignored_ids=(255,))


def test_named_by_id_or_in_order():
    assert name_classes({5: "b", 0: "a"}, (255,)).ids == (0, 5)
    assert name_classes({5: "b", 0: "a"}, (255,)).names == ("a", "b")
    assert name_classes(("a", "b"), ()).ids == (0, 1)


def test_named_and_ignored_id_says_what_to_write():
    with pytest.raises(ConfigError, match="255 'object'") as caught:
        name_classes({0: "background", 255: "object"}, (254, 255))
    assert "ignore: [254]" in caught.value.hint


def test_found_ids_are_classes():
    space = find_classes([3, 0, 255, 3, 65535], (255,))
    assert space.ids == (0, 3)
    assert space.names == ("class 0", "class 3")
    assert space.ignored_ids == (255,)


@pytest.mark.parametrize("number", [-1, 65535, 10**6])
def test_a_number_that_can_be_no_id_is_no_class(number):
    assert find_classes([0, 1, number], (255,)).ids == (0, 1)


def test_mapping_is_suggested_for_0_and_one_high_id_only():
    assert "label_map: {128: 1}, classes: [background, object];" in suggest_mapping([0, 128], ())
    assert "object], ignore: [7];" in suggest_mapping([0, 255], (7, 255))
    assert "label_map: {65535: 1}" in suggest_mapping([0, 65535], (255,))
    assert suggest_mapping([0, 1], ()) == ""
    assert suggest_mapping([0, 1, 255], ()) == ""


def test_subset_turns_the_others_into_ignored_ids_and_says_so():
    space, notes = select_classes(ANIMALS, ("dog", "background"), (255,))
    assert space.names == ("background", "dog")
    assert space.ids == (0, 12)
    assert space.ignored_ids == (8, 255)
    assert space.colours == (ANIMALS.colours[0], ANIMALS.colours[2])
    assert "8 cat" in notes[0]


def test_subset_by_id_may_rename():
    space, _ = select_classes(ANIMALS, {0: "rest", 8: "kitten"}, ())
    assert space.names == ("rest", "kitten")


def test_classes_that_are_read_as_another_are_not_said_to_be_ignored():
    assert select_classes(ANIMALS, ("background", "dog"), (), {8: 12})[1] == []
    assert "8 cat" in select_classes(ANIMALS, ("background", "dog"), (), {8: 12, 7: 8})[1][0]


def test_all_classes_without_a_note():
    assert select_classes(ANIMALS, None, (255,)) == (ANIMALS, [])


def test_unregistered_names_and_ids_get_the_nearest():
    with pytest.raises(ConfigError, match="'dgo'") as caught:
        select_classes(ANIMALS, ("background", "dgo"), ())
    assert "Did you mean 'dog'" in caught.value.hint
    with pytest.raises(ConfigError, match="no id 3"):
        select_classes(ANIMALS, {3: "bird"}, ())
    with pytest.raises(ConfigError, match="leave no class"):
        select_classes(ANIMALS, ("dog",), (12,))
