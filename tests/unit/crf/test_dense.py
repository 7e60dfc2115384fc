from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from atrous.core.errors import ConfigError, UsageError
from atrous.crf.dense import DenseCRF
from atrous.crf.lattice import PermutohedralLattice

# Marginals (4, 24, 18) that pydensecrf2 1.1 gives after 10 iterations for the `image` (24, 18, 3) and the `logits`
# (4, 24, 18) in the same file, with addPairwiseGaussian(sxy=1) and addPairwiseBilateral(sxy=67, srgb=3): by the four
# kinds of normalisation with compat 3 and 4 (0.2 and 0.3 without one), then with `-vector` for the Gaussian (its sign
# of a vector is the opposite of ours), and with `matrix` for the bilateral kernel.
GOLDEN = dict(np.load(Path(__file__).parent / "densecrf_golden.npz"))
IMAGE = torch.from_numpy(GOLDEN["image"]).permute(2, 0, 1)
LOGITS = torch.from_numpy(GOLDEN["logits"])
CASES: dict[str, dict[str, Any]] = {
    "symmetric": {},
    "before": {"normalisation": "before"},
    "after": {"normalisation": "after"},
    "none": {"normalisation": "none", "gaussian_weight": 0.2, "bilateral_weight": 0.3},
    "per_class": {"gaussian_weight": GOLDEN["vector"].tolist()},
    "pairs": {"bilateral_weight": GOLDEN["matrix"].tolist()},
}
REPULSION = [[-2.0, 1.0, 0.2], [0.5, -3.0, 0.0], [0.4, 0.0, -1.0]]


def compute_features(image: Tensor, xy_px: float, rgb: float | None = None) -> np.ndarray:
    """One row of features a pixel, written out pixel by pixel, (N, 2) or (N, 5)."""
    _, height, width = image.shape
    pixels = image.double().numpy()
    rows = []
    for y in range(height):
        for x in range(width):
            colour = [] if rgb is None else [pixels[channel, y, x] / rgb for channel in range(3)]
            rows.append([x / xy_px, y / xy_px, *colour])
    return np.array(rows)


def compute_pairs(features: np.ndarray) -> np.ndarray:
    """The exact Gaussian of every pair, (N, N)."""
    return np.exp(-0.5 * ((features[:, None] - features[None]) ** 2).sum(-1))


def compute_lattice_pairs(features: np.ndarray) -> np.ndarray:
    lattice = PermutohedralLattice(torch.from_numpy(features.T.copy()))
    return lattice.filter(torch.eye(len(features), dtype=torch.float64)).numpy()


def normalise(pairs: np.ndarray, kind: str) -> np.ndarray:
    sums = pairs.sum(1)
    if kind == "symmetric":
        return pairs / np.sqrt(sums[:, None] * sums[None])
    return {"before": pairs / sums[None], "after": pairs / sums[:, None], "none": pairs}[kind]


def expand(weight: Any, num_classes: int) -> np.ndarray:
    """Energy of each pair of labels, (K, K)."""
    weight = np.asarray(weight, dtype=np.float64)
    return (weight + weight.T) / 2 if weight.ndim == 2 else -np.diag(np.broadcast_to(weight, num_classes))


def infer_naively(logits: Tensor, kernels: list[tuple[np.ndarray, Any]], num_iterations: int = 10) -> np.ndarray:
    """Mean field with (N, N) kernels and their weights, in float64, (K, H, W)."""
    unaries = -logits.double().numpy().reshape(len(logits), -1)  # (K, N)
    energies = unaries
    for iteration in range(num_iterations + 1):
        marginals = np.exp(-energies) / np.exp(-energies).sum(0)
        if iteration < num_iterations:
            energies = unaries.copy()
            for pairs, weight in kernels:
                energies += expand(weight, len(logits)) @ (marginals @ pairs.T)
    return marginals.reshape(logits.shape)


def draw(num_classes: int, height: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 2, (3, height, width), generator=generator) * 20 + 100
    image += torch.randint(0, 6, image.shape, generator=generator)
    return torch.randn(num_classes, height, width, generator=generator, dtype=torch.float64), image.to(torch.uint8)


@pytest.mark.parametrize("case", CASES)
def test_equals_pydensecrf(case: str) -> None:
    with torch.inference_mode():
        marginals = DenseCRF(**CASES[case])(LOGITS, IMAGE).numpy()
    difference = np.abs(marginals - GOLDEN[case])
    assert difference.mean() < 1e-6
    assert difference.max() < 1e-4


@pytest.mark.parametrize("case", CASES)
def test_is_as_near_to_the_exact_kernels_as_pydensecrf(case: str) -> None:
    crf = DenseCRF(**CASES[case])
    kernels = [
        (normalise(compute_pairs(features), crf.normalisation), weight.detach())
        for features, weight in (
            (compute_features(IMAGE, 1.0), crf.gaussian_weight),
            (compute_features(IMAGE, 67.0, 3.0), crf.bilateral_weight),
        )
    ]
    exact = infer_naively(LOGITS, kernels)
    ours = np.abs(crf(LOGITS, IMAGE).detach().numpy() - exact).mean()
    theirs = np.abs(GOLDEN[case] - exact).mean()
    assert ours <= theirs * 1.0001 + 1e-7
    assert ours < 0.05


