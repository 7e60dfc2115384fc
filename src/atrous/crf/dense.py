"""A fully connected random field over a whole image: probabilities in, probabilities that follow its edges out."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from atrous.core.errors import ConfigError, MachineError, UsageError
from atrous.core.registry import describe_choices
from atrous.crf.lattice import PermutohedralLattice
from atrous.networks.device import compute_available_bytes

LEAST_PROBABILITY = 1e-5
"""What a network's probabilities count as at least, so that no class is out of the question."""
LATTICE_BYTES_PER_PIXEL = 1000
BYTES_PER_PIXEL_AND_CLASS = 80
"""What the field takes at its peak, measured on images of 500 x 375 pixels with 21 classes."""

Normalisation = Literal["symmetric", "before", "after", "none"]
Weight = float | list[float] | list[list[float]]

_EXPONENTS: dict[Normalisation, tuple[float, float]] = {
    "symmetric": (-0.5, -0.5),
    "before": (-1, 0),
    "after": (0, -1),
    "none": (0, 0),
}
"""Powers of a kernel's sums that values are multiplied with before the filter, and results after it."""


class DenseCRF(nn.Module):
    """Mean field in a random field where each pixel speaks to each other, the louder the nearer and the more alike.

    Two kernels speak: a Gaussian in the place, which smooths, and a bilateral one in place and colour, which follows
    edges. The defaults are those commonly used with DeepLabv2. All weights are parameters, and the marginals are
    differentiable in them and in the logits, so the field can be trained as a layer.

    A weight is one number (how much equal labels attract each other), one for each class, or a symmetric matrix (how
    much two labels repel each other; of another matrix the symmetric part counts). One number w is the matrix -w * I.

    Args:
        gaussian_weight: Of the spatial kernel.
        gaussian_xy_px: Its standard deviation in pixels.
        bilateral_weight: Of the kernel in place and colour.
        bilateral_xy_px: Its standard deviation in pixels.
        bilateral_rgb: Its standard deviation in steps of 0 to 255.
        num_iterations: Of the mean field, >= 0; with none the marginals are the softmax of the logits.
        normalisation: What makes messages independent of how many pixels speak: each kernel is divided by the sums of
            its rows, half at the speaker and half at the listener ("symmetric"), or all "before" (speaker) or "after"
            (listener), or not at all ("none").
    Shapes:
        logits (K, H, W) floats, up to a constant a pixel the logarithms of probabilities; image (3, H, W) uint8 RGB;
        out (K, H, W) marginals, adding up to 1.
    Raises:
        ConfigError: A standard deviation is not above 0, a number of iterations below, or the normalisation unknown.
        UsageError: The image is not uint8 of the logits' size, or a weight does not fit the number of classes.
    Source: Krähenbühl and Koltun 2011 (arXiv 1210.5644); normalisation and learning as in the same authors' 2013
        "Parameter Learning and Convergent Inference for Dense Random Fields"; as a layer Zheng et al. 2015.
    """

    def __init__(
        self,
        *,
        gaussian_weight: Weight = 3.0,
        gaussian_xy_px: float = 1.0,
        bilateral_weight: Weight = 4.0,
        bilateral_xy_px: float = 67.0,
        bilateral_rgb: float = 3.0,
        num_iterations: int = 10,
        normalisation: Normalisation = "symmetric",
    ) -> None:
        super().__init__()
        deviations = {
            "gaussian_xy_px": gaussian_xy_px,
            "bilateral_xy_px": bilateral_xy_px,
            "bilateral_rgb": bilateral_rgb,
        }
        for name, deviation in deviations.items():
            if not 0 < deviation < math.inf:
                raise ConfigError(f"{name} is {deviation}", "A standard deviation is a number above 0.")
        if num_iterations < 0:
            raise ConfigError(f"num_iterations is {num_iterations}", "It is a number from 0 on, 10 by default.")
        if normalisation not in _EXPONENTS:
            raise ConfigError(f"normalisation is {normalisation!r}", describe_choices(normalisation, list(_EXPONENTS)))
        self.gaussian_weight = nn.Parameter(torch.as_tensor(gaussian_weight, dtype=torch.float32).clone())
        self.bilateral_weight = nn.Parameter(torch.as_tensor(bilateral_weight, dtype=torch.float32).clone())
        self.gaussian_xy_px = gaussian_xy_px
        self.bilateral_xy_px = bilateral_xy_px
        self.bilateral_rgb = bilateral_rgb
        self.num_iterations = num_iterations
        self.normalisation: Normalisation = normalisation

    def forward(self, logits: Tensor, image: Tensor) -> Tensor:
        """Return the marginals, (K, H, W)."""
        num_classes, height, width = logits.shape
        if image.dtype != torch.uint8 or image.shape != (3, height, width):
            raise UsageError(
                f"DenseCRF got an image of {tuple(image.shape)} {image.dtype} for logits {tuple(logits.shape)}",
                f"It is (3, {height}, {width}) uint8.",
            )
        for name, weight in self.named_parameters():
            if weight.shape not in {(), (num_classes,), (num_classes, num_classes)}:
                raise UsageError(
                    f"{name} is {tuple(weight.shape)} for {num_classes} classes",
                    "It is one number, one for each class, or a matrix of them.",
                )
        unaries = logits.reshape(num_classes, -1).T.contiguous()  # (H * W, K)
        gaussian, bilateral = self._build_kernels(image, unaries.dtype)
        marginals = _compute_softmax(unaries)
        for _ in range(self.num_iterations):
            logits_now = _add_messages(unaries, gaussian.filter(marginals), self.gaussian_weight)
            logits_now = _add_messages(logits_now, bilateral.filter(marginals), self.bilateral_weight)
            marginals = _compute_softmax(logits_now)
        return marginals.T.reshape(logits.shape)

    def _build_kernels(self, image: Tensor, dtype: torch.dtype) -> tuple[PermutohedralLattice, PermutohedralLattice]:
        """Place each pixel (column, row) and (column, row, red, green, blue); the lattice is built in this order."""
        height, width = image.shape[1:]
        rows, columns = torch.meshgrid(
            torch.arange(height, dtype=dtype, device=image.device),
            torch.arange(width, dtype=dtype, device=image.device),
            indexing="ij",
        )
        place = torch.stack((columns, rows)).reshape(2, -1)  # (2, H * W)
        colour = image.reshape(3, -1).to(dtype)
        both = torch.cat((place / self.bilateral_xy_px, colour / self.bilateral_rgb))
        return _build_kernel(place / self.gaussian_xy_px, self.normalisation), _build_kernel(both, self.normalisation)


