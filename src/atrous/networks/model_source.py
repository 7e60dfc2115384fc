"""Which model a path or a name stands for, found out without opening it."""

from __future__ import annotations

from pathlib import Path

from atrous.core.data_source import expand_path
from atrous.core.errors import ModelFileError
from atrous.core.paths import suggest_path
from atrous.core.records import Note
from atrous.core.run_folder import MODEL_NAME
from atrous.core.shipped import DEFAULT_MODEL, SHIPPED, find_shipped, is_shipped
from atrous.core.words import describe_count
from atrous.networks.model_card import read_card
from atrous.networks.published import TORCHVISION, name_torchvision_classes, read_torchvision_settings

_KINDS = (
    "Give a run folder, a .safetensors or .pth file, a file that `atrous export` wrote, or the name of a model: "
    f"{', '.join(SHIPPED)}."
)


def describe_default() -> Note:
    """Return a message that names the model that is used where none is named, its data and its classes.

    Raises:
        ModelFileError: Its file is missing or damaged.
    """
    card = read_card(find_shipped(DEFAULT_MODEL))
    trained = card.data if card.num_images is None else f"{card.data}, {describe_count(card.num_images, 'image')}"
    names = ", ".join(card.label_space.names)
    message = f"no model is named, so {DEFAULT_MODEL} labels the images: trained on {trained}; classes {names}"
    return Note("default-model", message)


def find_model(source: str | Path) -> Path:
    """Return the file of a model.

    Args:
        source: A file, a run folder, or the name of a published model, such as torchvision/deeplabv3_resnet50. A text
            may also be the name of a shipped model, which precedes a file or folder of this name, `./<name>`.
    Returns:
        The file; the name of a published model as it is.
    Raises:
        ModelFileError: There is no such file or name, or the folder holds no model.
    """
    if isinstance(source, str) and is_shipped(source):
        return find_shipped(source)
    path = expand_path(source) if isinstance(source, str) else source
    if path.is_dir():
        if not (path / MODEL_NAME).is_file():
            raise ModelFileError(f"{path}: holds no {MODEL_NAME}", "Give a run folder that has finished a validation.")
        return path / MODEL_NAME
    if not path.exists():
        if path.as_posix().startswith(TORCHVISION):
            read_torchvision_settings(path.as_posix())
            return path
        raise ModelFileError(f"{path}: no such file or folder", f"{suggest_path(path, list(SHIPPED))}{_KINDS}")
    return path


def read_class_names(weights: str) -> tuple[str, ...]:
    """Return the names of the classes of the model that weights come from.

    Args:
        weights: none, imagenet, or what `find_model` finds.
    Returns:
        The names; none where a file has no card: tensors of a backbone, a state dict.
    Raises:
        ModelFileError: There is no such file or name, or the folder holds no model.
    """
    if weights in ("none", "imagenet"):
        return ()
    path = find_model(weights)
    if not path.is_file():
        return name_torchvision_classes(path.as_posix()).names
    try:
        return read_card(path).label_space.names
    except ModelFileError:
        return ()


def name_weights(weights: str) -> str:
    """Return what a card calls weights that were given as a setting: of a file or a folder its name alone."""
    path = expand_path(weights)
    return path.name if path.is_absolute() else weights


def read_terms(weights: str) -> tuple[str, ...] | None:
    """Return the terms of use on the card of the model that weights come from.

    Args:
        weights: none, imagenet, or what `find_model` finds.
    Returns:
        The terms; None if there is no such file, or one without a card: tensors of a backbone, and published weights.
    """
    if weights in ("none", "imagenet"):
        return ()
    try:
        return read_card(find_model(weights)).data_terms
    except ModelFileError:
        return None
