"""What is minimised: network and loss as one plain module, so that it is tested and distributed as one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from atrous.losses.contracts import Loss, count_weight
from atrous.losses.resolution import shrink_labels
from atrous.networks.contracts import Cells, Geometry
from atrous.networks.layers.recomputation import recomputing
from atrous.networks.segmenter import Segmenter


class TrainingTask(nn.Module):
    """Images and labels in, this pass's share of the step's loss out.

    Args:
        network: What learns.
        loss: What is minimised.
        resolution: "full" compares logits, upsampled, at the image's pixels; "cells" compares labels, shrunk, at the
            network's cells.
        class_weights: Weight of each class in the loss, (K,), or None.
        auxiliary_weight: Weight of the auxiliary head's loss, where the network has such a head.
        forward_cells: What runs the network, such as its own method compiled. Default: its own method.
        lean: Whether a pass on a CPU keeps less for the backward pass, see `recomputing`.
    Source: Chen et al. 2017 (arXiv 1706.05587), section 4 and Table 8: upsampled logits keep what shrinking labels
        takes away.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        network: Segmenter,
        loss: Loss,
        *,
        resolution: Literal["full", "cells"] = "full",
        class_weights: tuple[float, ...] | None = None,
        auxiliary_weight: float = 0.4,
        forward_cells: Callable[[Tensor], Cells] | None = None,
        lean: bool = True,
    ) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self.resolution = resolution
        self.auxiliary_weight = auxiliary_weight
        self.forward_cells = forward_cells or network.forward_cells
        self.lean = lean
        weights = None if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, images: Tensor, labels: Tensor, step_weight: Tensor) -> Tensor:
        """Return the loss.

        Args:
            images: (B, 3, H, W) uint8.
            labels: (B, H, W) int64 class indices, IGNORE_INDEX where ignored.
            step_weight: () the sum of `count_weight` over all passes of the optimiser step; below 1 it counts as 1, so
                that a step without a valid pixel has loss 0.
        """
        with recomputing() if self.lean and images.device.type == "cpu" else nullcontext():
            cells = self.forward_cells(images)
        total = step_weight.clamp(min=1.0)
        loss = self._compare(cells.logits, cells.geometry, labels) / total
        if cells.auxiliary is not None:
            loss = loss + self.auxiliary_weight * self._compare(cells.auxiliary, cells.geometry, labels) / total
        return loss

    def count_weight(self, labels: Tensor) -> Tensor:
        """Return what the labels of a pass, (B, H, W), count in the loss; see `losses.contracts.count_weight`."""
        if self.resolution == "cells":
            labels = shrink_labels(labels, self.network.geometry(labels.shape[1], labels.shape[2]))
        return count_weight(labels, self.class_weights)

    def _compare(self, logits: Tensor, geometry: Geometry, labels: Tensor) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            if self.resolution == "cells":
                return self.loss(logits, shrink_labels(labels, geometry), self.class_weights)
            return self.loss(logits, labels, self.class_weights, geometry)
