from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from atrous.config.schema import ModelConfig
from atrous.core.errors import OutputError
from atrous.core.records import Protocol
from atrous.inference.contracts import Backend
from atrous.inference.engine import Engine
from atrous.inference.labelling.probabilities import iter_bands
from atrous.inference.labelling.source import ArrayImage
from atrous.networks.build import build_network
from atrous.networks.contracts import Cells, Geometry
from atrous.networks.layers.resize import enlarge_logits, scale_image
from atrous.networks.segmenter import Segmenter

NUM_CLASSES = 5


def build(name: str = "fcn-resnet18", **options: object) -> Segmenter:
    torch.manual_seed(0)
    return build_network(ModelConfig(name=name, weights="none", **options), NUM_CLASSES).eval()


@pytest.fixture(scope="module")
def network() -> Segmenter:
    return build()


def wrap(network: Segmenter, protocol: Protocol) -> Backend:
    return Engine(network, device="cpu").open_backend(protocol.output_stride, protocol.precision)


def compute_probs(network: Segmenter, image: Tensor, protocol: Protocol) -> Tensor:
    bands = iter_bands(wrap(network, protocol), ArrayImage(image), protocol)
    return torch.cat([band.compute_probs() for band in bands], dim=1)


def set_band_rows(monkeypatch: pytest.MonkeyPatch, rows: int, width: int) -> None:
    monkeypatch.setattr("atrous.networks.layers.resize.CPU_BAND_BYTES", rows * width * NUM_CLASSES * 4)


def draw_image(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 7, 9, generator=generator)
    smooth = F.interpolate(coarse, size=(height, width), mode="bilinear")[0]
    noise = torch.rand(3, height, width, generator=generator)
    return ((smooth * 0.7 + noise * 0.3) * 255).round().to(torch.uint8)


@pytest.mark.parametrize("resize", ["aligned", "half_pixel"])
def test_one_scale_of_a_whole_image_is_the_softmax_of_forward(resize: str) -> None:
    network, image = build(resize=resize), draw_image(70, 101)
    with torch.no_grad():
        logits = network(image[None])
    probs = compute_probs(network, image, Protocol())
    assert logits.min() < 0  # the network gives logits, and softmax is applied once, here
    torch.testing.assert_close(probs, logits.softmax(dim=1)[0])
    torch.testing.assert_close(probs.sum(dim=0), torch.ones(70, 101))


