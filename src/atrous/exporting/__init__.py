"""Export of networks to files for other runtimes, verified before they receive their final name."""

from atrous.core.errors import ConfigError
from atrous.core.registry import Registry, describe_choices

FORMATS = Registry(
    "format",
    (
        ("onnx", "atrous.exporting.onnx_file:OnnxFile"),
        ("openvino", "atrous.exporting.openvino_ir:OpenVinoIR"),
        ("pt2", "atrous.exporting.torch_program:TorchProgramFile"),
    ),
    extras={"onnx": "onnx", "openvino": "openvino"},
)
"""Formats of graphs by name."""
HALF_MODEL = "safetensors"
"""The format that is no graph: a model file with weights in half precision, see runs/half_model.py."""
PRECISIONS = Registry("precision", (("int8", "atrous.exporting.int8:quantise"),), extras={"int8": "onnx"})
"""Functions that convert a graph to a lower precision."""


def require_format(name: str) -> None:
    """Refuse a name that is no format.

    Raises:
        ConfigError: `name` is neither a format of graphs nor that of model files.
    """
    names = [*FORMATS, HALF_MODEL]
    if name not in names:
        raise ConfigError(f"unknown format {name!r}", describe_choices(name, names))
