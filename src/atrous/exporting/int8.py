"""Quantisation of a graph to 8-bit convolutions, calibrated on real images, with one weight scale per channel."""

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
    """Feeds images (H, W, C) in the graph's type to it."""

    def __init__(self, images: Iterable[np.ndarray]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next image (1, C, H, W), or None after the last."""
        image = next(self._images, None)
        return None if image is None else {INPUT_NAME: np.ascontiguousarray(image.transpose(2, 0, 1)[None])}


def quantise(model: onnx.ModelProto, images: Iterable[np.ndarray]) -> onnx.ModelProto:
    """Quantise a graph so that runtimes can compute its convolutions in 8 bits.

    Weights have one scale per output channel. Activations have one range each, the widest observed on the images. The
    first and the last convolution stay in fp32, which costs little time and preserves much of the accuracy. The
    graph keeps its structure, with quantise and dequantise nodes around convolutions, which runtimes can fuse.

    Args:
        model: The graph in fp32, with folded batch norms.
        images: Calibration images, (H, W, C) each, in the form of the network.
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
            # Including activations narrows the ranges to the values after clipping.
            op_types_to_quantize=["Conv", "Clip", "Relu"],
            nodes_to_exclude=[convolutions[0], convolutions[-1]],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(quantised)
