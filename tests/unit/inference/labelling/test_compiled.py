from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from atrous.core.load_compiled import load_compiled
from atrous.core.records import Protocol
from atrous.inference.labelling.likeliest import find_likeliest, name_last_stage
from atrous.inference.labelling.probabilities import iter_bands
from atrous.inference.labelling.source import ArrayImage
from atrous.networks.contracts import Cells, Geometry
from atrous.networks.layers.resize import enlarge_logits

pytest.importorskip("numba")
CPU = torch.device("cpu")
SIZES = [(1, 1), (1, 97), (101, 1), (2, 3), (33, 65), (131, 1303)]


class Given:
    """A backend that says what it was given."""

    device, aligned = CPU, True

    def __init__(self, logits: torch.Tensor, geometry: Geometry) -> None:
        self.num_classes, self.cells = logits.shape[1], Cells(logits, None, geometry)

    def __call__(self, images: torch.Tensor) -> Cells:
        return self.cells


def label(logits: torch.Tensor, geometry: Geometry) -> np.ndarray:
    image = ArrayImage(torch.zeros(3, geometry.height, geometry.width, dtype=torch.uint8))
    bands = list(iter_bands(Given(logits, geometry), image, Protocol()))
    return np.concatenate([band.indices for band in bands])


def describe(height: int, width: int, stride: int, *, aligned: bool) -> Geometry:
    return Geometry(height, width, height, width, stride, aligned)


def draw(geometry: Geometry, num_classes: int) -> torch.Tensor:
    """Logits of which some neighbours have one likeliest class, and some have not."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, num_classes, geometry.map_height, geometry.map_width, generator=generator)
    logits[:, 1, : geometry.map_height // 2, : geometry.map_width // 2] += 4
    return logits


@pytest.mark.parametrize("num_classes", [2, 21, 150, 300])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("stride", [2, 8])
@pytest.mark.parametrize("size", SIZES)
def test_labels_are_those_of_the_interpolated_scores(size, stride, aligned, num_classes):
    if num_classes * size[0] * size[1] > 10_000_000:
        size = 131, 203
    geometry = describe(*size, stride, aligned=aligned)
    logits = draw(geometry, num_classes)
    expected = enlarge_logits(logits, geometry)[0].numpy().argmax(axis=0)
    found = label(logits, geometry)
    assert found.shape == size
    assert (found != expected).mean() <= 1e-5


def test_the_first_of_equal_scores_is_taken():
    geometry = describe(17, 33, 8, aligned=True)
    assert (label(torch.zeros(1, 5, 3, 5), geometry) == 0).all()
    logits = torch.zeros(1, 5, 3, 5)
    logits[:, 2], logits[:, 3] = 1, 1
    assert (label(logits, geometry) == 2).all()


def test_half_precision_and_other_layouts_are_read():
    geometry = describe(65, 47, 8, aligned=True)
    logits = draw(geometry, 7).bfloat16().to(memory_format=torch.channels_last)
    assert (label(logits, geometry) == enlarge_logits(logits, geometry)[0].numpy().argmax(axis=0)).all()


def test_threads_share_the_rows_and_may_label_at_once(monkeypatch):
    geometry = describe(67, 131, 8, aligned=False)
    logits = draw(geometry, 21)
    alone = label(logits, geometry)
    monkeypatch.setattr("atrous.inference.labelling.compiled.SCORES_PER_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: label(logits, geometry), range(8)):
            assert (found == alone).all()


def test_confidence_follows_labels_that_were_found_without_scores():
    geometry = describe(65, 47, 8, aligned=True)
    logits = draw(geometry, 7)
    image = ArrayImage(torch.zeros(3, 65, 47, dtype=torch.uint8))
    [band] = iter_bands(Given(logits, geometry), image, Protocol())
    expected = enlarge_logits(logits, geometry)[0].softmax(dim=0)
    torch.testing.assert_close(band.compute_confidence(), expected.amax(dim=0))
    assert (find_likeliest(band.scores).numpy() == band.indices).all()


@pytest.fixture
def _no_numba(monkeypatch):
    """What Python says of a package that is not installed."""
    monkeypatch.setitem(sys.modules, "numba", None)
    load_compiled.cache_clear()
    yield
    load_compiled.cache_clear()


@pytest.mark.usefixtures("_no_numba")
def test_without_numba_labels_are_found_by_torch():
    assert name_last_stage(CPU) == "torch"
    geometry = describe(65, 47, 8, aligned=True)
    logits = draw(geometry, 7)
    assert (label(logits, geometry) == enlarge_logits(logits, geometry)[0].numpy().argmax(axis=0)).all()


def test_with_numba_only_a_cpu_uses_it():
    assert name_last_stage(CPU) == "numba"
    assert name_last_stage(torch.device("meta")) == "torch"
