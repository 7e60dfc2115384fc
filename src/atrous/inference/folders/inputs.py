"""What a user may give to be labelled: files, folders, globs, arrays; and the name each result gets."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atrous.core.errors import UsageError
from atrous.core.inputs import PHOTO, ImageForm
from atrous.core.paths import refuse_empty, suggest_path
from atrous.core.walking import walk_folder
from atrous.images.bands import Bands, load_bands
from atrous.images.decode import IMAGE_SUFFIXES


@dataclass(frozen=True)
class ImageFile:
    """An image on the disk.

    Args:
        path: The file.
        key: What its results are called below the output folder, a path without suffix such as "a/photo".
    """

    path: Path
    key: str


def require_input(source: str | Path) -> None:
    """Refuse a file, folder or glob that does not exist, without listing what is in it.

    Raises:
        UsageError: It is empty, there is no such file or folder, or no file matches.
    """
    refuse_empty(source, "an input")
    path = Path(source)
    if path.exists():
        return
    if not is_glob(source):
        hint = f"{suggest_path(path)}Give an image, a folder of images or a glob."
        raise UsageError(f"no such file or folder: {path}", hint)
    if next(glob.iglob(str(source), recursive=True), None) is None:
        raise UsageError(f"no file matches {source}", "Quote the pattern, and use ** for folders at any depth.")


def find_images(source: str | Path) -> list[ImageFile]:
    """Find the images that a file, a folder (with its sub-folders) or a glob names, in order.

    Raises:
        UsageError: There is no such file or folder, or no image in it.
    """
    require_input(source)
    path = Path(source)
    if path.is_file():
        return [ImageFile(path, path.stem)]
    if path.is_dir():
        listed = (Path(walked, name) for walked, _, names in walk_folder(path) for name in names)
        root, files = path, [file for file in listed if _is_image(file, path)]
        kinds = ", ".join(sorted(IMAGE_SUFFIXES))
        missing = f"no images in the folder {path}", f"Looked for {kinds}, in sub-folders too."
    elif is_glob(source):
        root = find_glob_root(str(source))
        files = [Path(name) for name in glob.glob(str(source), recursive=True) if _is_file_or_broken(Path(name))]
        missing = f"no file matches {source}", "Quote the pattern, and use ** for folders at any depth."
    else:
        raise UsageError(f"{path} is neither a file nor a folder", "Give an image, a folder of images or a glob.")
    if not files:
        raise UsageError(*missing)
    return [ImageFile(file, file.relative_to(root).with_suffix("").as_posix()) for file in sorted(files)]


def find_all_images(sources: Iterable[str | Path]) -> list[ImageFile]:
    """Find the images of all sources, each file once, however many of them name it.

    A link beside its target is an image of its own, with a name of its own.

    Raises:
        UsageError: See `find_images`.
    """
    found: dict[tuple[Path, str], ImageFile] = {}
    places: set[Path] = set()
    for source in sources:
        for file in find_images(source):
            place = file.path.parent.resolve() / file.path.name
            name = Path(os.path.realpath(place)), file.key  # Path.resolve raises at a loop of links
            if place not in places:
                found.setdefault(name, file)
            places.add(place)
    return list(found.values())


def _is_image(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return not hidden and file.suffix.lower() in IMAGE_SUFFIXES and _is_file_or_broken(file)


def _is_file_or_broken(path: Path) -> bool:
    """Return whether a path is a file, or a link that leads nowhere: that is told when it is read."""
    return path.is_file() or (path.is_symlink() and not path.exists())


def is_glob(source: str | Path) -> bool:
    """Tell whether a source is a pattern: it has wildcards and is not the name of a file."""
    return glob.has_magic(str(source)) and not Path(source).exists()


def find_glob_root(pattern: str) -> Path:
    """Return the folder that a pattern starts in: what stands before the first part with a wildcard."""
    parts = Path(pattern).parts
    magic = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:magic])


def require_safe_output(
    sources: Iterable[str | Path], images: Sequence[ImageFile], output: Path, *, confidence: bool = False
) -> None:
    """Refuse an output folder that would overwrite inputs, or be read as an input the next time.

    Args:
        sources: What was given, files, folders and globs.
        images: The files found there.
        output: Where the labels go.
        confidence: Whether the confidence is written too, whose name another image's labels may have.
    Raises:
        UsageError: Output and input folders are the same or one inside the other, or two images share a name.
    """
    target = output.resolve()
    for source in sources:
        folder = Path(source) if Path(source).is_dir() else find_glob_root(str(source)) if "**" in str(source) else None
        if folder is not None and target.is_relative_to(folder.resolve()):
            raise UsageError(f"the output folder {output} is inside the input folder {folder}", "Choose another `out`.")
    names: dict[str, Path] = {}
    for image in images:
        path = Path(os.path.realpath(image.path))  # other than `resolve`, also of a link that leads to itself
        written = [(target / f"{image.key}{suffix}").resolve() for suffix in (".png", ".tif")]
        if target in (path.parent, path) or path in written:
            raise UsageError(f"the output folder {output} is that of the input {image.path}", "Choose another `out`.")
        for name in (image.key, f"{image.key}_confidence")[: 1 + confidence]:
            if name in names:
                raise UsageError(
                    f"{names[name]} and {image.path} would both be written to {output / name}.png",
                    "Rename one, or label them into different folders.",
                )
            names[name] = image.path


def convert_image(value: Any, form: ImageForm = PHOTO) -> Bands:
    """Turn an image in memory into an array, by the same rules as `load_bands`.

    Args:
        value: A tensor (C, H, W), of 8-bit images uint8 or floats in [0, 1], or anything that `load_bands` takes: a PIL
            image, an encoded file as bytes or as a stream, or an array.
        form: The form of the network.
    Raises:
        UsageError: An object of another type, shape or dtype.
        DataError: Bytes, a stream or a PIL image that cannot be decoded.
    """
    if "torch" not in sys.modules:  # files are looked for without it
        return load_bands(value, form)
    import torch

    if not isinstance(value, torch.Tensor):
        return load_bands(value, form)
    own = getattr(torch, form.dtype)
    if value.dim() != 3 or value.shape[0] != form.channels or not (value.dtype.is_floating_point or value.dtype == own):
        floats = " or of floats in [0, 1]" if form.dtype == "uint8" else ""
        raise UsageError(
            f"cannot read a tensor {tuple(value.shape)} of {value.dtype}: the model takes {form.describe()}",
            f"Give a tensor ({form.channels}, H, W) of {form.dtype}{floats}.",
        )
    if value.is_meta:
        raise UsageError("a tensor on the device meta has no values", "Give a tensor on cpu or cuda.")
    if value.dtype.is_floating_point and form.dtype == "uint8":
        if value.numel() and not (value.min() >= 0 and value.max() <= 1):
            raise UsageError("a tensor of floats must be within [0, 1]", "Give 0 to 255 as uint8.")
        value = (value.float() * 255).round().to(torch.uint8)
    return load_bands(value.permute(1, 2, 0).cpu().numpy(), form)