@pytest.mark.parametrize("normalisation", ["symmetric", "before", "after", "none"])
@pytest.mark.parametrize("weight", [2.0, [1.0, 2.0, 0.5], REPULSION], ids=["one", "per class", "pairs"])
def test_is_the_mean_field_of_the_kernels_that_the_lattice_gives(normalisation: Any, weight: Any) -> None:
    logits, image = draw(3, 7, 9)
    crf = DenseCRF(
        gaussian_weight=weight,
        gaussian_xy_px=1.5,
        bilateral_weight=weight,
        bilateral_xy_px=5.0,
        bilateral_rgb=7.0,
        num_iterations=4,
        normalisation=normalisation,
    )
    kernels = [
        (normalise(compute_lattice_pairs(compute_features(image, *deviations)), normalisation), weight)
        for deviations in ((1.5,), (5.0, 7.0))
    ]
    expected = infer_naively(logits, kernels, num_iterations=4)
    np.testing.assert_allclose(crf(logits, image).detach().numpy(), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("weight", [1.5, [1.0, 2.0, 0.5], REPULSION], ids=["one", "per class", "pairs"])
def test_gradients_reach_the_logits_and_the_weights(weight: Any) -> None:
    logits, image = draw(3, 2, 3)
    crf = DenseCRF(
        gaussian_weight=weight, bilateral_weight=weight, bilateral_xy_px=3.0, bilateral_rgb=9.0, num_iterations=2
    ).double()

    def run(logits: Tensor, gaussian: Tensor, bilateral: Tensor) -> Tensor:
        weights = {"gaussian_weight": gaussian, "bilateral_weight": bilateral}
        return torch.func.functional_call(crf, weights, (logits, image))

    weights = [parameter.detach().clone().requires_grad_() for parameter in crf.parameters()]
    assert len(weights) == 2
    assert torch.autograd.gradcheck(run, (logits.requires_grad_(), *weights))


def test_a_step_on_the_weights_alone_lowers_a_loss() -> None:
    labels = LOGITS.argmax(0)
    noisy = (LOGITS + 3 * torch.randn(LOGITS.shape, generator=torch.Generator().manual_seed(1))).detach()
    crf = DenseCRF(gaussian_weight=0.1, bilateral_weight=0.1, num_iterations=3)
    losses = []
    for _ in range(3):
        loss = -crf(noisy, IMAGE).gather(0, labels[None]).clamp_min(1e-9).log().mean()
        losses.append(loss.item())
        gradients = torch.autograd.grad(loss, list(crf.parameters()))
        for parameter, gradient in zip(crf.parameters(), gradients, strict=True):
            parameter.data -= 0.5 * gradient
    assert losses[2] < losses[1] < losses[0]


def test_removes_noise_and_follows_the_edge_of_the_image() -> None:
    truth = (torch.arange(40)[None] * 2 + torch.arange(30)[:, None] > 55).long()  # (30, 40)
    image = torch.where(truth.bool(), 170, 90).expand(3, 30, 40).to(torch.uint8)
    noise = torch.randn(2, 30, 40, generator=torch.Generator().manual_seed(0))
    logits = torch.nn.functional.one_hot(truth, 2).permute(2, 0, 1) + noise
    assert (logits.argmax(0) == truth).float().mean() < 0.8
    with torch.inference_mode():
        assert torch.equal(DenseCRF()(logits, image).argmax(0), truth)


@pytest.mark.parametrize("num_classes", [1, 5, 15, 16, 40])
def test_without_iterations_it_is_the_softmax(num_classes: int) -> None:
    logits, image = draw(num_classes, 4, 6)
    logits *= 400  # exponentials alone would overflow
    torch.testing.assert_close(DenseCRF(num_iterations=0)(logits, image), logits.softmax(0))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 1)])
def test_any_size_gives_marginals(size: tuple[int, int]) -> None:
    logits, image = draw(3, *size)
    logits[0] = -torch.inf  # an impossible class stays so
    marginals = DenseCRF()(logits, image)
    torch.testing.assert_close(marginals.sum(0), torch.ones(size, dtype=torch.float64))
    assert (marginals[0] == 0).all()


def test_the_same_image_twice_gives_the_same_bits() -> None:
    crf = DenseCRF()
    assert torch.equal(crf(LOGITS, IMAGE), crf(LOGITS, IMAGE))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gaussian_xy_px": 0.0}, "gaussian_xy_px is 0.0"),
        ({"bilateral_rgb": float("nan")}, "bilateral_rgb is nan"),
        ({"num_iterations": -1}, "num_iterations is -1"),
        ({"normalisation": "half"}, "normalisation is 'half'"),
    ],
)
def test_impossible_settings_are_refused_by_name(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        DenseCRF(**options)
    assert caught.value.hint


def test_16_bits_are_as_bright_as_8_and_finer() -> None:
    crf, (logits, image) = DenseCRF(), draw(3, 12, 15)
    torch.testing.assert_close(crf(logits, image.to(torch.int32).mul(257).to(torch.uint16)), crf(logits, image))
    steps = torch.zeros_like(image, dtype=torch.int32)
    steps[:, :, 8:] = 100  # less than half a level of 8 bits
    sharp = DenseCRF(bilateral_rgb=0.05)
    assert not torch.equal(sharp(logits, steps.to(torch.uint16)), sharp(logits, torch.zeros_like(image)))


def test_images_and_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match=r"image of \(3, 24, 18\) torch.float32"):
        DenseCRF()(LOGITS, IMAGE / 255)
    with pytest.raises(UsageError, match=r"image of \(3, 24, 17\)"):
        DenseCRF()(LOGITS, IMAGE[:, :, :-1])
    with pytest.raises(UsageError, match=r"bilateral_weight has shape \(3,\) for 4 classes"):
        DenseCRF(bilateral_weight=[1.0, 2.0, 3.0])(LOGITS, IMAGE)
