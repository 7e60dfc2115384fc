from __future__ import annotations

import pytest
import torch

from atrous.inference.contracts import Band
from atrous.inference.likeliest import find_likeliest


@pytest.mark.parametrize("num_classes", [1, 2, 21, 255, 256, 300])
def test_it_is_the_argmax_also_with_equal_scores(num_classes):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(
        -3, 4, (num_classes, 23, 31), generator=generator
    ).float()  # most pixels have several largest
    expected = scores.numpy().argmax(axis=0)  # the first of equal ones, as numpy promises
    assert (find_likeliest(scores).numpy() == expected).all()
    assert (find_likeliest(torch.randn(num_classes, 5, 7)) < num_classes).all()


def test_scores_that_are_no_numbers_give_a_class_all_the_same():
    found = find_likeliest(torch.full((3, 2, 2), float("nan")))
    assert (found < 3).all()


def test_confidence_and_probabilities_of_logits_are_those_of_their_softmax():
    logits = torch.randn(5, 6, 7) * 40
    band, averaged = Band(0, logits, are_logits=True), Band(0, logits.softmax(0), are_logits=False)
    torch.testing.assert_close(band.compute_probs(), logits.softmax(0))
    torch.testing.assert_close(band.compute_confidence(), logits.softmax(0).amax(0))
    torch.testing.assert_close(averaged.compute_confidence(), logits.softmax(0).amax(0))
