"""The last stage of a prediction, from a map of logits to labels: `atrous`, compiled and not, and interpolate + argmax.

    python benchmarks/last_stage.py --rounds 30

Each candidate starts from the logits of the network and ends with labels in NumPy.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from harness import parse_options, report, take_turns
from torch import Tensor
from torch.nn import functional as F

from atrous.core.load_compiled import load_compiled
from atrous.core.records import Protocol
from atrous.inference.labelling import probabilities
from atrous.inference.labelling.likeliest import COMPILED, find_likeliest
from atrous.inference.labelling.probabilities import iter_bands
from atrous.inference.labelling.source import ArrayImage
from atrous.networks.contracts import Cells, Geometry

NUM_CLASSES = 21
SIDE = 513
REGION_CELLS = 8
"""Approximate side of a region with equal labels, in cells."""


class Answered:
    """A backend with precomputed cells."""

    device, aligned, num_classes = torch.device("cpu"), True, NUM_CLASSES

    def __init__(self, logits: Tensor, geometry: Geometry) -> None:
        self.cells = Cells(logits, None, geometry)

    def __call__(self, images: Tensor) -> Cells:
        """Return the same cells for any image."""
        return self.cells


def label_ours(backend: Answered, image: ArrayImage, *, compiled: bool) -> np.ndarray:
    """Return the labels as predictions compute them, with numba or without."""
    probabilities.load_compiled = load_compiled if compiled else lambda place: None
    bands = iter_bands(backend, image, Protocol())
    found = [find_likeliest(band.scores).numpy() if band.indices is None else band.indices for band in bands]
    return np.concatenate(found)


@torch.inference_mode()
def label_usual(logits: Tensor) -> np.ndarray:
    """Return the labels with the usual code."""
    return F.interpolate(logits, size=(SIDE, SIDE), mode="bilinear", align_corners=True).argmax(1)[0].numpy()


def draw_logits(kind: str, shape: tuple[int, ...]) -> Tensor:
    """Return a map of logits: regions, as from trained networks, or random logits, whose neighbours all differ."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(shape, generator=generator)
    if kind == "random":
        return logits
    rows, columns = (side // REGION_CELLS + 2 for side in shape[2:])
    regions = torch.randint(shape[1], (rows, columns), generator=generator)
    one_hot = F.one_hot(regions, shape[1]).permute(2, 0, 1)[None].float()
    smooth = F.interpolate(one_hot, scale_factor=REGION_CELLS, mode="bilinear")[:, :, : shape[2], : shape[3]]
    return 20 * smooth + logits


def measure_mixed(logits: Tensor) -> float:
    """Return the share of squares between four cells whose most likely classes differ."""
    tops = logits[0].argmax(0)
    same = (tops[1:, 1:] == tops[:-1, :-1]) & (tops[1:, :-1] == tops[:-1, :-1]) & (tops[:-1, 1:] == tops[:-1, :-1])
    return 1 - float(same.float().mean())


def main() -> None:
    """Run the comparison at two sizes of the map."""
    options = parse_options(__doc__)
    image = ArrayImage(torch.zeros(3, SIDE, SIDE, dtype=torch.uint8))
    for stride, kind in itertools.product((8, 16), ("regions", "random")):
        geometry = Geometry(SIDE, SIDE, SIDE, SIDE, stride, aligned=True)
        logits = draw_logits(kind, (1, NUM_CLASSES, geometry.map_height, geometry.map_width))
        backend = Answered(logits, geometry)
        sides = {
            "interpolate + argmax": lambda logits=logits: label_usual(logits),
            "atrous, torch": lambda backend=backend: label_ours(backend, image, compiled=False),
        }
        if load_compiled(COMPILED) is not None:
            sides["atrous, numba"] = lambda backend=backend: label_ours(backend, image, compiled=True)
        reference = next(iter(sides.values()))()
        more = {name: {"equal_labels": f"{float((run() == reference).mean()):.6f}"} for name, run in sides.items()}
        times = take_turns(sides, options.rounds)
        context = {
            "logits": kind,
            "mixed_cells": f"{measure_mixed(logits):.2f}",
            "map": f"{geometry.map_height}x{geometry.map_width}",
            "classes": NUM_CLASSES,
            "image": f"{SIDE}x{SIDE}",
        }
        report("last_stage", context, times, reference="interpolate + argmax", options=options, more=more)


if __name__ == "__main__":
    main()
