"""The crop of a training: large enough for the rates of the network, and not larger than images need."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace

import torch

from atrous.config.schema import Config, TrainingConfig
from atrous.core.errors import ConfigError
from atrous.core.findings import Finding
from atrous.core.inputs import InputSpec
from atrous.core.words import describe_count, spell_path
from atrous.metrics.receptive_field import compute_tap_share
from atrous.networks.build import build_network
from atrous.networks.rates import RATE_STRIDE
from atrous.networks.segmenter import Segmenter

CROP_STEP_PX = 32
"""Crops are proposed as a multiple of this plus one."""


def settle_crop(
    config: Config, num_classes: int, longest_side_px: int, *, is_given: bool
) -> tuple[Config, Finding | None]:
    """Return settings whose crop follows the size of the images, unless one is given, and what has to be said of it.

    Args:
        config: All settings.
        num_classes: Scored classes.
        longest_side_px: Longest side of all training images.
        is_given: Whether the user gave the crop. It also stays where image-level features are averaged over windows of
            its size.
    """
    with torch.device("meta"):  # no memory and no random numbers
        network = build_trainable(config, num_classes)
    is_chosen = not is_given and config.model.image_pooling != "crop_window"
    if is_chosen:
        config = set_crop(config, choose_crop(network, longest_side_px))
    found = describe_crop(network, config.training.crop, longest_side_px, is_chosen=is_chosen)
    if found is not None and found.command:
        found = replace(found, command=found.command.replace("DATA", shlex.quote(spell_path(config.data.source)), 1))
    return config, found


def set_crop(config: Config, crop: int) -> Config:
    """Return settings with another crop.

    Args:
        config: All settings.
        crop: Side of the crop in pixels.
    """
    return config.model_copy(update={"training": config.training.model_copy(update={"crop": crop})})


def build_trainable(config: Config, num_classes: int, input_spec: InputSpec | None = None) -> Segmenter:
    """Build the network of a training with random weights.

    Args:
        config: All settings.
        num_classes: Scored classes.
        input_spec: The images that it takes. Default: RGB of 8 bits.
    Raises:
        ConfigError: An unknown name or option, an output stride that the network cannot have, or a crop that is too
            small for its rates.
    """
    network = build_network(config.model, num_classes, input_spec)
    require_cells(network, config.training.crop)
    return network


def require_cells(network: Segmenter, crop: int) -> None:
    """Refuse a crop on which a rate reaches no cell: its side taps would stay random and act on larger images.

    Args:
        network: The network at its output stride.
        crop: Side of the crop in pixels.
    Raises:
        ConfigError: A rate of the head reaches beyond every cell of the crop.
    """
    stride = network.output_stride
    cells = (crop - 1) // stride + 1
    rates = network.head.compute_rates(stride)
    if rates and max(rates) >= cells:
        fitting, needed = propose_rates(network, crop), find_smallest_crop(network)
        raise ConfigError(
            f"training.crop: at {crop} pixels the feature map is {describe_count(cells, 'cell')} wide, and rate "
            f"{max(rates)} reaches beyond it: rates {_join(rates)} at output stride {stride} need {needed} pixels",
            f"Use `crop={needed}` or more"
            + (f", or rates for this crop: `set` model.head.rates='{fitting}'" if fitting else "")
            + ", or a model without rates, such as `model=fcn-lite0`.",
        )


def find_smallest_crop(network: Segmenter) -> int:
    """Return the smallest crop, 32k + 1 pixels, on which every rate of a network reaches a cell."""
    return _round_up(max(network.head.compute_rates(network.output_stride), default=0) * network.output_stride + 1)


def describe_taps(cells: int, rates: Sequence[int]) -> str:
    """Say how much of each atrous convolution of the head falls inside the feature map of a crop.

    Args:
        cells: Side of the map in cells.
        rates: Rates of the head at its output stride, in cells.
    """
    if not rates:
        return f"atrous taps: the head has no rates ({cells} x {cells} cells a crop)"
    shares = ", ".join(f"{compute_tap_share(cells, rate):.0%} at rate {rate}" for rate in rates)
    return f"atrous taps: of the taps of a 3x3 filter are inside the {cells} x {cells} cells of a crop: {shares}"


def propose_rates(network: Segmenter, crop: int) -> list[int]:
    """Return rates in the proportions of a network's own whose side taps all reach a cell of a crop; none may exist.

    Args:
        network: The network at its output stride.
        crop: Side of the crop in pixels.
    """
    stride, own = network.output_stride, network.head.rates
    step = max(stride // RATE_STRIDE, 1)  # rates are given at stride 16, and are whole numbers at every stride
    largest = ((crop - 1) // stride * stride) // RATE_STRIDE // step * step
    scaled = {max(rate * largest // max(own) // step, 1) * step for rate in own} if own else set()
    return sorted(scaled) if largest > 0 else []


def choose_crop(network: Segmenter, longest_side_px: int) -> int:
    """Choose the crop of a training for which none is given: the default, or less where all images are smaller.

    Args:
        network: The network at its output stride; the crop is not so small that one of its rates reaches no cell.
        longest_side_px: Longest side of all training images.
    """
    return min(TrainingConfig().crop, max(_round_up(longest_side_px), find_smallest_crop(network)))


def describe_crop(network: Segmenter, crop: int, longest_side_px: int, *, is_chosen: bool) -> Finding | None:
    """Say how a crop goes with small images; nothing where images are not smaller.

    Args:
        network: The network at its output stride.
        crop: Side of the crop in pixels.
        longest_side_px: Longest side of all training images.
        is_chosen: Whether the crop was chosen automatically.
    """
    covering, longest = _round_up(longest_side_px), describe_count(longest_side_px, "pixel")
    if crop <= covering:
        message = f"crop {crop}: no image has more than {longest} a side"
        return Finding("crop-chosen", "note", 1, message) if is_chosen and crop < TrainingConfig().crop else None
    message = f"crop {crop} is larger than every image, which has at most {longest} a side"
    if covering < find_smallest_crop(network):
        rates = propose_rates(network, covering)
        message += f"; rates {_join(network.head.rates)} need {find_smallest_crop(network)}"
        advice = f"`crop={covering}` `set` model.head.rates='{rates}'" if rates else ""
        command = "atrous train DATA --crop N --set model.head.rates='RATES'".replace("RATES", str(rates))
    else:
        advice = f"`crop={covering}`"
        command = "atrous train DATA --crop N"
    message = f"{message}; {advice} is faster" if advice else message
    code = "crop-larger-than-images"
    if is_chosen or not advice:  # no smaller one is possible
        return Finding(code, "note", 1, message)
    return Finding(code, "warning", 1, message, fix=f"Write {advice}.", command=command.replace("N", str(covering)))


def _round_up(side: int) -> int:
    """Return the smallest 32k + 1 that is not below a number of pixels."""
    return -(-(side - 1) // CROP_STEP_PX) * CROP_STEP_PX + 1


def _join(rates: Sequence[int]) -> str:
    return ", ".join(map(str, rates))
