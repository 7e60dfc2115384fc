"""timm's convolutional networks as backbones. The only file that imports timm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from atrous.core.errors import ConfigError
from atrous.core.inputs import InputSpec
from atrous.core.registry import nearest_name
from atrous.networks.contracts import AtrousPlan, Backbone, FeatureLevel, FeatureShapes
from atrous.networks.weight_files import PublishedFile

PREFIX = "timm/"
HOST = "https://huggingface.co"

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
"""Networks measured at output strides 4 to 32, with the identity of their `AtrousPlan`; others are "not verified"."""


class TimmBackbone(Backbone):
    """The feature maps of a timm network.

    Args:
        network: A timm network built with `features_only=True`.
        name: timm's name of it.
        settings: What timm knows of its published weights: their statistics, place and licence.
    Shapes:
        in (B, 3, H, W); out one (B, C, h, w) per level, shallow to deep.
    """

    def __init__(self, network: nn.Module, name: str, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.network = network
        self.input_spec = InputSpec(tuple(settings["mean"]), tuple(settings["std"]))
        self.strides = AtrousPlan(VERIFIED.get(_cut_tag(name), "not verified"))
        self.imagenet = _find_weights(settings)
        info = network.feature_info
        self.feature_shapes = FeatureShapes(
            tuple(
                FeatureLevel(channels, stride)
                for channels, stride in zip(info.channels(), info.reduction(), strict=True)  # type: ignore[operator, union-attr]
            )
        )

    def forward(self, image: Tensor) -> Sequence[Tensor]:
        """Return the levels, shallow to deep."""
        levels: Sequence[Tensor] = self.network(image)
        return levels

    def adopt_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the published tensors under our names: `features_only` joins some parts with an underscore."""
        own_names = {_join(key): f"network.{key}" for key in self.network.state_dict()}
        return {own_names.get(_join(key), key): tensor for key, tensor in state.items()}


def _join(name: str) -> str:
    return name.replace("_", ".")


def _cut_tag(name: str) -> str:
    """Return timm's name of a network without the tag of its weights, such as "lamb_in1k"."""
    return name.split(".")[0]


def _find_weights(settings: Mapping[str, Any]) -> PublishedFile | None:
    """Return where timm's own settings say that the weights are; files on its hub have no published hash."""
    licence = settings.get("license") or "unknown"
    if hub := settings.get("hf_hub_id"):
        file_name = settings.get("hf_hub_filename") or "model.safetensors"
        url = f"{HOST}/{hub}/resolve/main/{file_name}"
        return PublishedFile(url, licence, f"{hub}/{file_name}".replace("/", "_"))
    return PublishedFile(settings["url"], licence) if settings.get("url") else None


def build_timm(name: str) -> TimmBackbone:
    """Build a timm network at its native strides, with random weights.

    Args:
        name: timm's name, without the prefix.
    Raises:
        ConfigError: timm has no such network, or the network does not return feature maps.
    """
    import timm

    known = timm.list_models()
    if _cut_tag(name) not in known:
        near = nearest_name(name, list(VERIFIED)) or nearest_name(name, known) or "mobilenetv2_100"
        raise ConfigError(f"timm has no network {name!r}", f"Did you mean {near!r}? `atrous models` lists more.")
    try:
        network = timm.create_model(name, pretrained=False, features_only=True)
    except (RuntimeError, ValueError, AttributeError, KeyError) as error:
        raise ConfigError(
            f"timm/{name} does not return feature maps: {error}", "`atrous models` lists networks that do."
        ) from error
    settings: Any = network.pretrained_cfg
    return TimmBackbone(network, name, settings)
