"""Exponential moving average of the weights; the average is validated and saved."""

from __future__ import annotations

import copy

import torch

from atrous.networks.segmenter import Segmenter


class AveragedNetwork:
    """An exponential moving average of a network's weights and norm statistics, with warm-up.

    The decay at step t is min(decay, (1 + t) / (10 + t)), so that the initial weights do not dominate short runs.

    Args:
        network: The network to average.
        decay: Share of the previous average kept at each step, in [0, 1); with 0 the average equals the network.
    """

    def __init__(self, network: Segmenter, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, network: Segmenter, step: int) -> None:
        """Update the average.

        Args:
            network: The network after a step.
            step: Number of the step, from 0.
        """
        share = 1.0 - min(self.decay, (1 + step) / (10 + step))
        own, new = self.network.state_dict(), network.state_dict()
        floats = [name for name, tensor in own.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([own[name] for name in floats], [new[name] for name in floats], share)
        for name in own.keys() - set(floats):
            own[name].copy_(new[name])
