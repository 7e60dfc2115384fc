"""The switch of what saves time and memory in a training step on a CPU."""

from __future__ import annotations

from torch import nn

from atrous.networks.layers.conv import Conv


def set_lean(network: nn.Module, lean: bool) -> None:
    """Switch the CPU's short cuts of a network's layers on or off; off leaves plain modules, to isolate a fault.

    They are: a norm and its activation whose output is computed again in the backward pass (`recomputation`), the
    ways of atrous convolutions (`ways`), depthwise convolutions in fp32 under autocast, and the gradient of the mean of
    an image (`pooling`).

    Args:
        network: Whose layers are switched; copies made later keep the setting.
        lean: Whether the short cuts are used, as they are by default.
    """
    for module in network.modules():
        if isinstance(module, Conv | nn.BatchNorm2d):
            setattr(module, "lean", lean)  # noqa: B010 - norms are torch's, which declare no such attribute
