"""Models that are part of this package: their names, and what is known of them besides the cards in their files.

The table is here and not in networks/, which opens models, because config needs it too: the settings of a run keep such
a name as it is, and make the path of any other file absolute.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from atrous.core.errors import ModelFileError

FOLDER = Path(__file__).parents[1] / "shipped"
"""The folder of the files, `<name>.safetensors`."""


@dataclass(frozen=True)
class Latency:
    """How long a model takes for one image, from pixels in memory to labels in memory, as on its card.

    Args:
        seconds: Median.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        machine: Processor, threads, backend and precision.
    """

    seconds: float
    height: int
    width: int
    machine: str

    def describe(self) -> str:
        """Say it in one line."""
        return f"{1e3 * self.seconds:.0f} ms for {self.width} x {self.height} pixels ({self.machine})"


@dataclass(frozen=True)
class ShippedModel:
    """What is known of a model besides its card.

    Args:
        latency: How long it takes, on the machine that was measured.
    """

    latency: Latency


SHIPPED = {
    "animals": ShippedModel(
        Latency(0.079, 375, 500, "2 threads of an Intel Xeon (AMX), torch, fp32, output stride 16")
    ),
}
"""The models by name. Their data, classes, scores and terms of use are on the cards in their files."""
DEFAULT_MODEL = "animals"
"""The model that labels images where none is named."""


def is_shipped(source: object) -> bool:
    """Return whether a model is given by the name of a shipped one: as a text, which as a path would be `./<name>`.

    Args:
        source: A text or anything else, such as a path, which is never a name.
    """
    return isinstance(source, str) and source in SHIPPED


def find_shipped(name: str) -> Path:
    """Return the file of a shipped model.

    Args:
        name: A key of `SHIPPED`.
    Raises:
        ModelFileError: It is missing.
    """
    path = FOLDER / f"{name}.safetensors"
    if not path.is_file():
        raise ModelFileError(f"{name}: its file {path} is missing", "Install atrous again: the file is part of it.")
    return path


def describe_shadowed(source: object) -> str | None:
    """Return a message if a file or folder has the name of a shipped model, and the name is not its path.

    Args:
        source: A model as it was given.
    """
    if not is_shipped(source) or not Path(str(source)).exists():
        return None
    return f"{source} is the model of this name that is part of atrous; the path here is ./{source}"


def write_path(path: Path) -> str:
    """Return a path as a text that is not the name of a shipped model.

    Args:
        path: The path, such as that of a run in ./animals.
    """
    return str(path.absolute() if str(path) in SHIPPED else path)
