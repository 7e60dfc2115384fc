from __future__ import annotations

import pytest
import torch

from atrous.inference.contracts import Band
from atrous.inference.labelling import likeliest
from atrous.inference.labelling.likeliest import find_likeliest, label_cells
from atrous.networks.contracts import Geometry
from atrous.networks.layers.resize import enlarge_logits


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


@pytest.mark.parametrize("num_classes", [2, 21, 150, 300])
@pytest.mark.parametrize("size", [(1, 1), (1, 97), (101, 1), (2, 3), (33, 65), (131, 203)])
@pytest.mark.parametrize("stride", [2, 8, 16])
def test_cells_give_the_labels_of_the_interpolated_scores(stride, size, num_classes, monkeypatch):
    monkeypatch.setattr(likeliest, "CPU_BAND_BYTES", 2**17)
    geometry = Geometry(*size, *size, stride, aligned=True)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, num_classes, geometry.map_height, geometry.map_width, generator=generator)
    logits[:, 1, : geometry.map_height // 2] += 4  # some neighbours have one likeliest class
    expected = enlarge_logits(logits, geometry)[0].argmax(dim=0)
    found = label_cells(logits[0], stride)[: size[0], : size[1]]
    assert found.shape == size
    assert (found != expected).float().mean() <= 1e-5


def test_between_cells_of_one_class_nothing_is_interpolated(monkeypatch):
    asked = []
    find = likeliest.find_likeliest
    monkeypatch.setattr(likeliest, "find_likeliest", lambda scores: asked.append(scores.shape) or find(scores))
    logits = torch.zeros(3, 9, 9)
    logits[0, :, :3], logits[1, :, 3:] = 1, 1
    assert (label_cells(logits, 8)[:65, :16] == 0).all()
    assert asked == [(3, 10, 10), (3, 64, 9)]  # the cells, and the one column of them where classes meet
