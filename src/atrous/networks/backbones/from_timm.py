"""timm's convolutional networks as backbones. The only file that imports timm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from atrous.core.errors import ConfigError
from atrous.core.registry import nearest_name
from atrous.networks.contracts import Backbone, FeatureLevel, FeatureShapes

PREFIX = "timm/"

_EXACT = """
    cs3darknet_m cspdarknet53 cspresnet50 darknet53 dpn68 efficientnet_em efficientnet_es efficientnet_lite0
    efficientnet_lite1 fbnetc_100 gernet_l gernet_m gernet_s mnasnet_100 mobilenet_edgetpu_100
    mobilenet_edgetpu_v2_m mobilenet_edgetpu_v2_s mobilenetv1_100 mobilenetv1_125 mobilenetv2_050 mobilenetv2_100
    mobilenetv2_120d mobilenetv2_140 mobilenetv4_conv_large mobilenetv4_conv_medium mobilenetv4_conv_small
    mobileone_s0 mobileone_s1 regnetx_002 regnetx_004 regnetx_008 regnetx_016 regnetx_032 regnetx_064 repvgg_a0
    repvgg_a1 repvgg_a2 repvgg_b0 repvgg_b1 repvgg_b1g4 resnet101 resnet152 resnet18 resnet26 resnet34 resnet50
    resnetv2_50 resnext101_32x4d resnext50_32x4d selecsls42b spnasnet_100 starnet_s1 tf_efficientnet_es
    tf_efficientnet_lite0 tf_efficientnet_lite1 tf_efficientnet_lite2 tf_efficientnet_lite3 tf_efficientnet_lite4
    wide_resnet101_2 wide_resnet50_2 xception41 xception65 xception71
"""
_POOLED = """
    eca_resnet33ts efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnetv2_rw_t
    gc_efficientnetv2_rw_t ghostnet_100 hardcorenas_a hardcorenas_f lcnet_100 legacy_seresnet18 legacy_seresnet50
    mixnet_m mixnet_s mnasnet_small mobilenetv3_large_100 mobilenetv3_rw mobilenetv3_small_100 regnety_002
    regnety_004 regnety_008 regnety_016 regnety_032 regnety_040 regnetz_b16 repghostnet_100 repvit_m0_9 rexnet_100
    semnasnet_100 seresnet50 seresnext50_32x4d tf_efficientnet_b0 tf_efficientnet_b1 tf_efficientnet_b2
    tf_efficientnet_b3 tf_efficientnetv2_b0 tf_efficientnetv2_s tf_mobilenetv3_large_100 tinynet_a tinynet_e
"""
VERIFIED: dict[str, str] = dict.fromkeys(_EXACT.split(), "exact") | dict.fromkeys(_POOLED.split(), "pooled")
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

    def forward(self, image: Tensor) -> Sequence[Tensor]:
        """(B, 3, H, W) -> levels."""
        levels: Sequence[Tensor] = self.network(image)
        return levels


def build_timm(name: str) -> TimmBackbone:
    """Build a timm network at its native strides, with random weights.

    Args:
        name: timm's name, without the prefix.
    Raises:
        ConfigError: timm has no such network, or it gives no feature maps.
    """
    import timm

    known = timm.list_models()
    if name.split(".")[0] not in known:
        near = nearest_name(name, list(VERIFIED)) or nearest_name(name, known) or "mobilenetv2_100"
        raise ConfigError(f"timm has no network {name!r}", f"Did you mean {near!r}? `atrous models` lists more.")
    try:
        network = timm.create_model(name, pretrained=False, features_only=True)
    except (RuntimeError, ValueError, AttributeError, KeyError) as error:
        raise ConfigError(
            f"timm/{name} gives no feature maps: {error}", "`atrous models` lists networks that do."
        ) from error
    return TimmBackbone(network, network.pretrained_cfg)
