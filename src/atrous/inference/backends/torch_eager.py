"""Runs a live network in PyTorch, at a chosen output stride and precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from atrous.core.errors import MachineError
from atrous.inference.memory import is_out_of_memory, measure_bytes_per_pixel
from atrous.networks.contracts import Cells
from atrous.networks.segmenter import Segmenter


class TorchEager:
    """A network as a function from pictures to cells.

    The network is moved to the device and to the channels-last layout, and stays in evaluation mode. Its output stride
    is another only during a call, so that a living model, or one in training, is found as it was left.

    Args:
        network: The network, which is used and not copied.
        device: Where it runs.
        output_stride: Input resolution / feature resolution of the calls.
        precision: "fp32" or "bf16".
    """

    def __init__(self, network: Segmenter, *, device: torch.device, output_stride: int, precision: str) -> None:
        self.network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.device = device
        self.output_stride = output_stride
        self.precision = precision
        self.num_classes = network.num_classes
        self.aligned = network.aligned

    @torch.inference_mode()
    def __call__(self, pictures: Tensor) -> Cells:
        """(B, 3, H, W) uint8, or floats in [0, 1] -> cells with logits (B, K, h, w).

        Raises:
            MachineError: The memory does not suffice.
            ConfigError: The network cannot be switched to the output stride.
        """
        pictures = pictures.to(self.device, memory_format=torch.channels_last)
        bf16 = torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")
        with _prepared(self.network, self.output_stride), bf16:
            try:
                cells: Cells = self.network.forward_cells(pictures)
                return cells
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                height, width = pictures.shape[2:]
                raise MachineError(
                    f"a picture of {height} x {width} pixels does not fit in the memory of {self.device} "
                    f"at output stride {self.output_stride}",
                    "Label it in windows, such as --window 513, or with a larger output stride or smaller scales.",
                ) from error

    def measure_bytes_per_pixel(self) -> float:
        """Return how much memory a forward pass needs for each pixel of the picture."""
        with _prepared(self.network, self.output_stride):
            return measure_bytes_per_pixel(self.network, self.device)


@contextmanager
def _prepared(network: Segmenter, output_stride: int) -> Iterator[None]:
    """Put the network into evaluation mode, and at another output stride for as long as the block runs."""
    if network.training:  # whoever trains it may have switched it back since the last call
        network.eval()
    before = network.output_stride
    if before == output_stride:
        yield
        return
    network.output_stride = output_stride
    try:
        yield
    finally:
        network.output_stride = before
