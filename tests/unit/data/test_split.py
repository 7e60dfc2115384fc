from __future__ import annotations

import re

import numpy as np
import pytest

from atrous.data.split import compute_stratified_split, find_group, join_groups


@pytest.mark.parametrize("seed", range(5))
def test_every_class_is_held_out_in_proportion_and_left_in_training(seed):
    generator = np.random.default_rng(seed)
    contents = [{0} | {number for number in (1, 2, 3) if generator.random() < 0.6 / number} for _ in range(200)]
    alone = range(10, 30)
    for index in alone:
        contents[index] = {0, 100 + index}  # the only image with its class

    held_out = compute_stratified_split(contents, 0.2, seed)

    assert abs(len(held_out) - 40) <= 1
    assert held_out == sorted(set(held_out))
    assert not set(held_out) & set(alone)
    for number in (1, 2, 3):
        total = sum(number in ids for ids in contents)
        assert abs(sum(number in contents[index] for index in held_out) - 0.2 * total) <= 0.06 * total + 3


def test_it_is_a_function_of_the_seed():
    contents = [{index % 3} for index in range(30)]
    assert compute_stratified_split(contents, 0.2, 3) == compute_stratified_split(contents, 0.2, 3)
    assert compute_stratified_split(contents, 0.2, 3) != compute_stratified_split(contents, 0.2, 4)


@pytest.mark.parametrize("count", [2, 3, 7])
def test_few_images_still_give_one_to_score(count):
    assert len(compute_stratified_split([{0, 1}] * count, 0.2, 0)) == 1


def test_fraction_0_holds_out_nothing():
    assert compute_stratified_split([{0}] * 9, 0.0, 0) == []


def test_images_without_a_class_are_no_trouble():
    assert len(compute_stratified_split([set()] * 10, 0.2, 0)) == 2


@pytest.mark.parametrize("seed", range(3))
def test_groups_stay_on_one_side_in_proportion(seed):
    """Each of 40 groups, of 1 to 6 images, is held out as a whole or not at all."""
    generator = np.random.default_rng(seed)
    groups = [f"scene {number}" for number in range(40) for _ in range(int(generator.integers(1, 7)))]
    contents = [{0, int(generator.integers(1, 4))} for _ in groups]
    held_out = set(compute_stratified_split(contents, 0.2, seed, groups))
    for name in set(groups):
        assert len({index in held_out for index, group in enumerate(groups) if group == name}) == 1
    assert abs(len(held_out) - 0.2 * len(groups)) <= 6


def test_groups_of_one_image_are_no_groups():
    contents = [{0} | {index % 7} for index in range(60)]
    assert compute_stratified_split(contents, 0.3, 5, list(range(60))) == compute_stratified_split(contents, 0.3, 5)


def test_a_group_is_what_the_expression_finds_behind_the_split():
    expression = re.compile("^(.+?)_")
    assert find_group(expression, "a_1") == find_group(expression, "train/a_2", {"train"}) == "a"
    assert find_group(expression, "old/a_1") == "old/a"
    assert find_group(expression, "train/1", {"train"}) is None


def test_groups_are_joined_by_names_and_by_copies():
    groups = join_groups(["a", "b", None, "a", None, "c"], [None, "x", "x", None, None, "x"])
    assert [groups[0] == group for group in groups] == [True, False, False, True, False, False]
    assert groups[1] == groups[2] == groups[5] != groups[4]
