"""timm's convolutional networks as backbones. The only file that imports timm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from atrous.core.errors import ConfigError
from atrous.core.inputs import InputSpec
from atrous.core.registry import nearest_name
from atrous.networks.contracts import AtrousPlan, Backbone, FeatureLevel, FeatureShapes
from atrous.networks.names import VERIFIED
from atrous.networks.weight_files import PublishedFile

HOST = "https://huggingface.co"


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
