"""The table of data sets, and the one rule that says which data a `data.source` names and where they are.

The table is here and not in data/, which reads the data, because config needs it too: the settings in an
`atrous.yaml` are found by the same rule as the images beside it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from atrous.core.errors import DataError, UsageError
from atrous.core.paths import refuse_empty, suggest_path
from atrous.core.registry import Registry
from atrous.core.run_folder import RunFolder
from atrous.core.shipped import is_shipped

DRAWN = "drawn"
"""Tag of data sets that have no files."""
DATASETS = Registry(
    "data set",
    (
        ("shapes", "atrous.data.datasets.shapes:build_shapes", DRAWN),
        ("camvid", "atrous.data.datasets.camvid:build_camvid"),
        ("voc", "atrous.data.datasets.voc:build_voc"),
        ("cityscapes", "atrous.data.datasets.cityscapes:build_cityscapes"),
        ("ade20k", "atrous.data.datasets.ade20k:build_ade20k"),
        ("folder", "atrous.data.datasets.folder:build_folder"),
    ),
)
TERMS = {
    "camvid": "CamVid is for non-commercial use (CC BY-NC-SA)",
    "voc": "PASCAL VOC is for research, and its photographs are subject to the terms of Flickr",
    "cityscapes": "Cityscapes is for non-commercial use, such as research and teaching",
    "ade20k": "ADE20K is for non-commercial research and education",
}
"""What the owners of registered data sets allow; models that are trained on them keep it on their cards."""
FOLDER = "folder"
"""The entry of `DATASETS` that reads a folder of the user's own images."""
PYTHON_SOURCE = "python"
"""`data.source` of data that were given as Python objects. A folder of this name is given as ./python."""
SETTINGS_NAME = "atrous.yaml"
"""Name of the file in a data folder that holds the settings of its data."""
MODEL_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".onnx", ".xml", ".pt2")
"""Suffixes of files that may be given as models, never as data."""
ROOT_VARIABLE = "ATROUS_DATA"
"""Environment variable with the folder that holds the registered data sets."""


@dataclass(frozen=True)
class DataSource:
    """What a `data.source` names.

    Args:
        dataset: Name of the data set, which may be unknown to `DATASETS`.
        root: Its folder, which need not exist; None if the data set is registered and no folder is known.
        settings: Its `atrous.yaml`; None if there is none.
        is_settings_named: Whether the source names that file instead of the folder.
    """

    dataset: str
    root: Path | None
    settings: Path | None = None
    is_settings_named: bool = False

    def __str__(self) -> str:
        """Return the source that names the same data by their folder."""
        if self.root is None:
            return self.dataset
        return str(self.root) if self.dataset == FOLDER else f"{self.dataset}={self.root}"


def resolve_source(source: str, root: str | None = None) -> DataSource:
    """Find out which data a source names and where they are.

    A source is a registered name (`camvid`), a name with its folder (`camvid=PATH`), a folder, or an `atrous.yaml`
    (also as `camvid=PATH/atrous.yaml`). An existing path that contains `=` is a path. `~` is the home folder.

    Args:
        source: The text to resolve, not empty.
        root: Folder that holds the registered data sets. Default: the value of the variable ATROUS_DATA.
    """
    if source == PYTHON_SOURCE:
        return DataSource(PYTHON_SOURCE, None)
    name, equals, place = source.partition("=")
    path = expand_path(source)
    if equals and "/" not in name and not path.exists():
        return _find_settings(name, expand_path(place))
    if source in DATASETS and source != FOLDER:
        parent = None if source in DATASETS.find_tagged(DRAWN) else root or os.environ.get(ROOT_VARIABLE)
        return _find_settings(source, expand_path(parent) / source) if parent else DataSource(source, None)
    return _find_settings(FOLDER, path)


def require_source(text: str, root: str | None = None) -> DataSource:
    """Resolve a source whose data set has to be known and whose folder has to exist.

    Args:
        text: See `resolve_source`.
        root: See `resolve_source`.
    Raises:
        ConfigError: The data set is unknown.
        UsageError: The data were Python objects, the source is a run or a model, or the folder is an empty text.
        DataError: There is no such folder.
    """
    source = resolve_source(text, root)
    if source.dataset == PYTHON_SOURCE:
        raise UsageError(
            "the data of this run were Python objects, which its settings cannot hold",
            "Name a folder or a data set, or give the objects to atrous.train and atrous.evaluate.",
        )
    DATASETS.require(source.dataset)
    name, equals, place = text.partition("=")
    if equals and source.dataset == name:
        refuse_empty(place, f"the folder in {text!r}")
    if source.root is None:
        if source.dataset not in DATASETS.find_tagged(DRAWN):
            message = f"no folder for the data set {source.dataset!r}: no `data_root`, and {ROOT_VARIABLE} is not set"
            raise DataError(message, _describe_ways(source.dataset))
    elif not source.root.is_dir():
        raise _describe_missing(text, source.dataset, source.root)
    elif (run := RunFolder(source.root)).is_run and (run.model.is_file() or run.checkpoint.is_file()):
        raise UsageError(f"{text} is a run, not data", "Give the folder that holds images and masks.")
    return source


def _describe_ways(name: str) -> str:
    return f"Give its folder: {name}=PATH; or the folder that holds {name}/: `data_root=PATH`, or {ROOT_VARIABLE}=PATH."


def _describe_missing(text: str, dataset: str, root: Path) -> DataError | UsageError:
    """Return an error about a folder that does not exist."""
    if (dataset == FOLDER and is_shipped(text)) or (root.suffix in MODEL_SUFFIXES and root.is_file()):
        return UsageError(f"{text} is a model, not data", "Give the folder that holds images and masks.")
    if root.is_file():
        return DataError(f"{text} is a file, not a folder", "Give the folder that holds images and masks.")
    if dataset != FOLDER:
        message = f"data set {dataset!r}: no folder {root}"
        return DataError(message, f"{suggest_path(root)}{_describe_ways(dataset)}")
    registered = f"Registered data sets: {', '.join(list_registered())}."
    if root.suffix in (".yaml", ".yml"):
        return DataError(f"no file {text}", f"{suggest_path(root)}{registered}")
    return DataError(f"no folder {text}", f"{suggest_path(root, list_registered())}{registered}")


def list_registered() -> list[str]:
    """Return the names of the data sets that a source may consist of; a folder is given by its path."""
    return [name for name in DATASETS if name != FOLDER]


def expand_path(text: str) -> Path:
    """Return a path whose leading `~` is the home folder; it is kept where no home folder is known."""
    return Path(os.path.expanduser(text))  # Path.expanduser raises without a home folder


def _find_settings(dataset: str, path: Path) -> DataSource:
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return DataSource(dataset, path.parent, path, is_settings_named=True)
    settings = path / SETTINGS_NAME
    return DataSource(dataset, path, settings if settings.is_file() else None)
