"""Formats of files that Pillow alone does not read as images, by their first bytes, so that a message can name them."""

from __future__ import annotations

from pathlib import Path

_STARTS = (
    (0, b"\xff\x0a", "a JPEG XL image"),
    (0, b"\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
    (0, b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (4, b"ftypavif", "an AVIF image"),
    (4, b"ftypavis", "an AVIF animation"),
    (4, b"ftypheic", "a HEIC image"),
    (4, b"ftypheix", "a HEIC image"),
    (4, b"ftyphevc", "a HEIC image"),
    (4, b"ftypheim", "a HEIC image"),
    (4, b"ftypheis", "a HEIC image"),
    (4, b"ftypmif1", "a HEIF image"),
    (4, b"ftypmsf1", "a HEIF image"),
    (4, b"ftyp", "a video"),
    (0, b"GIF8", "a GIF image"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"gimp xcf", "a GIMP document"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x93NUMPY", "an array of NumPy"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\x1f\x8b", "a gzip archive, such as a NIfTI volume"),
    (0, b"<svg", "an SVG drawing"),
    (128, b"DICM", "a DICOM image"),
    (0, b"version https://git-lfs", "a pointer of Git LFS: the file itself was not fetched"),
)
LONGEST_START = 160
"""Bytes from the beginning of a file that tell its format."""


def identify_format(path: Path) -> str:
    """Return what a file is, with its article, such as "a HEIC image"; empty if that is not known.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return identify_start(file.read(LONGEST_START))


def identify_start(head: bytes) -> str:
    """Return what a file is by its first `LONGEST_START` bytes, as `identify_format` does."""
    name = next((name for start, mark, name in _STARTS if head[start:].startswith(mark)), "")
    brands = head[16 : int.from_bytes(head[:4], "big")]  # formats that a HEIF file is of besides
    return "an AVIF image" if name == "a HEIF image" and b"avif" in brands else name
