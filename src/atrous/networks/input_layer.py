"""The first convolution of a backbone for images of other bands than red, green and blue."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from atrous.core.errors import ConfigError
from atrous.core.inputs import InputSpec
from atrous.core.words import describe_count
from atrous.networks.contracts import Backbone

RGB_CHANNELS = 3


def set_input(backbone: Backbone, spec: InputSpec) -> None:
    """Make a backbone of RGB images take other images; new convolutions have random weights, all else stays.

    Args:
        backbone: The network, as it was built.
        spec: The images.
    Raises:
        ConfigError: No convolution of the backbone sees the image alone.
    """
    own = backbone.input_spec.channels
    backbone.input_spec = spec
    if spec.channels == own:
        return
    layers = [module for module in backbone.modules() if isinstance(module, nn.Conv2d) and _sees_image(module, own)]
    if not layers:
        raise ConfigError(
            f"the backbone {type(backbone).__name__} takes {own} bands, and the images have {spec.channels}",
            "Choose another backbone, see `atrous models`.",
        )
    for layer in layers:
        layer.in_channels = spec.channels
        layer.weight = nn.Parameter(layer.weight.new_empty(layer.out_channels, spec.channels, *layer.kernel_size))
        layer.reset_parameters()


def adapt_state(backbone: Backbone, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a file with first convolutions that fit the bands of a backbone.

    Red, green and blue keep their weights where three visible bands are seen among others; each other band gets their
    mean, and so do all bands of images without three visible ones. All of them are multiplied by 3 / C, so that
    activations keep their size.

    Args:
        backbone: The network.
        state: Its tensors from a file, by the names that they have here.
    """
    spec, adapted = backbone.input_spec, dict(state)
    for name, module in backbone.named_modules():
        key = f"{name}.weight"
        if not _sees_image(module, spec.channels) or key not in state or state[key].dim() != 4:
            continue
        weight, own = state[key], backbone.get_parameter(key)
        if weight.shape[1] != spec.channels and weight[:, :1].shape == own[:, :1].shape:
            adapted[key] = _spread(weight, spec)
    return adapted


def describe_adapted(backbone: Backbone, state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Say in a line for the log how the first convolution of a file was adapted; nothing if it was not.

    Args:
        backbone: The network.
        state: The tensors of the file, by its own names.
    """
    named = backbone.adopt_names(state)
    adapted = adapt_state(backbone, named)
    spec = backbone.input_spec
    for name, tensor in named.items():
        if adapted[name] is not tensor:
            given, own = tensor.shape[1], spec.channels
            kept = given == RGB_CHANNELS == len(spec.form.visible_bands)
            how = "red, green and blue kept, the others their mean" if kept else "each the mean of all"
            line = (
                f"weights: {name} for {describe_count(given, 'band')} became one for {own}: {how}, times {given}/{own}"
            )
            return (line,)
    return ()


def _spread(weight: Tensor, spec: InputSpec) -> Tensor:
    """Return the weights (O, c, h, w) of a convolution of c bands for those of a spec."""
    num_given = weight.shape[1]
    spread = weight.mean(dim=1, keepdim=True).repeat(1, spec.channels, 1, 1)
    if num_given == RGB_CHANNELS == len(spec.form.visible_bands):
        spread[:, list(spec.form.visible_bands)] = weight
    return torch.mul(spread, num_given / spec.channels)


def _sees_image(module: nn.Module, channels: int) -> bool:
    return isinstance(module, nn.Conv2d) and module.in_channels == channels and module.groups == 1
