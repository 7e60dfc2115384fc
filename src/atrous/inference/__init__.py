"""From a network and an image to labels, confidence and files."""

from atrous.core.registry import Registry

BACKENDS = Registry(
    "backend",
    (
        ("torch", "atrous.inference.backends.torch_eager:TorchEager", "network", "bf16"),
        ("compile", "atrous.inference.backends.torch_compiled:TorchCompiled", "network", "bf16"),
        ("onnxruntime", "atrous.inference.backends.onnx_session:OnnxSession", ".onnx"),
        ("openvino", "atrous.inference.backends.openvino_model:OpenVinoModel", ".onnx", ".xml", "bf16"),
        ("pt2", "atrous.inference.backends.torch_program:TorchProgram", ".pt2"),
    ),
    extras={"onnxruntime": "onnx", "openvino": "openvino"},
)
"""What runs a network. The tags say what a backend runs: networks, or exported files by their suffix; and networks in
bf16, known before the backend is imported.

A backend that runs .onnx files also runs networks, which are converted first. The first backend in the table that can
run something is the default for it.
"""

HUGE_FORMATS = Registry(
    "format of huge images", (("tiff", "atrous.inference.folders.huge:label_tiff"),), extras={"tiff": "tiff"}
)
"""What labels a file whose image is larger than memory, and writes the labels, a part at a time."""

PLACED_FORMATS = Registry(
    "format with a place", (("tiff", "atrous.images.tiff:save_placed_labels"),), extras={"tiff": "tiff"}
)
"""What writes the labels of an image with its place on the Earth."""

CONVERTERS = Registry(
    "conversion",
    (("onnx", "atrous.graphs.onnx_file:convert_to_onnx"), ("taps", "atrous.graphs.taps:rewrite_atrous")),
    extras={"onnx": "onnx", "taps": "onnx"},
)
"""What makes a graph of a network for runtimes other than PyTorch, and what rewrites its atrous convolutions."""
