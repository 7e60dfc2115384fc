"""A graph whose convolutions compute in 8 bits: ranges from real images, one scale for each channel of weights."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from atrous.graphs.trace import INPUT_NAME


class _Images(CalibrationDataReader):  # type: ignore[misc]
    """Images (H, W, 3) uint8 as the graph takes them."""

    def __init__(self, images: Iterable[np.ndarray]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next one, None after the last."""
        image = next(self._images, None)
        return None if image is None else {INPUT_NAME: np.ascontiguousarray(image.transpose(2, 0, 1)[None])}


def quantise(model: onnx.ModelProto, images: Iterable[np.ndarray]) -> onnx.ModelProto:
    """Return a graph that computes its convolutions in 8 bits where the runtime can.

    Weights have a scale for each output channel; what flows between convolutions has one range, the widest that the
    images showed. The first and the last convolution stay in fp32, which costs little time and keeps a good part of
    the exactness. The graph keeps its form, with quantise and dequantise nodes around convolutions, so that any runtime
    may fuse them.

    Args:
        model: The graph in fp32, norms folded.
        images: What the ranges are read from, (H, W, 3) uint8 each.
    """
    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, quantised = (Path(folder) / f"{name}.onnx" for name in ("plain", "prepared", "quantised"))
        onnx.save(model, plain)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        convolutions = [node.name for node in onnx.load(prepared).graph.node if node.op_type == "Conv"]
        quantize_static(
            prepared,
            quantised,
            _Images(images),
            quant_format=QuantFormat.QDQ,
            # With the activations that follow, a range is what is left after clipping: of ReLU6's, a fraction.
            op_types_to_quantize=["Conv", "Clip", "Relu"],
            nodes_to_exclude=[convolutions[0], convolutions[-1]],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(quantised)
