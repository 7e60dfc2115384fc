"""The paper's figures that need no training: valid taps by rate, and the receptive field of each family."""

from __future__ import annotations

import copy
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from atrous.core.errors import ConfigError
from atrous.core.files import save_json, save_text
from atrous.core.output_folder import require_place
from atrous.core.provenance import collect_provenance
from atrous.core.records import Progress, ProgressCallback
from atrous.metrics.receptive_field import count_valid_taps
from atrous.networks import FAMILIES
from atrous.networks.build import build_network_from
from atrous.networks.segmenter import Segmenter
from atrous.reports.plots import save_fields_plot, save_taps_plot
from atrous.reports.studies import format_figures
from atrous.studies import FIGURES

ASPP_ALONE = "deeplabv3 without image pooling"
MAP_CELLS = 65
"""Side of the map in the paper's Figure 4."""
STRIP_PX = 8193
IMAGE_PX = 641
NUM_IMAGES = 2
EFFECTIVE_SHARE = 0.0455
"""The effective receptive field: pixels whose gradient exceeds this share of the largest.

Source: Luo et al. 2016 (arXiv 1701.04128), section 3."""
_FAINT = 1e-6


@dataclass(frozen=True)
class Field:
    """Receptive field of a network at the centre of an image.

    Args:
        network: Name of the network.
        theoretical_px: Side of the square that a logit can depend on; None if it is the whole image.
        effective_px: Side of a square with the area of the effective receptive field, see `EFFECTIVE_SHARE`.
    """

    network: str
    theoretical_px: int | None
    effective_px: float


def run_figures(backbone: str, out: Path, *, progress: ProgressCallback | None = None) -> dict[str, Any]:
    """Compute the figures and write `figures.json`, `figures.md`, `taps.png` and `fields.png`.

    Args:
        backbone: Backbone of all families, with random weights.
        out: Folder of all studies; the figures are written to a sub-folder.
        progress: Receives the progress.
    Returns: The figures as written.
    Raises:
        ConfigError: The backbone is unknown.
        UsageError: There cannot be such a folder.
    """
    folder = out / FIGURES
    require_place(folder / "figures.json")
    shares = [count_valid_taps(MAP_CELLS, rate) for rate in range(1, MAP_CELLS + 1)]
    networks, not_possible = _build_networks(backbone)
    fields, maps = [], {}
    for done, (name, network) in enumerate(networks.items()):
        if progress:
            progress(Progress("receptive fields", done, len(networks), name))
        maps[name] = measure_gradient(network)
        fields.append(Field(name, measure_theoretical(network), compute_side(maps[name])))
    figures = {
        "table": FIGURES,
        "map_cells": MAP_CELLS,
        "taps": [asdict(share) for share in shares],
        "backbone": backbone,
        "image_px": IMAGE_PX,
        "fields": [asdict(field) for field in fields],
        "not_possible": not_possible,
        **collect_provenance(),
    }
    save_json(folder / "figures.json", figures)
    save_text(folder / "figures.md", format_figures(figures))
    save_taps_plot(figures, folder / "taps.png")
    save_fields_plot(figures, maps, folder / "fields.png")
    return figures


def _build_networks(backbone: str) -> tuple[dict[str, Segmenter], dict[str, str]]:
    """Build every family on a backbone, and DeepLabv3 without image pooling; and say why the others are not possible.

    Raises:
        ConfigError: No family can be built.
    """
    aspp = {"name": f"deeplabv3-{backbone}", "head": {"image_features": False}}
    wanted: dict[str, dict[str, Any]] = {family: {"name": f"{family}-{backbone}"} for family in FAMILIES}
    wanted[ASPP_ALONE] = aspp
    networks, not_possible = {}, {}
    for name, model in wanted.items():
        with torch.random.fork_rng(devices=()):  # the caller's random numbers stay as they are
            torch.manual_seed(0)
            try:
                networks[name] = build_network_from(model, num_classes=2).eval()
            except ConfigError as error:
                not_possible[name] = error.message
    if not networks:
        raise ConfigError(next(iter(not_possible.values())), "See `atrous models` for the backbones.")
    return networks, not_possible


def measure_theoretical(network: Segmenter) -> int | None:
    """Measure the side of the square of pixels that the logits of one cell can depend on.

    A copy of the network gets weights under which nothing cancels or vanishes, so that a pixel has a gradient if and
    only if a path of taps leads to it. Taps extend equally far along rows and columns, so a strip one pixel high
    suffices.

    Returns: Pixels, or None if the receptive field covers a strip of 8193 pixels.
    """
    plain = copy.deepcopy(network).double()
    _let_everything_through(plain)
    strip = torch.full((1, 3, 1, STRIP_PX), _FAINT, dtype=torch.float64, requires_grad=True)
    logits = plain.forward_cells(strip).logits
    (gradient,) = torch.autograd.grad(logits[..., logits.shape[-1] // 2].sum(), strip)
    seen = gradient.abs().sum(dim=(0, 1, 2)).nonzero().flatten()
    first, last = int(seen[0]), int(seen[-1])
    return None if first == 0 or last == STRIP_PX - 1 else last - first + 1


def _let_everything_through(network: Segmenter) -> None:
    """Turn every convolution and max pooling into an average, and every norm into the identity."""
    network.mean.zero_()
    network.std.fill_(1.0)
    for module in list(network.modules()):
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1.0 / module.weight[0].numel())
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.reset_parameters()
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):  # its gradient reaches only the largest value
                setattr(module, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding))


def measure_gradient(network: Segmenter) -> np.ndarray:
    """Return the mean gradient magnitude of the centre cell's first logit over random images, (H, W) float32."""
    network.requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros(IMAGE_PX, IMAGE_PX)
    for _ in range(NUM_IMAGES):
        image = torch.rand(1, 3, IMAGE_PX, IMAGE_PX, generator=generator, requires_grad=True)
        logits = network.forward_cells(image).logits
        centre = logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2]
        (gradient,) = torch.autograd.grad(centre, image)
        total += gradient[0].abs().sum(dim=0)
    return (total / NUM_IMAGES).numpy()


def compute_side(gradient: np.ndarray) -> float:
    """Return the side of a square with as many pixels as have a gradient above `EFFECTIVE_SHARE` of the largest.

    Shapes:
        gradient (H, W), magnitudes.
    """
    return math.sqrt(int((gradient > EFFECTIVE_SHARE * gradient.max()).sum()))
