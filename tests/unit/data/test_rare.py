from __future__ import annotations

import numpy as np
import pytest

from atrous.core.labels import IGNORE_INDEX, LabelSpace
from atrous.core.records import Sample
from atrous.data.augment.pipeline import Augmentation
from atrous.data.rare import RareDraw, describe_seen, plan_rare_crops
from atrous.data.sampling import Stream
from atrous.data.statistics import MaskStatistics, compute_class_weights

PIXELS = np.array([90_000, 9_000, 1_000, 0])
PRESENCE = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0]], dtype=bool)
STATISTICS = MaskStatistics(PIXELS, PRESENCE, {}, 4, 100)


def test_classes_are_drawn_by_their_weights_and_images_among_those_that_hold_them():
    rule = plan_rare_crops(0.4, STATISTICS)
    drawn = [draw for place in range(4000) if (draw := rule.draw(7, place)) is not None]
    assert len(drawn) == pytest.approx(1600, abs=120)
    weights = np.array(compute_class_weights(PIXELS))[:3]
    counts = np.bincount([draw.class_index for draw in drawn], minlength=4)
    np.testing.assert_allclose(counts / len(drawn), [*weights / weights.sum(), 0], atol=0.04)
    assert all(PRESENCE[draw.index, draw.class_index] for draw in drawn)
    assert {draw.index for draw in drawn if draw.class_index == 1} == {1, 2}
    assert 0.45 < np.mean([draw.fraction for draw in drawn]) < 0.55  # of any pixel, whatever the share


def test_a_draw_is_a_function_of_seed_and_place():
    rule = plan_rare_crops(1.0, STATISTICS)
    assert [rule.draw(7, place) for place in range(20)] == [rule.draw(7, place) for place in range(20)]
    assert [rule.draw(7, place) for place in range(20)] != [rule.draw(8, place) for place in range(20)]


def test_a_larger_share_keeps_the_draws_of_a_smaller_one():
    few, many = plan_rare_crops(0.2, STATISTICS), plan_rare_crops(0.7, STATISTICS)
    for place in range(200):
        draw = few.draw(0, place)
        assert draw is None or draw == many.draw(0, place)


def test_no_share_and_no_class_are_no_rule():
    assert plan_rare_crops(0.0, STATISTICS) is None
    empty = MaskStatistics(np.zeros(4, np.int64), np.zeros((4, 4), bool), {}, 4, 100)
    assert plan_rare_crops(0.5, empty) is None


def test_the_centre_is_a_pixel_of_the_class():
    labels = np.random.default_rng(0).integers(0, 3, (7, 9)).astype(np.uint16)
    places = np.argwhere(labels == 2).tolist()
    found = {RareDraw(0, 2, fraction).find_centre(labels) for fraction in np.linspace(0, 0.9999, 400)}
    assert found == set(map(tuple, places))
    assert RareDraw(0, 5, 0.5).find_centre(labels) is None


class Dotted:
    """Large images of class 0, and a single pixel of class 1 in the last one."""

    name, label_space = "dotted", LabelSpace(("a", "b"))

    def __len__(self) -> int:
        return 3

    def key(self, index: int) -> str:
        return str(index)

    def get(self, index: int) -> Sample:
        labels = np.zeros((90, 80), np.uint16)
        if index == 2:
            labels[70, 5] = 1
        return Sample(self.key(index), np.zeros((90, 80, 3), np.uint8), labels)


def test_crops_of_a_stream_show_the_class_that_was_drawn():
    statistics = MaskStatistics(np.array([21_599, 1]), np.array([[1, 0], [1, 0], [1, 1]], bool), {}, 3, 90)
    rule = plan_rare_crops(1.0, statistics)
    augmentation = Augmentation(crop=21, scale_range=(1.0, 2.0), flip_vertical=True, quarter_turns=True)
    stream = Stream(Dotted(), augmentation, 3, rare_crops=rule)
    plain = Stream(Dotted(), augmentation, 3)
    is_shown = [(stream.sample(place).labels == 1).any() for place in range(60)]
    assert is_shown == [rule.draw(3, place).class_index == 1 for place in range(60)]
    assert sum(is_shown) > 40
    assert sum((plain.sample(place).labels == 1).any() for place in range(60)) < 10
    assert (stream.sample(0).labels != IGNORE_INDEX).all()


def test_what_was_seen_is_compared_with_the_masks():
    text = describe_seen(np.array([60, 30, 10, 0]), PIXELS, ["sky", "road", "pole", "never"])
    assert text == (
        "share of the labelled pixels in the crops: pole 10.00% (1.00% in the masks), road 30.00% (9.00% in the "
        "masks), sky 60.00% (90.00% in the masks)"
    )
