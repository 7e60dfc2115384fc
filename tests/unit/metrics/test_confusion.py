from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, jaccard_score, precision_score, recall_score

from atrous.core.errors import DataError
from atrous.core.labels import IGNORE_INDEX
from atrous.metrics import confusion
from atrous.metrics.confusion import (
    ConfusionMatrix,
    compute_baseline,
    compute_iou,
    compute_miou,
    compute_pixel_accuracy,
    compute_precision,
    compute_recall,
    find_never_predicted,
)


def draw_maps(seed: int, num_classes: int = 6, absent: tuple[int, ...] = (2,)) -> tuple[np.ndarray, np.ndarray]:
    """Truth with ignored pixels, and a prediction that is right about half of the time; some classes in neither."""
    generator = np.random.default_rng(seed)
    present = [index for index in range(num_classes) if index not in absent]
    truth = generator.choice(present, (8, 13, 17)).astype(np.uint16)
    prediction = np.where(generator.random(truth.shape) < 0.5, truth, generator.choice(present, truth.shape))
    truth[generator.random(truth.shape) < 0.2] = IGNORE_INDEX
    return truth, prediction.astype(np.uint16)


def count(truth: object, prediction: object, num_classes: int = 6) -> np.ndarray:
    matrix = ConfusionMatrix(num_classes)
    matrix.update(truth, prediction)
    return matrix.counts


@pytest.mark.parametrize(("seed", "absent"), [(0, ()), (1, (2,)), (2, (0, 5)), (3, (1, 2, 3))])
def test_counts_and_ratios_equal_scikit_learn(seed: int, absent: tuple[int, ...]) -> None:
    truth, prediction = draw_maps(seed, absent=absent)
    counts = count(truth, prediction)
    valid = truth != IGNORE_INDEX
    true, given_ = truth[valid], prediction[valid]
    np.testing.assert_array_equal(counts, confusion_matrix(true, given_, labels=range(6)))
    present = [index for index in range(6) if index not in absent]
    for compute, reference in (
        (compute_iou, jaccard_score),
        (compute_recall, recall_score),
        (compute_precision, precision_score),
    ):
        values = compute(counts)
        np.testing.assert_allclose(values[present], reference(true, given_, labels=present, average=None), rtol=1e-12)
        assert np.isnan(values[list(absent)]).all()
    assert compute_miou(counts) == pytest.approx(jaccard_score(true, given_, labels=present, average="macro"))
    assert compute_pixel_accuracy(counts) == pytest.approx((true == given_).mean())


def test_batches_of_one_and_of_eight_give_the_same_miou_exactly() -> None:
    truth, prediction = draw_maps(5)
    one_by_one = ConfusionMatrix(6)
    for true, given_ in zip(truth, prediction, strict=True):
        one_by_one.update(true, given_)
    at_once = count(truth, prediction)
    np.testing.assert_array_equal(one_by_one.counts, at_once)
    assert compute_miou(one_by_one.counts) == compute_miou(at_once)
    mean_of_images = np.mean([compute_miou(count(t, p)) for t, p in zip(truth, prediction, strict=True)])
    assert abs(mean_of_images - compute_miou(at_once)) > 1e-4  # the usual mistake gives another number


def test_a_class_in_neither_leaves_the_mean() -> None:
    counts = count([0, 0, 1, 1], [0, 0, 1, 0], num_classes=3)
    np.testing.assert_allclose(compute_iou(counts), [2 / 3, 1 / 2, np.nan])
    assert compute_miou(counts) == pytest.approx((2 / 3 + 1 / 2) / 2)  # not divided by 3, and no 0 or 1 for class 2


def test_a_class_only_predicted_or_only_true_counts_as_0() -> None:
    counts = count([0, 0, 1], [0, 2, 0], num_classes=4)
    np.testing.assert_allclose(compute_iou(counts), [1 / 3, 0, 0, np.nan])
    np.testing.assert_allclose(compute_recall(counts), [1 / 2, 0, np.nan, np.nan])
    np.testing.assert_allclose(compute_precision(counts), [1 / 2, np.nan, 0, np.nan])
    assert compute_miou(counts) == pytest.approx(1 / 9)


