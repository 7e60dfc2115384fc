"""DenseCRF: a fully connected conditional random field that aligns class probabilities with the edges of an image."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from atrous.core.errors import ConfigError, MachineError, UsageError
from atrous.core.registry import describe_choices
from atrous.core.words import describe_count
from atrous.crf.lattice import PermutohedralLattice
from atrous.networks.device import compute_available_bytes

LEAST_PROBABILITY = 1e-5
"""Lower bound of the network's probabilities, so that no class is impossible."""
LATTICE_BYTES_PER_PIXEL = 1000
BYTES_PER_PIXEL_AND_CLASS = 80
"""Peak memory of the field, measured on images of 500 x 375 pixels with 21 classes."""

Normalisation = Literal["symmetric", "before", "after", "none"]
Weight = float | list[float] | list[list[float]]

_EXPONENTS: dict[Normalisation, tuple[float, float]] = {
    "symmetric": (-0.5, -0.5),
    "before": (-1, 0),
    "after": (0, -1),
    "none": (0, 0),
}
"""Exponents of a kernel's row sums, for the factors of values before filtering and of results after it."""


class DenseCRF(nn.Module):
    """Mean-field inference in a fully connected CRF with a spatial and a bilateral Gaussian kernel.

    The spatial kernel depends on position and smooths; the bilateral kernel depends on position and colour and follows
    edges. The defaults are those commonly used with DeepLabv2. All weights are parameters, and the marginals are
    differentiable with respect to them and to the logits, so the field can be trained as a layer.

    A weight is a number (the attraction between equal labels), one number per class, or a symmetric matrix (the
    repulsion between two labels; only the symmetric part of a matrix is used). A number w equals the matrix -w * I.

    Args:
        gaussian_weight: Weight of the spatial kernel.
        gaussian_xy_px: Standard deviation of the spatial kernel in pixels.
        bilateral_weight: Weight of the bilateral kernel.
        bilateral_xy_px: Standard deviation of the bilateral kernel in pixels.
        bilateral_rgb: Standard deviation of the bilateral kernel in colour levels, 0 to 255.
        num_iterations: Mean-field iterations, >= 0; with 0 the marginals are the softmax of the logits.
        normalisation: How each kernel is divided by its row sums, which makes messages independent of the number of
            pixels: half at the sender and half at the receiver ("symmetric"), at the sender ("before"), at the receiver
            ("after"), or not at all ("none").
    Shapes:
        logits (K, H, W) floats, the logarithms of probabilities up to a constant per pixel; image (3, H, W) uint8 or
        uint16 RGB; out (K, H, W) marginals, which sum to 1 over the classes.
    Raises:
        ConfigError: A standard deviation is not positive, the number of iterations is negative, or the normalisation is
            unknown.
        UsageError: The image is not of 8 or 16 bits and the size of the logits, or a weight does not match the classes.
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
                raise ConfigError(f"{name} is {deviation}", "A standard deviation has to be positive.")
        if num_iterations < 0:
            raise ConfigError(f"num_iterations is {num_iterations}", "Give a number >= 0; the default is 10.")
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
        """Return the marginals, (K, H, W).

        Args:
            logits: Logarithms of probabilities, up to a constant per pixel, (K, H, W).
            image: The image, (3, H, W) uint8 RGB; or uint16, of which 65535 is as bright as 255 of uint8.
        Raises:
            UsageError: The image is not of 8 or 16 bits and the size of the logits, or a weight does not match the
                classes.
        """
        num_classes, height, width = logits.shape
        if image.dtype not in (torch.uint8, torch.uint16) or image.shape != (3, height, width):
            raise UsageError(
                f"DenseCRF got an image of {tuple(image.shape)} {image.dtype} for logits {tuple(logits.shape)}",
                f"Give an image of shape (3, {height}, {width}) and dtype uint8 or uint16.",
            )
        for name, weight in self.named_parameters():
            if weight.shape not in {(), (num_classes,), (num_classes, num_classes)}:
                raise UsageError(
                    f"{name} has shape {tuple(weight.shape)} for {describe_count(num_classes, 'class')}",
                    "Give one number, one number per class, or a matrix with a row and a column per class.",
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
        """Build both kernels, over features (column, row) and (column, row, red, green, blue) of each pixel."""
        height, width = image.shape[1:]
        rows, columns = torch.meshgrid(
            torch.arange(height, dtype=dtype, device=image.device),
            torch.arange(width, dtype=dtype, device=image.device),
            indexing="ij",
        )
        place = torch.stack((columns, rows)).reshape(2, -1)  # (2, H * W)
        colour = image.reshape(3, -1).to(dtype) / (257 if image.dtype == torch.uint16 else 1)
        both = torch.cat((place / self.bilateral_xy_px, colour / self.bilateral_rgb))
        return _build_kernel(place / self.gaussian_xy_px, self.normalisation), _build_kernel(both, self.normalisation)


@torch.inference_mode()
def refine(crf: DenseCRF, probs: Tensor, image: Tensor) -> Tensor:
    """Refine the probabilities of a network.

    Args:
        crf: The field.
        probs: Class probabilities.
        image: The image, on any device.
    Shapes:
        probs (K, H, W) float32, image (3, H, W) uint8 or uint16; out (K, H, W).
    """
    marginals: Tensor = crf(probs.clamp_min(LEAST_PROBABILITY).log(), image.to(probs.device))
    return marginals


def require_crf_memory(height: int, width: int, num_classes: int, device: torch.device) -> None:
    """Require that the field fits into memory; it needs the whole image at once.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        num_classes: Number of classes.
        device: Device that the field runs on.
    Raises:
        MachineError: The field does not fit into the available memory.
    """
    needed = height * width * (LATTICE_BYTES_PER_PIXEL + BYTES_PER_PIXEL_AND_CLASS * num_classes)
    available = compute_available_bytes(device)
    if needed > available:
        raise MachineError(
            f"DenseCRF on {height} x {width} pixels and {describe_count(num_classes, 'class')} takes "
            f"about {needed / 2**20:,.0f} MiB; "
            f"{available / 2**20:,.0f} MiB are free",
            "Run without `crf=True`, or give smaller images.",
        )


def _build_kernel(features: Tensor, normalisation: Normalisation) -> PermutohedralLattice:
    """Return the normalised Gaussian kernel over features (d, N)."""
    lattice = PermutohedralLattice(features)
    sums = lattice.filter(features.new_ones(features.shape[1], 1))[:, 0]
    before, after = _EXPONENTS[normalisation]
    lattice.scale(sums**before, sums**after)
    return lattice


def _add_messages(logits: Tensor, messages: Tensor, weight: Tensor) -> Tensor:
    """Return the logits (N, K) updated with the messages (N, K)."""
    weight = weight.to(messages.dtype)
    if weight.dim() < 2:
        return torch.addcmul(logits, messages, weight)
    return torch.addmm(logits, messages, weight + weight.T, alpha=-0.5)


def _compute_softmax(logits: Tensor) -> Tensor:
    """Return the softmax over the classes, (N, K).

    For rows shorter than 16, torch's softmax is not vectorised on a CPU, and six times slower than this code.
    """
    if logits.shape[1] >= 16:
        return logits.softmax(1)
    exponentials = (logits - logits.detach().amax(1, keepdim=True)).exp_()
    return exponentials / exponentials.sum(1, keepdim=True)
