"""Runs a live network in PyTorch, at a chosen output stride and precision."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor

from atrous.core.errors import MachineError
from atrous.inference.backends.folding import fold_norms
from atrous.inference.memory import measure_bytes_per_pixel
from atrous.networks.contracts import Cells
from atrous.networks.device import is_out_of_memory
from atrous.networks.layers.resize import enlarge_logits
from atrous.networks.segmenter import Segmenter


class TorchEager:
    """A network as a function from images to cells.

    What runs is a copy on the device, in the channels-last layout, with norms folded into convolutions; the network
    itself is left as it is, and may go on learning.

    Args:
        network: The network; what it has learnt until a call counts in the call.
        device: Where it runs.
        output_stride: Input resolution / feature resolution of the calls.
        precision: "fp32" or "bf16".
    """

    labels_only = False
    is_full_size = False
    precisions = ("fp32", "bf16")

    def __init__(self, network: Segmenter, *, device: torch.device, output_stride: int, precision: str) -> None:
        self._network = network
        self.device = device
        self.output_stride = output_stride
        self.precision = precision
        self.num_classes = network.num_classes
        self.aligned = network.aligned

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Cells:
        """(B, 3, H, W) uint8, or floats in [0, 1] -> cells with logits (B, K, h, w).

        Raises:
            MachineError: The memory does not suffice.
            ConfigError: The network cannot be switched to the output stride.
        """
        images = images.to(self.device, memory_format=torch.channels_last)
        with self._borrow_copy() as network, self._choose_arithmetic():
            try:
                return self._run(network, images)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                height, width = images.shape[2:]
                raise MachineError(
                    f"an image of {height} x {width} pixels does not fit in the memory of {self.device} "
                    f"at output stride {self.output_stride}",
                    "Label it in windows, such as --window 513, or with a larger output stride or smaller scales.",
                ) from error

    def _run(self, network: Segmenter, images: Tensor) -> Cells:
        return network.forward_cells(images)

    def label(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> class indices (B, H, W)."""
        cells = self(images)
        return enlarge_logits(cells.logits, cells.geometry).argmax(dim=1)

    def measure_bytes_per_pixel(self) -> float:
        """Return how much memory a forward pass needs for each pixel of the image."""
        with self._borrow_copy() as network, self._choose_arithmetic():
            return measure_bytes_per_pixel(network, self.device)

    def _choose_arithmetic(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def _borrow_copy(self) -> AbstractContextManager[Segmenter]:
        """Lend the folded copy at the output stride of the calls."""
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        return fold_norms(self._network, self.device, dtype, output_stride=self.output_stride)
