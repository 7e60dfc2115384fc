"""Names of models, checked without building one; and the timm networks that were verified."""

from __future__ import annotations

from typing import Literal

from atrous.core.errors import ConfigError
from atrous.core.registry import describe_choices, list_nearest
from atrous.networks import BACKBONES, FAMILIES

TIMM = "timm/"
"""Beginning of the names of timm's backbones."""
NAMES_SHOWN = 3
"""Model names that a message suggests for an unknown one; there are too many to list."""

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
VERIFIED: dict[str, Literal["exact", "pooled"]] = {
    **dict.fromkeys(_EXACT.split(), "exact"),
    **dict.fromkeys(_POOLED.split(), "pooled"),
}
"""Networks of timm measured at output strides 4 to 32, with the identity of their `AtrousPlan`; others are not."""


def split_name(name: str) -> tuple[str, str]:
    """Split a model's name into family and backbone.

    Raises:
        ConfigError: The name is not `<family>-<backbone>` with both known.
    """
    for family in sorted(FAMILIES, key=len, reverse=True):
        if name.startswith(f"{family}-"):
            backbone = name.removeprefix(f"{family}-")
            if backbone.startswith(TIMM):
                return family, backbone
            if backbone in BACKBONES:
                return family, backbone
            raise ConfigError(
                f"model.name: unknown backbone {backbone!r}", describe_choices(backbone, [*BACKBONES, "timm/<name>"])
            )
    names = [f"{family}-{backbone}" for family in FAMILIES for backbone in BACKBONES]
    raise ConfigError(
        f"model.name: unknown model {name!r}",
        f"Did you mean {' or '.join(map(repr, list_nearest(name, names, NAMES_SHOWN)))}? See `atrous models`.",
    )
