"""A loss, as somebody outside the package writes one."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from atrous.core.labels import IGNORE_INDEX
from atrous.losses.contracts import weigh_pixels
from atrous.networks.contracts import Geometry
from atrous.networks.layers.resize import enlarge_logits


class Focal:
    """Cross-entropy times (1 - probability of the true class) ** gamma.

    Args:
        gamma: Exponent, at least 0.
    """

    def __init__(self, *, gamma: float = 2.0) -> None:
        self.gamma = gamma

    def __call__(
        self, logits: Tensor, labels: Tensor, class_weights: Tensor | None = None, geometry: Geometry | None = None
    ) -> Tensor:
        wide = logits.double() if logits.dtype.itemsize == 8 else logits.float()
        full = wide if geometry is None else enlarge_logits(wide, geometry)
        losses = F.cross_entropy(full, labels, ignore_index=IGNORE_INDEX, reduction="none")
        return (weigh_pixels(labels, class_weights) * losses * (1 - (-losses).exp()) ** self.gamma).sum()
