"""From a network and an image to labels, confidence and files."""

from atrous.core.registry import Registry

BACKENDS = Registry(
    "backend",
    (
        ("torch", "atrous.inference.backends.torch_eager:TorchEager"),
        ("compile", "atrous.inference.backends.torch_compiled:TorchCompiled"),
        ("onnxruntime", "atrous.inference.backends.onnx_session:OnnxSession"),
        ("openvino", "atrous.inference.backends.openvino_model:OpenVinoModel"),
        ("pt2", "atrous.inference.backends.torch_program:TorchProgram"),
    ),
    extras={"onnxruntime": "onnx", "openvino": "openvino"},
)
"""What can run a network: a living one, or files that were exported."""

HUGE_FORMATS = Registry(
    "format of huge images", (("tiff", "atrous.inference.folders.huge:label_tiff"),), extras={"tiff": "tiff"}
)
"""What labels a file whose image is larger than memory, and writes the labels, a part at a time."""

CONVERTERS = Registry("conversion", (("onnx", "atrous.graphs.onnx_file:convert_to_onnx"),), extras={"onnx": "onnx"})
"""What makes a graph of a network for runtimes other than PyTorch."""
