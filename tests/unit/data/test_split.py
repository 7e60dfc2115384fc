from __future__ import annotations

import numpy as np
import pytest

from atrous.data.split import compute_stratified_split


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
