"""A backend, as somebody outside the package writes one."""

from __future__ import annotations

import torch
from torch import Tensor

from atrous.inference.memory import measure_bytes_per_pixel
from atrous.networks.contracts import Cells
from atrous.networks.layers.resize import enlarge_logits
from atrous.networks.segmenter import Segmenter


class OneByOne:
    """Runs the images of a batch one after another."""

    labels_only = False
    is_full_size = False
    precisions = ("fp32",)

    def __init__(self, network: Segmenter, *, device: torch.device, precision: str) -> None:
        self._network = network
        self.device = device
        self.num_classes = network.num_classes
        self.aligned = network.aligned

    @staticmethod
    def list_devices() -> tuple[str, ...]:
        return ("cpu",)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Cells:
        found = [self._network.forward_cells(image[None]) for image in images]
        return Cells(torch.cat([cells.logits for cells in found]), None, found[0].geometry)

    def label(self, images: Tensor) -> Tensor:
        cells = self(images)
        return enlarge_logits(cells.logits, cells.geometry).argmax(dim=1)

    def measure_bytes_per_pixel(self) -> float:
        return measure_bytes_per_pixel(self._network, self.device)
