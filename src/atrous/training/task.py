"""What is minimised: network and loss as one plain module, so that it is tested and distributed as one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from atrous.losses.cross_entropy import sum_cross_entropy
from atrous.networks.segmenter import Segmenter


class TrainingTask(nn.Module):
    """Pictures and labels in, this pass's share of the step's loss out.

    Args:
        network: What learns.
        class_weights: Weight of each class in the loss, (K,), or None.
        auxiliary_weight: Weight of the auxiliary head's loss, where the network has such a head.
    """

    class_weights: Tensor | None

    def __init__(
        self, network: Segmenter, *, class_weights: tuple[float, ...] | None = None, auxiliary_weight: float = 0.4
    ) -> None:
        super().__init__()
        self.network = network
        self.auxiliary_weight = auxiliary_weight
        weights = None if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, pictures: Tensor, labels: Tensor, step_weight: Tensor) -> Tensor:
        """Return the loss.

        Args:
            pictures: (B, 3, H, W) uint8.
            labels: (B, H, W) int64 class indices, IGNORE_INDEX where ignored.
            step_weight: () what `count_weight` gives for all labels of the optimiser step; below 1 it counts as 1, so
                that a step without a valid pixel has loss 0.
        """
        cells = self.network.forward_cells(pictures)
        total = step_weight.clamp(min=1.0)
        loss = sum_cross_entropy(cells.logits, cells.geometry, labels, self.class_weights) / total
        if cells.auxiliary is not None:
            extra = sum_cross_entropy(cells.auxiliary, cells.geometry, labels, self.class_weights) / total
            loss = loss + self.auxiliary_weight * extra
        return loss
