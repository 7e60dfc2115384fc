"""How far an exported file's answers are from the living network's, found out by running both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from atrous.core.errors import ModelFileError
from atrous.inference.contracts import Backend
from atrous.networks.segmenter import Segmenter

SHAPES = ((1, 3, 32, 32), (1, 3, 33, 47), (1, 3, 65, 64), (2, 3, 97, 129), (1, 3, 160, 211))
"""Batch, channels, height and width of the images that are compared: odd and even, padded and not."""
LARGEST_LOGIT_DIFFERENCE = 1e-3
LARGEST_LABEL_SHARE = 1e-3
LARGEST_LABEL_SHARE_INT8 = 0.05
"""Of real images; what it does to a score, only scoring tells."""
COARSE_PX = 8
"""Pixels from one drawn value to the next; between them images are smooth."""


@dataclass(frozen=True)
class Parity:
    """The largest differences that were seen.

    Args:
        logits: Of a logit, as a share of the image's logits from the least to the greatest; None for labels alone.
        labels: Share of the pixels whose label is another.
        pixels: How many pixels were compared.
        images: Height and width of each image.
    """

    logits: float | None
    labels: float
    pixels: int
    images: tuple[tuple[int, int], ...]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON."""
        return asdict(self)

    def describe(self) -> str:
        """Say it in a few words."""
        words = f"{self.labels:.4%} of {self.pixels:,} pixels have another label"
        return words if self.logits is None else f"logits differ by {self.logits:.1e} of their spread, {words}"


def draw_images() -> Iterator[Tensor]:
    """Yield the images that are compared: noise, drawn coarsely and smoothed, so that logits differ in an image.

    Shapes:
        out (B, 3, H, W) uint8, as `SHAPES` says.
    """
    generator = torch.Generator().manual_seed(0)
    for batch, channels, height, width in SHAPES:
        coarse = torch.rand(batch, channels, height // COARSE_PX, width // COARSE_PX, generator=generator)
        smooth = F.interpolate(coarse, size=(height, width), mode="bilinear")
        yield (smooth * 255).round().to(torch.uint8)


@torch.inference_mode()
def measure_parity(network: Segmenter, backend: Backend, images: Iterable[Tensor]) -> Parity:
    """Compare a file's answers with the living network's.

    Args:
        network: The network, in evaluation mode, at the output stride that was exported.
        backend: What runs the file.
        images: Batches (B, 3, H, W) uint8.
    """
    largest, wrong, pixels, sizes = 0.0, 0, 0, []
    for image in images:
        expected = network(image.to(network.mean.device)).cpu()  # (B, K, H, W)
        if backend.labels_only:
            labels = backend.label(image).cpu()
        else:
            logits = backend(image).logits.cpu()
            labels = logits.argmax(dim=1)
            spread = (expected.amax() - expected.amin()).clamp_min(torch.finfo(torch.float32).tiny)
            largest = max(largest, float((logits - expected).abs().amax() / spread))
        wrong += int((labels != expected.argmax(dim=1)).sum())
        pixels += labels.numel()
        sizes.append((int(image.shape[2]), int(image.shape[3])))
    return Parity(None if backend.labels_only else largest, wrong / pixels, pixels, tuple(sizes))


def require_parity(parity: Parity, what: str, precision: str = "fp32") -> None:
    """Refuse a file whose answers are others than the network's.

    Args:
        parity: What was found.
        what: The file.
        precision: What it computes in; of int8, labels alone are asked to be equal, and not quite so many.

    Raises:
        ModelFileError: They are.
    """
    is_int8 = precision == "int8"
    most = LARGEST_LABEL_SHARE_INT8 if is_int8 else LARGEST_LABEL_SHARE
    # Written so that a difference that is no number is refused too.
    close = is_int8 or parity.logits is None or parity.logits <= LARGEST_LOGIT_DIFFERENCE
    if not (close and parity.labels <= most):
        allowed = f"{most:.1%} of the labels" + ("" if is_int8 else f" and {LARGEST_LOGIT_DIFFERENCE:g} of the logits")
        raise ModelFileError(
            f"{what}: answers otherwise than the network: {parity.describe()}",
            f"Nothing was written; a difference of {allowed} is let pass. "
            + ("Calibrate by more images like those that will be labelled." if is_int8 else "Try another format."),
        )
