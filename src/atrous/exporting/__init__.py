"""From a living network to a file that other runtimes run, checked before it gets its name."""

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
"""Kinds of files."""
PRECISIONS = Registry("precision", (("int8", "atrous.exporting.int8:quantise"),), extras={"int8": "onnx"})
"""What makes a graph compute in fewer bits."""
