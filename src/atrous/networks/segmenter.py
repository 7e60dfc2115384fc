"""The whole network: normalise, pad, backbone, head, crop; and its output stride."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atrous.core.errors import ConfigError, UsageError
from atrous.core.inputs import InputSpec
from atrous.core.labels import LabelSpace
from atrous.core.words import describe_count
from atrous.networks.contracts import (
    UNPADDED,
    Backbone,
    Cells,
    Extent,
    FeatureShapes,
    Geometry,
    Head,
    SizeRule,
    count_cells,
)
from atrous.networks.heads.fcn import FCNHead
from atrous.networks.layers.pooling import ImagePooling
from atrous.networks.layers.resize import enlarge_logits, resample_cells, scale_image
from atrous.networks.stride import OUTPUT_STRIDES, Planner, Site, plan_strides


class Segmenter(nn.Module):
    """An image in, class logits for each pixel out.

    The model owns its normalisation. Images hold the values that files store. For a network of 8-bit images they may
    also be floats in [0, 1], told apart by their dtype.

    Args:
        backbone: Feature maps at native strides.
        head: Logits from features.
        auxiliary_head: Logits from a shallower level, in training only.
        num_classes: Scored classes, the ignore index not counted.
        output_stride: Input resolution / feature resolution to build for.
        first_unit_rate: See `StridePlanner`.
        resize: "aligned" pads as the backbone's `size_rule` says, to 32k + 1 for convolutional networks, and keeps the
            sample centres of image, features and logits together at every stride. "half_pixel" takes the image as it
            is, or pads it where the backbone's own rule is one of half-pixel centres.
        image_pooling: Average image-level features over the cells whose centre is inside the "image", over the whole
            padded "map", or, in evaluation, over windows of `pooling_window` pixels ("crop_window").
        pooling_window: Side in pixels of those windows: that of the training's crop.
    Raises:
        ConfigError: The backbone or the head cannot have the output stride, cells are not centred and `resize` is
            aligned.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        head: Head,
        auxiliary_head: FCNHead | None = None,
        *,
        num_classes: int,
        output_stride: int = 16,
        first_unit_rate: Literal["exact", "uniform"] = "exact",
        resize: Literal["aligned", "half_pixel"] = "aligned",
        image_pooling: Literal["image", "map", "crop_window"] = "image",
        pooling_window: int | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.auxiliary_head = auxiliary_head
        self.num_classes = num_classes
        self.settings: dict[str, Any] | None = None
        """What `build_network` made it from; None if it was put together in another way."""
        self.label_space: LabelSpace | None = None
        """Its classes, if they were named when it was built."""
        self.data_terms: tuple[str, ...] = ()
        """Terms of use of the data that the weights it was built with were trained on."""
        self.build_stride = output_stride
        self.aligned = resize == "aligned"
        self.size_rule: SizeRule = UNPADDED if backbone.size_rule.aligned and not self.aligned else backbone.size_rule
        self.image_pooling = image_pooling
        self._pooling_window: int | None = None
        for name in ("mean", "std"):
            values = torch.tensor(getattr(backbone.input_spec, name)).view(1, -1, 1, 1)
            self.register_buffer(name, values, persistent=False)
        try:
            self._planner = plan_strides(backbone, build_stride=output_stride, first_unit_rate=first_unit_rate)
        except ConfigError as error:
            native = plan_strides(backbone, build_stride=backbone.feature_shapes.deepest.native_stride)
            raise _name_choices(error, native, head) from error
        self.require_output_stride(output_stride)
        head.set_output_stride(output_stride)
        if self.aligned and not (self.size_rule.aligned and self.feature_shapes.centred):
            raise ConfigError(
                "model.resize: aligned needs cells centred on pixels, which even kernels and patches do not have",
                "Use resize: half_pixel.",
            )
        self._output_stride = output_stride
        self.pooling_window = pooling_window

    def __repr__(self) -> str:
        name = "" if self.settings is None else f"{self.settings['name']}, "
        count = sum(parameter.numel() for parameter in self.parameters())
        classes = describe_count(self.num_classes, "class")
        return f"Segmenter({name}{classes}, output stride {self.output_stride}, {count:,} parameters)"

    @property
    def input_spec(self) -> InputSpec:
        """The images that the network takes, with the statistics that it normalises them by."""
        form = self.backbone.input_spec.form
        return InputSpec(tuple(self.mean.flatten().tolist()), tuple(self.std.flatten().tolist()), form)

    @property
    def feature_shapes(self) -> FeatureShapes:
        """Channels and native strides of the backbone's levels."""
        return self._planner.shapes

    @property
    def sites(self) -> tuple[Site, ...]:
        """The backbone's convolutions and poolings with their current strides and rates."""
        return self._planner.sites

    @property
    def output_stride(self) -> int:
        """Input resolution / feature resolution: 4, 8, 16 or 32. It can be set at any time; weights do not change.

        Networks with extra blocks also allow 64, 128 and 256.

        Raises:
            ConfigError: On setting, see `require_output_stride`; nothing has changed.
        """
        return self._output_stride

    @output_stride.setter
    def output_stride(self, output_stride: int) -> None:
        self.require_output_stride(output_stride)
        self.head.set_output_stride(output_stride)
        self._planner.set_output_stride(output_stride)
        self._output_stride = output_stride
        self.pooling_window = self._pooling_window

    def require_output_stride(self, output_stride: int) -> None:
        """Refuse an output stride that the network cannot have; nothing changes.

        Raises:
            ConfigError: The backbone or a rate of the head does not allow it; the hint lists those that the network
                can have.
        """
        try:
            self._planner.require(output_stride)
            self.head.compute_rates(output_stride)
        except ConfigError as error:
            raise _name_choices(error, self._planner, self.head) from error

    @property
    def pooling_window(self) -> int | None:
        """Side in pixels of the windows that image-level features are averaged over in evaluation; None: all cells."""
        return self._pooling_window

    @pooling_window.setter
    def pooling_window(self, side: int | None) -> None:
        self._pooling_window = side
        for module in self.head.modules():
            if isinstance(module, ImagePooling):
                module.window = None if side is None else count_cells(side, self._output_stride, aligned=self.aligned)

    def geometry(self, height: int, width: int) -> Geometry:
        """Return the positions of the logits' cells for an image.

        Args:
            height: Height of the image in pixels.
            width: Width of the image in pixels.
        """
        padded = [self.size_rule.pad(size, self._output_stride) for size in (height, width)]
        stride = self.head.find_stride(self._output_stride)
        return Geometry(height, width, padded[0], padded[1], stride, self.aligned)

    def _locate(self, view: Tensor, stride: int) -> Geometry:
        """Return the positions of cells at another stride than the logits', for an image (B, C, H, W)."""
        return replace(self.geometry(view.shape[2], view.shape[3]), stride=stride)

    def make_blank(self, batch: int, height: int, width: int) -> Tensor:
        """Return images of zeros in the type in which files store them.

        Args:
            batch: Number of images.
            height: Their height in pixels.
            width: Their width in pixels.
        Shapes:
            out (B, C, H, W).
        """
        form = self.backbone.input_spec.form
        shape = (batch, form.channels, height, width)
        return torch.zeros(shape, dtype=getattr(torch, form.dtype), device=self.mean.device)

    def normalise(self, images: Tensor) -> Tensor:
        """(B, C, H, W), see `forward_cells` -> floats with the statistics that the weights expect."""
        form = self.backbone.input_spec.form
        low, high = form.value_range
        if form.dtype == "uint8" and images.is_floating_point():
            low, high = low / 255.0, high / 255.0
        scale = high - low
        mean = self.mean * scale + low if low else self.mean * scale  # an exported graph has no step that adds zero
        return images.to(self.mean.dtype).sub(mean).div_(self.std * scale)

    def forward_cells(self, images: Tensor) -> Cells:
        """Return the logits of the cells with their geometry; losses, scores and predictions enlarge them.

        Shapes:
            in (B, C, H, W), any size from 1x1: values as files store them, in their type or as floats; of 8-bit images
            uint8, or floats in [0, 1]. Out logits (B, K, h, w).
        Raises:
            UsageError: Other types, whose value range is unknown, or another shape.
        """
        form = self.backbone.input_spec.form
        if images.dim() != 4 or images.shape[1] != form.channels:
            kind = "RGB images" if form.is_photo else "images"
            raise UsageError(f"images: got the shape {tuple(images.shape)}", f"Give {kind} (B, {form.channels}, H, W).")
        if images.dtype != getattr(torch, form.dtype) and not images.is_floating_point():
            floats = "in [0, 1]" if form.dtype == "uint8" else "with the same values"
            raise UsageError(f"images: got {images.dtype}", f"Give {form.dtype} or floats {floats}.")
        geometry = self.geometry(*images.shape[2:])
        normalised = self.normalise(images)
        all_logits, deepest, auxiliary = [], [], None
        for scale in self.head.scales:
            view = scale_image(normalised, scale, aligned=self.aligned)
            logits, features = self._run_at_scale(view)
            seen = self.geometry(view.shape[2], view.shape[3])
            all_logits.append(self._place_cells(logits, seen, geometry, scale))
            if len(self.head.scales) > 1:
                deepest.append(
                    self._place_cells(features[-1], self._locate(view, self._output_stride), geometry, scale)
                )
        if self.auxiliary_head is not None and self.training:
            level = self.feature_shapes.levels[self.auxiliary_head.level]
            source = self._locate(view, min(level.native_stride, self._output_stride))
            auxiliary = self._place_cells(self.auxiliary_head(features), source, geometry, self.head.scales[-1])
        return Cells(self.head.fuse(all_logits, deepest), auxiliary, geometry)

    def forward(self, images: Tensor) -> Tensor:
        """Return full-size logits.

        Shapes:
            in (B, C, H, W) as for `forward_cells`; out (B, K, H, W) float32.
        """
        cells = self.forward_cells(images)
        return enlarge_logits(cells.logits, cells.geometry)

    def _run_at_scale(self, view: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        """Run backbone and head on a normalised image; return the logits and all levels, padding included."""
        geometry = self.geometry(*view.shape[2:])
        if self.size_rule != UNPADDED:  # zero is the mean colour
            right, bottom = geometry.padded_width - geometry.width, geometry.padded_height - geometry.height
            view = F.pad(view, (0, right, 0, bottom))
        features = self.backbone(view)
        extent = Extent(self._find_inside(geometry), self.aligned)
        return self.head(features, extent), features

    def _find_inside(self, geometry: Geometry) -> tuple[int, int] | None:
        """Return how many rows and columns of the deepest level have their centre in the image; None for all."""
        if self.image_pooling == "map" or self.size_rule == UNPADDED:
            return None
        stride = self._output_stride
        if not self.aligned:
            return (geometry.height + stride // 2) // stride or 1, (geometry.width + stride // 2) // stride or 1
        return (geometry.height - 1) // stride + 1, (geometry.width - 1) // stride + 1

    def _place_cells(self, cells: Tensor, source: Geometry, target: Geometry, scale: float) -> Tensor:
        """Return a map of the image at a scale, padding included, at the cells of the model's map."""
        is_padded = not self.aligned and self.size_rule != UNPADDED
        if scale != 1.0 or source.stride != target.stride or is_padded:
            return resample_cells(cells, source, target)
        return cells[:, :, : target.map_height, : target.map_width] if self.aligned else cells


def _name_choices(error: ConfigError, planner: Planner, head: Head) -> ConfigError:
    """Return the refusal of an output stride with a hint that lists those that the network can have."""
    possible = []
    for output_stride in sorted({*OUTPUT_STRIDES, planner.native_stride}):
        with suppress(ConfigError):
            planner.require(output_stride)
            head.compute_rates(output_stride)
            possible.append(str(output_stride))
    hint = f"Allowed: {', '.join(possible) or 'none'}."
    return ConfigError(error.message, f"{hint} {error.hint}".strip())
