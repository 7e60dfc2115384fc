"""Parity: differences between the results of an exported file and the network, measured by running both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from atrous.core.errors import ModelFileError
from atrous.core.inputs import DTYPE_RANGES, PHOTO, ImageForm
from atrous.core.words import describe_count
from atrous.inference.agreement import LARGEST_LABEL_SHARE, LARGEST_LOGIT_DIFFERENCE
from atrous.inference.contracts import Backend
from atrous.networks.layers.resize import enlarge_logits
from atrous.networks.segmenter import Segmenter

SHAPES = ((1, 32, 32), (1, 33, 47), (1, 65, 64), (2, 97, 129), (1, 160, 211))
"""Batch, height and width of the compared images: odd and even sizes, with and without padding."""
LARGEST_LABEL_SHARE_INT8 = 0.05
"""Limit on real images; the effect on a score has to be measured with `atrous eval`."""
LARGEST_DIFFERENCE_FP16 = 1e-2
"""Limit of both shares for weights that are rounded to float16, 1 part in 2,048 each: several times what trained
networks show, and far below what a damaged one does."""
COARSE_PX = 8
"""Pixels between random values; the image is interpolated between them."""


@dataclass(frozen=True)
class Parity:
    """Differences between a file and a network.

    Args:
        logits: Largest difference of a logit, relative to the range of the logits of the image; None if the file
            returns labels only.
        labels: Share of the pixels with a different label.
        pixels: Number of compared pixels.
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
        """Return the differences as a phrase."""
        words = f"{self.labels:.4%} of {describe_count(self.pixels, 'pixel')} have a different label"
        return words if self.logits is None else f"logits differ by {self.logits:.1e} of their range, {words}"


def draw_images(form: ImageForm = PHOTO) -> Iterator[Tensor]:
    """Yield random images for the comparison: coarse noise, interpolated, so that logits vary within an image.

    Args:
        form: Bands, type and range of values of the images.
    Shapes:
        out (B, C, H, W) in the form's type, see `SHAPES`.
    """
    generator = torch.Generator().manual_seed(0)
    low, high = form.value_range
    for batch, height, width in SHAPES:
        coarse = torch.rand(batch, form.channels, height // COARSE_PX, width // COARSE_PX, generator=generator)
        smooth = F.interpolate(coarse, size=(height, width), mode="bilinear") * (high - low) + low
        if form.dtype != "float32":
            smooth = smooth.round().clamp(*DTYPE_RANGES[form.dtype])
        yield smooth.to(getattr(torch, form.dtype))


@torch.inference_mode()
def measure_parity(network: Segmenter, backend: Backend, images: Iterable[Tensor]) -> Parity:
    """Compare the results of a file with those of a network.

    Args:
        network: The network, in evaluation mode, at the exported output stride.
        backend: Backend that runs the file.
        images: Batches (B, C, H, W) in the type in which files store images.
    Raises:
        ModelFileError: The network's output is not finite.
    """
    largest, wrong, pixels, sizes = 0.0, 0, 0, []
    for image in images:
        expected = network(image.to(network.mean.device)).cpu()  # (B, K, H, W)
        if not expected.isfinite().all():  # labels alone would be equal
            raise ModelFileError("the network's output is not finite (NaN or infinite)", "Train the model again.")
        if backend.labels_only:
            labels = backend.label(image).cpu()
        else:
            cells = backend(image)
            logits = enlarge_logits(cells.logits, cells.geometry).cpu()  # (B, K, H, W)
            labels = logits.argmax(dim=1)
            spread = (expected.amax() - expected.amin()).clamp_min(torch.finfo(torch.float32).tiny)
            largest = max(largest, float((logits - expected).abs().amax() / spread))
        wrong += int((labels != expected.argmax(dim=1)).sum())
        pixels += labels.numel()
        sizes.append((int(image.shape[2]), int(image.shape[3])))
    return Parity(None if backend.labels_only else largest, wrong / pixels, pixels, tuple(sizes))


def require_parity(parity: Parity, what: str, precision: str = "fp32") -> None:
    """Require that a file gives the same results as the network.

    Args:
        parity: The measured differences.
        what: The file, for the error message.
        precision: Precision of the file: fp32, fp16 for rounded weights, with a larger tolerance, or int8, for which
            only labels are compared.
    Raises:
        ModelFileError: The differences exceed the tolerance.
    """
    is_int8, is_fp16 = precision == "int8", precision == "fp16"
    most = LARGEST_LABEL_SHARE_INT8 if is_int8 else LARGEST_DIFFERENCE_FP16 if is_fp16 else LARGEST_LABEL_SHARE
    most_logits = LARGEST_DIFFERENCE_FP16 if is_fp16 else LARGEST_LOGIT_DIFFERENCE
    # Written so that a difference of nan is refused too.
    close = is_int8 or parity.logits is None or parity.logits <= most_logits
    if not (close and parity.labels <= most):
        allowed = f"{most:.1%} of the labels" + ("" if is_int8 else f" and {most_logits:g} of the logits")
        raise ModelFileError(
            f"{what}: its results differ from the network's: {parity.describe()}",
            f"Nothing was written. Allowed are differences of {allowed}. "
            + ("Calibrate with more images that resemble those to be labelled." if is_int8 else "Try another format."),
        )
