"""Which way each atrous convolution of a network is computed on this machine, and why; nothing is computed for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from atrous.graphs.atrous_form import Rewriting
from atrous.inference.backends.folding import copy_network
from atrous.networks.layers import ways
from atrous.networks.layers.atrous import Way
from atrous.networks.layers.conv import Conv
from atrous.networks.layers.lean import set_lean
from atrous.networks.layers.ways import Reasoned, explain_ways, find_taps
from atrous.networks.segmenter import Segmenter
from atrous.networks.shape_rules import ShapeRules

PARTS = {"output": "output", "of_features": "features' gradient", "of_weight": "weight gradient"}
"""How the parts of a convolution are called in messages."""
OTHER_DEVICE = "other ways are for CPUs"
PLAIN = "a compiled or converted network keeps the plain form"
REWRITTEN = "the graph is rewritten, which is faster in this runtime"
SWITCHED_OFF = "training.lean is off"
PLAIN_CLASS = "it is a plain nn.Conv2d, of a backbone with one fixed stride"
NOT_CENTRED = "other ways are for centred convolutions of stride 1"


@dataclass(frozen=True)
class ConvolutionWays:
    """A convolution of a network, and how each part of it is computed.

    Args:
        name: Dotted name of its module.
        channels, filters: Channels of its input and output.
        groups: Groups of channels; as many as channels if it is depthwise.
        kernel: Height and width of the filter.
        rate: Distance between taps in cells, vertical and horizontal.
        map: Height and width of its input in cells.
        output, of_features, of_weight: How its output and, in training, its two gradients are computed.
        why: Why, by the name of the part.
    """

    name: str
    channels: int
    filters: int
    groups: int
    kernel: tuple[int, int]
    rate: tuple[int, int]
    map: tuple[int, int]
    output: Way
    of_features: Way
    of_weight: Way
    why: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON."""
        return asdict(self)


@torch.no_grad()
def list_convolutions(
    network: Segmenter,
    size: tuple[int, int],
    *,
    precision: str,
    device: torch.device,
    output_stride: int | None = None,
    is_training: bool = False,
    is_plain: bool = False,
    rewriting: Rewriting | None = None,
) -> tuple[ConvolutionWays, ...]:
    """Return the atrous convolutions of a network, and others that are not computed in the library's way.

    Args:
        network: The network, which is left as it is.
        size: Height and width of the image in pixels.
        precision: fp32 or bf16.
        device: Where it is computed.
        output_stride: Input resolution / feature resolution. Default: the network's.
        is_training: Whether the output is computed as in a training.
        is_plain: Whether the network is compiled or converted, as some backends do.
        rewriting: Which convolutions of a converted network are rewritten. None: none are.
    Raises:
        ConfigError: The network cannot have the output stride.
    """
    twin = copy_network(network, share_weights=True, keep_hooks=False)
    if output_stride is not None:
        twin.output_stride = output_stride
    twin.eval().training = is_training  # of which the auxiliary head depends
    is_lean = {name: isinstance(module, Conv) and module.lean for name, module in twin.named_modules()}
    set_lean(twin, False)
    seen: dict[tuple[str, tuple[int, int]], ConvolutionWays] = {}

    def observe(name: str) -> Any:
        def hook(conv: nn.Conv2d, inputs: tuple[Tensor, ...]) -> None:
            features = inputs[0]
            explain = partial(_explain, conv, features, precision, device, is_lean=is_lean[name])
            cells = (int(features.shape[2]), int(features.shape[3]))
            output = explain(is_training=is_training)[0]
            if is_plain:
                is_rewritten = rewriting is not None and rewriting.includes(conv.dilation, conv.in_channels)
                is_rewritten = is_rewritten and conv.groups == 1 and find_taps(conv) is not None
                output = ("taps", REWRITTEN) if is_rewritten else ("library", PLAIN)
            _, of_features, of_weight = explain(is_training=True)
            parts = output, of_features, of_weight
            if max(conv.dilation) > 1 or any(way != "library" for way, _ in parts):
                seen[name, cells] = ConvolutionWays(
                    name,
                    conv.in_channels,
                    conv.out_channels,
                    conv.groups,
                    (conv.kernel_size[0], conv.kernel_size[1]),
                    (conv.dilation[0], conv.dilation[1]),
                    cells,
                    output[0],
                    of_features[0],
                    of_weight[0],
                    {part: why for part, (_, why) in zip(PARTS, parts, strict=True)},
                )

        return hook

    for name, module in twin.named_modules():
        if isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1:
            module.register_forward_pre_hook(observe(name))
    # On the network's device: PyTorch's own rules for the meta device, for what has none here, take seconds to import.
    with ShapeRules():
        twin.forward_cells(twin.make_blank(1, *size))
    return tuple(seen.values())


def _explain(
    conv: nn.Conv2d, features: Tensor, precision: str, device: torch.device, *, is_lean: bool, is_training: bool
) -> tuple[Reasoned, Reasoned, Reasoned]:
    """Return how `Conv.forward` computes a convolution, and its gradients, and why."""
    taps = find_taps(conv)
    if taps is None or not is_lean or device.type != "cpu":
        own = SWITCHED_OFF if isinstance(conv, Conv) else PLAIN_CLASS
        why = OTHER_DEVICE if device.type != "cpu" else NOT_CENTRED if taps is None else own
        return (("library", why),) * 3
    is_depthwise = conv.groups == conv.in_channels > 1
    is_narrow = precision == "bf16" and not (is_training and is_depthwise)  # which trains in fp32
    return explain_ways(taps, features, dtype=torch.bfloat16 if is_narrow else torch.float32, kind=ways.KIND)


def describe_convolutions(convolutions: Iterable[ConvolutionWays], device: torch.device) -> str:
    """Return how many parts of convolutions are computed in each way and on what, in one line.

    Args:
        convolutions: The convolutions of a training.
        device: Where it computes. The kind of the CPU counts only if it is one.
    """
    listed = list(convolutions)
    parts = []
    for field, words in PARTS.items():
        counts = Counter(getattr(each, field) for each in listed)
        parts.append(f"{words} {', '.join(f'{counts[way]} by {way}' for way in sorted(counts))}")
    return f"convolutions on {ways.KIND if device.type == 'cpu' else device.type}: " + (
        "; ".join(parts) if listed else "all by library"
    )