def test_ignored_pixels_leave_rows_and_columns() -> None:
    counts = count([0, IGNORE_INDEX, IGNORE_INDEX, 1], [0, 0, 1, 1], num_classes=2)
    np.testing.assert_array_equal(counts, [[1, 0], [0, 1]])
    assert compute_miou(counts) == 1.0


def test_all_ignored_has_no_score_and_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        counts = count([IGNORE_INDEX] * 3, [0, 1, 1], num_classes=2)
        assert compute_miou(counts) is None
        assert compute_pixel_accuracy(counts) is None
        assert compute_baseline(counts) == (0, None)
        assert find_never_predicted(counts) == []


def test_the_baseline_is_the_score_of_answering_with_the_commonest_class() -> None:
    truth, _ = draw_maps(7, absent=(4,))
    truth[truth == 1] = 3
    counts = count(truth, np.zeros_like(truth))
    commonest, miou = compute_baseline(counts)
    assert commonest == 3
    assert miou == pytest.approx(compute_miou(count(truth, np.full_like(truth, 3))))


def test_classes_never_predicted_are_found() -> None:
    counts = count([0, 0, 1, 2], [0, 0, 0, 2], num_classes=4)
    assert find_never_predicted(counts) == [1]


def test_tensors_and_empty_arrays_are_taken() -> None:
    truth, prediction = draw_maps(8)
    tensors = torch.from_numpy(truth.astype(np.int64)), torch.from_numpy(prediction.astype(np.int64))
    np.testing.assert_array_equal(count(*tensors), count(truth, prediction))
    assert count(np.zeros((0, 3), np.uint16), np.zeros((0, 3), np.uint16)).sum() == 0


@pytest.mark.parametrize(
    ("truth", "prediction", "words"),
    [([0, 2], [0, 1], "truth"), ([0, 1], [0, 2], "prediction"), ([0, -1], [0, 1], "truth"), ([0], [0, 1], "shape")],
)
def test_values_that_are_no_class_are_refused(truth: list[int], prediction: list[int], words: str) -> None:
    with pytest.raises(DataError, match=words):
        count(truth, prediction, num_classes=2)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0, 1, 2, 3, IGNORE_INDEX]), st.integers(0, 3)), max_size=60), st.data())
def test_counts_add_however_the_pixels_are_cut(pixels: list[tuple[int, int]], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(pixels)))
    parts = []
    for part in (pixels[:cut], pixels[cut:]):
        matrix = ConfusionMatrix(4)
        matrix.update([true for true, _ in part], [given_ for _, given_ in part])
        parts.append(matrix)
    whole = count([true for true, _ in pixels], [given_ for _, given_ in pixels], num_classes=4)
    before = parts[1].counts.copy()
    parts[0].merge(parts[1])
    np.testing.assert_array_equal(parts[0].counts, whole)
    np.testing.assert_array_equal(parts[1].counts, before)
    assert whole.sum() == sum(true != IGNORE_INDEX for true, _ in pixels)


@pytest.mark.parametrize("kind", ["uint16", "int32", "int64"])
def test_counts_are_the_same_compiled_and_not(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 19, (70, 1001)).astype(kind)
    given = generator.integers(0, 19, truth.shape).astype(kind)
    truth[:9], given[:5] = IGNORE_INDEX, 77
    wrong = given.copy()
    wrong[50, 3] = 19
    found = []
    for load in (confusion.load_compiled, lambda place: None):
        monkeypatch.setattr(confusion, "load_compiled", load)
        matrix = ConfusionMatrix(19)
        with pytest.raises(DataError, match="the prediction contains the indices 0 to 19"):
            matrix.update(truth, wrong)
        assert not matrix.counts.any()
        matrix.update(truth, given)
        found.append(matrix.counts)
    np.testing.assert_array_equal(found[0], found[1])
    assert found[0].sum() == 61 * 1001
