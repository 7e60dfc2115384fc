"""Which model a path or a name stands for, found out without opening it."""

from __future__ import annotations

from pathlib import Path

from atrous.core.errors import ModelFileError
from atrous.core.paths import suggest_path
from atrous.core.run_folder import MODEL_NAME
from atrous.networks.published import TORCHVISION, read_torchvision_settings

_KINDS = "Give a run folder, a .safetensors or .pth file, or a file that `atrous export` wrote."


def find_model(path: Path) -> Path:
    """Return the file of a model.

    Args:
        path: A file, a run folder, or the name of a published model, such as torchvision/deeplabv3_resnet50.
    Returns:
        The file; the name of a published model as it is.
    Raises:
        ModelFileError: There is no such file or name, or the folder holds no model.
    """
    if path.is_dir():
        if not (path / MODEL_NAME).is_file():
            raise ModelFileError(f"{path}: holds no {MODEL_NAME}", "Give a run folder that has finished a validation.")
        return path / MODEL_NAME
    if not path.exists():
        if path.as_posix().startswith(TORCHVISION):
            read_torchvision_settings(path.as_posix())
            return path
        raise ModelFileError(f"{path}: no such file or folder", f"{suggest_path(path)}{_KINDS}")
    return path