def test_bands_equal_the_whole(network: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    image = draw_image(83, 61)
    protocol = Protocol(scales=(0.75, 1.0, 1.5), flip=True)
    whole = compute_probs(network, image, protocol)
    for rows in (1, 7, 82):
        set_band_rows(monkeypatch, rows, 61)
        banded = compute_probs(network, image, protocol)
        torch.testing.assert_close(banded, whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize("protocol", [Protocol(), Protocol(scales=(0.75, 1.0))], ids=["one view", "averaged"])
@pytest.mark.parametrize("computed", [False, True], ids=["first", "after the scores"])
def test_sampled_pixels_are_those_of_the_whole(
    network: Segmenter, protocol: Protocol, computed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = draw_image(83, 61)
    log_probs = compute_probs(network, image, protocol).log()
    set_band_rows(monkeypatch, 7, 61)
    for step in (1, 2, 3, 9):  # of the last one some bands hold no row
        sampled = []
        for band in iter_bands(wrap(network, protocol), ArrayImage(image), protocol):
            if computed:
                band.compute_confidence()
            sampled.append(band.sample_log_probs(step)[0])
        torch.testing.assert_close(torch.cat(sampled, dim=1), log_probs[:, ::step, ::step], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("window", [None, 65])
def test_full_size_logits_never_exist(network: Segmenter, window: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Largest(TorchDispatchMode):
        numel = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            sizes = [
                t.numel() for t in tree_leaves(result) if isinstance(t, Tensor) and t.shape[-3:-2] == (NUM_CLASSES,)
            ]
            self.numel = max([self.numel, *sizes])
            return result

    image = draw_image(200, 150)
    protocol = Protocol(window=window)
    set_band_rows(monkeypatch, 10, window or 150)
    with Largest() as largest:
        for _ in iter_bands(wrap(network, protocol), ArrayImage(image), protocol):
            pass
    stretched = network.geometry(200, 150).map_height  # rows of the map that is kept, as wide as the image
    assert 0 < largest.numel <= NUM_CLASSES * 150 * max(10, stretched)


def test_scales_and_flip_average_probabilities_not_logits(network: Segmenter) -> None:
    image = draw_image(66, 90)
    scales = (0.5, 1.0, 1.75)
    floats = image[None] / 255
    probs, logits = [], []
    with torch.no_grad():
        for scale in scales:
            copy = scale_image(floats, scale, aligned=True)
            for mirrored in (False, True):
                cells = network.forward_cells(copy.flip(-1) if mirrored else copy)
                enlarged = enlarge_logits(cells.logits, cells.geometry, size=(66, 90))[0]
                enlarged = enlarged.flip(-1) if mirrored else enlarged
                logits.append(enlarged)
                probs.append(enlarged.softmax(dim=0))
    found = compute_probs(network, image, Protocol(scales=scales, flip=True))
    torch.testing.assert_close(found, torch.stack(probs).mean(dim=0), atol=1e-5, rtol=1e-4)
    wrong = torch.stack(logits).mean(dim=0).softmax(dim=0)
    assert (found - wrong).abs().max() > 1e-3


@pytest.mark.parametrize("window", [None, 65])
def test_the_mirrored_image_has_the_mirrored_probabilities(network: Segmenter, window: int | None) -> None:
    image = draw_image(60, 91)
    protocol = Protocol(scales=(1.0, 1.25), flip=True, window=window)
    straight = compute_probs(network, image, protocol)
    mirrored = compute_probs(network, image.flip(-1), protocol).flip(-1)
    torch.testing.assert_close(mirrored, straight, atol=1e-5, rtol=1e-4)
    one_way = Protocol(scales=(1.0, 1.25), window=window)
    difference = compute_probs(network, image, one_way) - compute_probs(network, image.flip(-1), one_way).flip(-1)
    assert difference.abs().max() > 1e-2  # without the mirror image it is not so


def test_windows_equal_a_blend_of_crops_made_by_hand(network: Segmenter) -> None:
    image = draw_image(50, 100)
    found = compute_probs(network, image, Protocol(window=65))
    bell = torch.sin(torch.pi * (torch.arange(65) + 0.5) / 65) ** 2
    total, summed = torch.zeros(100), torch.zeros(NUM_CLASSES, 50, 100)
    with torch.no_grad():
        for left in (0, 35):
            summed[..., left : left + 65] += network(image[None, ..., left : left + 65]).softmax(dim=1)[0] * bell
            total[left : left + 65] += bell
    torch.testing.assert_close(found, summed / total, atol=1e-6, rtol=1e-5)


def test_windows_are_computed_once_and_only_when_needed(network: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    set_band_rows(monkeypatch, 1, 60)
    protocol = Protocol(window=65)
    backend = wrap(network, protocol)
    seen: list[tuple[int, ...]] = []

    class Counting:
        num_classes, device, aligned = backend.num_classes, backend.device, backend.aligned
        measure_bytes_per_pixel: Callable[[], float] = backend.measure_bytes_per_pixel

        def __call__(self, images: Tensor):
            seen.append(tuple(images.shape))
            return backend(images)

    bands = iter_bands(Counting(), ArrayImage(draw_image(150, 60)), protocol)
    assert seen == []
    next(bands)
    assert len(seen) == 1
    assert sum(1 for _ in bands) == 149
    assert seen == [(1, 3, 65, 60)] * 3


def test_a_constant_image_has_no_seam(network: Segmenter) -> None:
    image = torch.full((3, 129, 161), 127, dtype=torch.uint8)
    probs = compute_probs(network, image, Protocol(window=97))
    steps = (probs[:, 64, 1:] - probs[:, 64, :-1]).abs().max()
    crop = compute_probs(network, image[:, :97, :97], Protocol())
    assert steps <= 2 * (crop[:, 48, 1:] - crop[:, 48, :-1]).abs().max() + 0.02


def test_floats_and_bytes_agree(network: Segmenter) -> None:
    image = draw_image(40, 50)
    protocol = Protocol(scales=(1.0, 1.5))
    torch.testing.assert_close(
        compute_probs(network, image / 255, protocol), compute_probs(network, image, protocol), atol=1e-5, rtol=1e-4
    )


def test_bf16_is_near_fp32_and_gives_float32(network: Segmenter) -> None:
    image = draw_image(40, 50)
    low = compute_probs(network, image, Protocol(precision="bf16"))
    assert low.dtype == torch.float32
    difference = (low - compute_probs(network, image, Protocol())).abs().max()
    assert 0 < difference < 0.05


def test_labels_of_windows_mostly_equal_those_of_the_whole(network: Segmenter) -> None:
    image = draw_image(160, 200)
    whole = compute_probs(network, image, Protocol()).argmax(dim=0)
    windows = compute_probs(network, image, Protocol(window=129)).argmax(dim=0)
    assert np.mean((whole == windows).numpy()) > 0.8


class Broken:
    """A backend with one logit that is not finite."""

    device, aligned, num_classes = torch.device("cpu"), True, NUM_CLASSES

    def __init__(self, number: float, place: tuple[int, ...], *, stride: int = 8, dtype: torch.dtype = torch.float32):
        self.number, self.place, self.stride, self.dtype = number, place, stride, dtype

    def __call__(self, images: Tensor) -> Cells:
        height, width = images.shape[2:]
        geometry = Geometry(height, width, height, width, self.stride, self.aligned)
        logits = torch.zeros(1, NUM_CLASSES, geometry.map_height, geometry.map_width, dtype=self.dtype)
        logits[self.place] = self.number
        return Cells(logits, None, geometry)


@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize(
    ("options", "protocol"),
    [
        ({}, {}),
        ({"stride": 1}, {}),
        ({"dtype": torch.bfloat16}, {}),
        ({"dtype": torch.float64}, {}),
        ({}, {"scales": (1.0, 0.5)}),
        ({}, {"flip": True}),
        ({}, {"window": 33}),
    ],
    ids=str,
)
def test_a_single_logit_that_is_not_finite_is_refused(number: float, options: dict, protocol: dict) -> None:
    image = ArrayImage(torch.zeros(3, 50, 70, dtype=torch.uint8))
    for place in ((0, 0, 0, 0), (0, NUM_CLASSES - 1, -1, -1)):
        with pytest.raises(OutputError, match="not finite"):
            list(iter_bands(Broken(number, place, **options), image, Protocol(**protocol)))


def test_large_finite_logits_are_labelled() -> None:
    image = ArrayImage(torch.zeros(3, 50, 70, dtype=torch.uint8))
    backend = Broken(3e38, (0, 2, slice(None), slice(None)))
    assert all((band.scores.argmax(dim=0) == 2).all() for band in iter_bands(backend, image, Protocol()))
