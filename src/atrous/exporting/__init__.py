"""Export of networks to files for other runtimes, verified before they receive their final name."""

from atrous.core.registry import Registry

FORMATS = Registry(
    "format",
    (
        ("onnx", "atrous.exporting.onnx_file:OnnxFile"),
        ("openvino", "atrous.exporting.openvino_ir:OpenVinoIR"),
        ("pt2", "atrous.exporting.torch_program:TorchProgramFile"),
    ),
    extras={"onnx": "onnx", "openvino": "openvino"},
)
"""File formats by name."""
PRECISIONS = Registry("precision", (("int8", "atrous.exporting.int8:quantise"),), extras={"int8": "onnx"})
"""Functions that convert a graph to a lower precision."""
