from __future__ import annotations

import numpy as np

from atrous.core.seeds import compute_epoch_order, sample_generator


def test_a_place_gives_the_same_numbers_whatever_ran_before():
    first = sample_generator(3, 1000).random(5)
    sample_generator(3, 999).random(100)
    np.random.default_rng().random(7)
    np.testing.assert_array_equal(sample_generator(3, 1000).random(5), first)


def test_places_and_seeds_differ():
    drawn = {tuple(sample_generator(seed, place).random(3)) for seed in range(4) for place in range(50)}
    assert len(drawn) == 200


def test_an_epoch_is_a_permutation_of_its_own():
    orders = [compute_epoch_order(0, epoch, 97) for epoch in range(3)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(97))
    assert not np.array_equal(orders[0], orders[1])
    np.testing.assert_array_equal(orders[0], compute_epoch_order(0, 0, 97))
