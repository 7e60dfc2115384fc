"""Runs a network in PyTorch, operation by operation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from atrous.core.errors import MemoryShort
from atrous.core.system_errors import is_out_of_memory
from atrous.inference.backends.folding import copy_network
from atrous.inference.memory import measure_bytes_per_pixel
from atrous.networks.contracts import Cells
from atrous.networks.device import list_device_kinds
from atrous.networks.layers.resize import enlarge_logits
from atrous.networks.segmenter import Segmenter

NARROW_PX = 32
"""Images of at most this width, or the output stride, can have maps of a single column; padding widens the others. The
width counts that a network sees: heads that see an image at several scales see it narrower too."""


_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
"""Those of PyTorch's convolution, in their order."""


class _WideConvolutions(TorchFunctionMode):
    """Gives convolutions whose result has one column zeros for a second one, which is taken away again.

    The first is the same, since padding is zero too. Some of oneDNN's bf16 convolutions with one column of output, such
    as 3x3 ones of stride 2 with AMX, read memory that was never written: results differ from call to call.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.conv2d:
            return func(*args, **(kwargs or {}))
        given = dict(zip(_ARGUMENTS, args, strict=False)) | (kwargs or {})
        features, weight, padding = given["input"], given["weight"], given.get("padding", 0)
        place = given.get("stride", 1), given.get("dilation", 1)
        stride, rate = (each if isinstance(each, int) else each[-1] for each in place)
        width, reach = features.shape[-1], rate * (weight.shape[-1] - 1)
        if padding == "same":
            columns = width
        else:
            padding = 0 if padding == "valid" else padding if isinstance(padding, int) else padding[-1]
            columns = (width + 2 * padding - reach - 1) // stride + 1
        if columns != 1:
            return func(**given)
        return func(**given | {"input": F.pad(features, (0, stride))})[..., :1]


class TorchEager:
    """A network as a function from images to cells.

    Args:
        network: The network, in evaluation mode, on the device and at the output stride of the calls. It must not
            change afterwards.
        device: Where it runs.
        precision: "fp32" or "bf16".
    """

    labels_only = False
    is_full_size = False
    precisions: tuple[str, ...] = ("fp32", "bf16")

    def __init__(self, network: Segmenter, *, device: torch.device, precision: str) -> None:
        self._network = network
        self.device = device
        self.precision = precision
        self.num_classes = network.num_classes
        self.aligned = network.aligned
        self._bytes_per_pixel: float | None = None

    @staticmethod
    def list_devices() -> tuple[str, ...]:
        """Return the kinds of device that the backend can use here, the best first."""
        return list_device_kinds()

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Cells:
        """Run the network on a batch of images.

        Shapes:
            in (B, C, H, W), see `Backend`; out cells with logits (B, K, h, w).
        Raises:
            MemoryShort: The images do not fit in memory.
        """
        images = images.to(self.device, memory_format=torch.channels_last)
        with self._choose_arithmetic():
            try:
                if self.precision == "bf16" and self.device.type == "cpu" and self._is_narrow(images.shape[3]):
                    with _WideConvolutions():
                        return self._network.forward_cells(images)
                return self._run(images)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                height, width = images.shape[2:]
                raise MemoryShort(
                    f"an image of {height} x {width} pixels does not fit in the memory of {self.device} "
                    f"at output stride {self._network.output_stride}",
                    "Label it in windows, such as `window=513`, or with a larger output stride or smaller scales.",
                ) from error

    def _run(self, images: Tensor) -> Cells:
        return self._network.forward_cells(images)

    def label(self, images: Tensor) -> Tensor:
        """Return the likeliest class of each pixel; errors as for a call.

        Shapes:
            in (B, C, H, W), see `Backend`; out (B, H, W) class indices.
        """
        cells = self(images)
        return enlarge_logits(cells.logits, cells.geometry).argmax(dim=1)

    def measure_bytes_per_pixel(self) -> float:
        """Return how many bytes of memory a forward pass needs for each pixel of the image."""
        if self._bytes_per_pixel is None:
            with self._choose_arithmetic():
                twin = copy_network(self._network, share_weights=True, keep_hooks=False)
                self._bytes_per_pixel = measure_bytes_per_pixel(twin, self.device)
        return self._bytes_per_pixel

    def _is_narrow(self, width: int) -> bool:
        """Return whether a map can have a single column, at any of the scales at which the network sees the image."""
        seen = int(width * min(1.0, *self._network.head.scales))
        return seen <= max(NARROW_PX, self._network.output_stride)

    def _choose_arithmetic(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")