@torch.inference_mode()
def refine(crf: DenseCRF, probs: Tensor, image: Tensor) -> Tensor:
    """Return a network's probabilities as the field has them.

    Shapes:
        probs (K, H, W) float32, image (3, H, W) uint8 on any device; out (K, H, W).
    """
    marginals: Tensor = crf(probs.clamp_min(LEAST_PROBABILITY).log(), image.to(probs.device))
    return marginals


def require_crf_memory(height: int, width: int, num_classes: int, device: torch.device) -> None:
    """Refuse an image whose field does not fit in memory; it needs the whole image at once.

    Raises:
        MachineError: It does not fit.
    """
    needed = height * width * (LATTICE_BYTES_PER_PIXEL + BYTES_PER_PIXEL_AND_CLASS * num_classes)
    available = compute_available_bytes(device)
    if needed > available:
        raise MachineError(
            f"DenseCRF on {height} x {width} pixels and {num_classes} classes takes about {needed / 2**20:,.0f} MiB; "
            f"{available / 2**20:,.0f} MiB are free",
            "Leave it out, or give smaller images.",
        )


def _build_kernel(features: Tensor, normalisation: Normalisation) -> PermutohedralLattice:
    """Return the normalised Gaussian kernel over features (d, N)."""
    lattice = PermutohedralLattice(features)
    sums = lattice.filter(features.new_ones(features.shape[1], 1))[:, 0]
    before, after = _EXPONENTS[normalisation]
    lattice.scale(sums**before, sums**after)
    return lattice


def _add_messages(logits: Tensor, messages: Tensor, weight: Tensor) -> Tensor:
    """Return the logits (N, K) with what the messages (N, K) say for and against each class."""
    weight = weight.to(messages.dtype)
    if weight.dim() < 2:
        return torch.addcmul(logits, messages, weight)
    return torch.addmm(logits, messages, weight + weight.T, alpha=-0.5)


def _compute_softmax(logits: Tensor) -> Tensor:
    """Return the softmax over the classes, (N, K).

    On a CPU torch's own works one number at a time where rows are shorter than 16, six times as slow as written out.
    """
    if logits.shape[1] >= 16:
        return logits.softmax(1)
    exponentials = (logits - logits.detach().amax(1, keepdim=True)).exp_()
    return exponentials / exponentials.sum(1, keepdim=True)
