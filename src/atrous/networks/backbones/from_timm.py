"""timm's convolutional networks as backbones. The only file that imports timm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from atrous.core.errors import ConfigError
from atrous.core.registry import describe_choices
from atrous.networks.contracts import Backbone, FeatureLevel, FeatureShapes

PREFIX = "timm/"

VERIFIED: dict[str, str] = {
    "resnet18": "exact",
    "resnet50": "exact",
    "resnext50_32x4d": "exact",
    "mobilenetv2_100": "exact",
    "mobilenetv3_large_100": "pooled",
    "mobilenetv4_conv_small": "exact",
    "tf_efficientnet_lite0": "exact",
    "regnetx_002": "exact",
    "regnety_002": "pooled",
    "xception41": "exact",
    "repvgg_a0": "exact",
}
"""Networks measured at output strides 4 to 32. "exact": features at a smaller stride, subsampled, equal those at a
larger one; "pooled": all but that, since a global average sits inside. Others run marked "not verified"."""


class TimmBackbone(Backbone):
    """A timm network's feature maps.

    Shapes:
        in (B, 3, H, W); out one map a level, shallow to deep.
    """

    def __init__(self, network: nn.Module, statistics: Any) -> None:
        super().__init__()
        self.network = network
        self.mean: tuple[float, float, float] = tuple(statistics["mean"])
        self.std: tuple[float, float, float] = tuple(statistics["std"])
        info = network.feature_info
        self.feature_shapes = FeatureShapes(
            tuple(
                FeatureLevel(channels, stride)
                for channels, stride in zip(info.channels(), info.reduction(), strict=True)  # type: ignore[operator, union-attr]
            )
        )

    def forward(self, picture: Tensor) -> Sequence[Tensor]:
        """(B, 3, H, W) -> levels."""
        levels: Sequence[Tensor] = self.network(picture)
        return levels


def build_timm(name: str) -> TimmBackbone:
    """Build a timm network at its native strides, with random weights.

    Args:
        name: timm's name, without the prefix.
    Raises:
        ConfigError: timm has no such network, or it gives no feature maps.
    """
    import timm

    if name.split(".")[0] not in timm.list_models():
        raise ConfigError(f"timm has no network {name!r}", describe_choices(name, list(VERIFIED)))
    try:
        network = timm.create_model(name, pretrained=False, features_only=True)
    except (RuntimeError, ValueError, AttributeError, KeyError) as error:
        raise ConfigError(
            f"timm/{name} gives no feature maps: {error}", describe_choices(name, list(VERIFIED))
        ) from error
    return TimmBackbone(network, network.pretrained_cfg)
