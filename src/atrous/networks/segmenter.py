"""The whole network: normalise, pad, backbone, head, crop; and the output stride of all of it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atrous.core.errors import ConfigError, UsageError
from atrous.networks.contracts import Backbone, Cells, FeatureShapes, Geometry, Head
from atrous.networks.layers.resize import enlarge_logits
from atrous.networks.stride import Site, StridePlanner

SIZE_STEP_PX = 32
"""Aligned sizes are a multiple of this plus one, whatever the stride now: so features of all strides coincide."""


class Segmenter(nn.Module):
    """A picture in, class logits for each pixel out.

    The model owns its normalisation: pictures are uint8 in 0..255 or floats in [0, 1], told apart by dtype.

    Args:
        backbone: Feature maps at native strides.
        head: Logits from features.
        auxiliary_head: Logits from a shallower level, in training only.
        num_classes: Scored classes, the ignore index not counted.
        output_stride: Input resolution / feature resolution to build for.
        first_unit_rate: See `StridePlanner`.
        resize: "aligned" pads to 32k + 1 and keeps sample centres of picture, features and logits together at every
            stride; "half_pixel" takes the picture as it is.
        image_pooling: Average image-level features over the cells whose centre lies in the "picture", or over the whole
            padded "map".
    Raises:
        ConfigError: The backbone or the head cannot have the output stride, or cells are not centred and `resize` is
            aligned.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        head: Head,
        auxiliary_head: nn.Module | None = None,
        *,
        num_classes: int,
        output_stride: int = 16,
        first_unit_rate: Literal["exact", "uniform"] = "exact",
        resize: Literal["aligned", "half_pixel"] = "aligned",
        image_pooling: Literal["picture", "map"] = "picture",
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.auxiliary_head = auxiliary_head
        self.num_classes = num_classes
        self.build_stride = output_stride
        self.aligned = resize == "aligned"
        self.image_pooling = image_pooling
        for name in ("mean", "std"):
            values = torch.tensor(getattr(backbone, name)).view(1, 3, 1, 1)
            self.register_buffer(name, values, persistent=False)
        self._planner = StridePlanner(backbone, build_stride=output_stride, first_unit_rate=first_unit_rate)
        if self.aligned and not self.feature_shapes.centred:
            raise ConfigError(
                "model.resize: aligned needs cells centred on pixels, which even kernels do not give",
                "Use resize: half_pixel.",
            )
        self._output_stride = output_stride
        head.set_output_stride(output_stride)

    @property
    def feature_shapes(self) -> FeatureShapes:
        """Channels and native strides of the backbone's levels."""
        return self._planner.shapes

    @property
    def sites(self) -> tuple[Site, ...]:
        """The backbone's convolutions and poolings with their strides and rates now."""
        return self._planner.sites

    @property
    def output_stride(self) -> int:
        """Input resolution / feature resolution: 4, 8, 16 or 32. Set it at any time; weights stay untouched.

        Raises:
            ConfigError: On setting, if the backbone or a rate cannot follow; nothing has changed.
        """
        return self._output_stride

    @output_stride.setter
    def output_stride(self, output_stride: int) -> None:
        self._planner.require(output_stride)
        self.head.set_output_stride(output_stride)
        self._planner.set_output_stride(output_stride)
        self._output_stride = output_stride

    def geometry(self, height: int, width: int) -> Geometry:
        """Return where cells lie for a picture of this size in pixels."""
        padded = [-(-(n - 1) // SIZE_STEP_PX) * SIZE_STEP_PX + 1 if self.aligned else n for n in (height, width)]
        return Geometry(height, width, padded[0], padded[1], self._output_stride, self.aligned)

    def normalise(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 or [0, 1] floats -> floats with the statistics that the weights expect."""
        scale = 255.0 if pictures.dtype == torch.uint8 else 1.0
        return pictures.to(self.mean.dtype).sub(self.mean * scale).div_(self.std * scale)

    def forward_cells(self, pictures: Tensor) -> Cells:
        """Return small logits with their geometry; losses, scores and predictions enlarge them as they need.

        Shapes:
            in (B, 3, H, W) uint8 or [0, 1] floats, any size from 1x1; out logits (B, K, h, w).
        Raises:
            UsageError: Other numbers than these, whose range could only be guessed, or another shape.
        """
        if pictures.dim() != 4 or pictures.shape[1] != 3:
            raise UsageError(f"pictures: got the shape {tuple(pictures.shape)}", "Give RGB pictures (B, 3, H, W).")
        if pictures.dtype != torch.uint8 and not pictures.is_floating_point():
            raise UsageError(f"pictures: got {pictures.dtype}", "Give uint8 in 0..255 or floats in [0, 1].")
        geometry = self.geometry(*pictures.shape[2:])
        normalised = self.normalise(pictures)
        if self.aligned:  # zero is the mean colour
            right, bottom = geometry.padded_width - geometry.width, geometry.padded_height - geometry.height
            normalised = F.pad(normalised, (0, right, 0, bottom))
        features = self.backbone(normalised)
        logits = self._crop(self.head(features, self._find_inside(features[-1], geometry)), geometry)
        auxiliary = None
        if self.auxiliary_head is not None and self.training:
            auxiliary = self._crop(self.auxiliary_head(features, None), geometry)
        return Cells(logits, auxiliary, geometry)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return full-size logits.

        Shapes:
            in (B, 3, H, W) uint8 or [0, 1] floats, any size from 1x1; out (B, K, H, W) float32.
        """
        cells = self.forward_cells(pictures)
        return enlarge_logits(cells.logits, cells.geometry)

    def _find_inside(self, features: Tensor, geometry: Geometry) -> Tensor | None:
        if self.image_pooling == "map" or not self.aligned:
            return None
        stride = geometry.stride
        rows, columns = (geometry.height - 1) // stride + 1, (geometry.width - 1) // stride + 1
        if (rows, columns) == tuple(features.shape[2:]):
            return None
        inside = features.new_zeros(features.shape[2:])
        inside[:rows, :columns] = 1
        return inside

    @staticmethod
    def _crop(logits: Tensor, geometry: Geometry) -> Tensor:
        """Keep the cells of the model's map; of a level denser than that, those that lie on its cells."""
        if not geometry.aligned:
            return logits
        cells = [(n - 1) // geometry.stride for n in (geometry.padded_height, geometry.padded_width)]
        down, right = ((n - 1) // max(c, 1) or 1 for n, c in zip(logits.shape[2:], cells, strict=True))
        return logits[:, :, ::down, ::right][:, :, : geometry.map_height, : geometry.map_width]
