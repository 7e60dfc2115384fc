"""Odd images for `atrous predict`: names, sizes, modes, formats, damage, and things that are no files."""

from __future__ import annotations

import io
import os
import struct
import unicodedata
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from odd_inputs.case import Case, Place, draw_noise

SKIPPED = 1
GOOD = "out/good.png"


def beside_a_good_one(
    name: str, make: Callable[[Place], object], code: int = SKIPPED, *, says: Sequence[str] = (), **rest: object
) -> Case:
    """A folder with a good image and an odd one; the good one is always labelled."""

    def lay_out(place: Place) -> list[str]:
        place.image("in/good.png")
        make(place)
        return place.predict()

    makes = (GOOD, *rest.pop("makes", ()))
    return Case(name, lay_out, code, says=says, makes=makes, **rest)


def encode(size: tuple[int, int] = (40, 30), mode: str = "RGB", format: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    draw_noise(size, mode).save(file, format, **options)
    return file.getvalue()


def make_bomb() -> bytes:
    """A PNG of 100,000 x 100,000 pixels, of which a few bytes exist."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def make_animation(format: str) -> bytes:
    file = io.BytesIO()
    frames = [draw_noise((40, 30)), draw_noise((40, 30)).transpose(Image.Transpose.ROTATE_180)]
    frames[0].save(file, format, save_all=True, append_images=frames[1:])
    return file.getvalue()


def save_tiff(place: Place, name: str, pixels: np.ndarray, **options: object) -> None:
    import tifffile

    path = place.path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, pixels, **options)


def turn(place: Place) -> None:
    """A JPEG that viewers turn by 90 degrees."""
    exif = Image.Exif()
    exif[0x0112] = 6
    place.image("in/odd.jpg", (40, 30), exif=exif)


def damage(content: bytes, place: int, value: int = 0xFF) -> bytes:
    """Return bytes with one of them changed."""
    return content[:place] + bytes([value ^ content[place]]) + content[place + 1 :]


def link(place: Place, name: str, target: str) -> None:
    (place.path / name).symlink_to(target)


def add(content: bytes | str, name: str = "in/odd.png") -> Callable[[Place], Path]:
    return lambda place: place.file(name, content)


NOISE = np.random.default_rng(0).integers(0, 255, (30, 40, 5), dtype=np.uint8)

SIZES = [
    beside_a_good_one(
        f"{width} x {height} pixels",
        lambda place, size=(width, height): place.image("in/odd.png", size),
        0,
        makes=("out/odd.png",),
        quick=quick,
    )
    for width, height, quick in (
        (1, 1, True),
        (1, 500, True),
        (500, 1, False),
        (2, 3, False),
        (3000, 1, False),
        (1, 3000, False),
    )
]

MODES = [
    beside_a_good_one(
        f"mode {mode} as {format}",
        lambda place, mode=mode, name=f"in/odd.{suffix}", options=options: place.image(name, mode=mode, **options),
        0,
        makes=("out/odd.png",),
        quick=quick,
    )
    for mode, format, suffix, options, quick in (
        ("1", "PNG", "png", {}, False),
        ("L", "PNG", "png", {}, False),
        ("LA", "PNG", "png", {}, False),
        ("P", "PNG with transparency", "png", {"transparency": 3}, True),
        ("RGBA", "PNG", "png", {}, True),
        ("CMYK", "JPEG", "jpg", {}, True),
        ("L", "JPEG", "jpg", {}, False),
        ("RGB", "progressive JPEG", "jpg", {"progressive": True}, False),
        ("RGB", "BMP", "bmp", {}, False),
        ("RGB", "WebP", "webp", {}, False),
        ("RGB", "TIFF", "tif", {}, False),
        ("RGB", "LZW TIFF", "tiff", {"compression": "tiff_lzw"}, False),
        ("CMYK", "TIFF", "tif", {}, False),
        ("I;16", "PNG", "png", {}, True),
        ("RGB", "PNG with an upper-case suffix", "PNG", {"format": "PNG"}, False),
    )
]

NAMES = [
    beside_a_good_one(
        f"named {name!r}",
        lambda place, name=name: place.image(f"in/{name}.png"),
        0,
        makes=(f"out/{name}.png".replace("[", "[[]"),) if "*" not in name else (),
        quick=quick,
    )
    for name, quick in (
        ("with spaces  two", True),
        ("a\nnew line", True),
        ("equals=sign", False),
        ("~", True),
        ("-leading", False),
        ("--out", False),
        ("[brackets]", True),
        ("star*", False),
        ("100%s %d {x}", False),
        ("quote'\"`$(echo)", False),
        ("back\\slash", False),
        (unicodedata.normalize("NFC", "größe"), False),
        (unicodedata.normalize("NFD", "größe"), True),
        ("日本語", False),
        ("שלום", False),
        ("🐈‍⬛", False),
        ("[bold red]markup[/bold red]", True),
        ("x" * 230, False),
        ("a.b.c", False),
        ("nul", False),
        ("\x1b[31mred", True),
        ("\u202egnp", False),
    )
]

DAMAGED = [
    beside_a_good_one("no bytes", add(b""), says=("odd.png",), quick=True),
    beside_a_good_one("text named .png", add("not an image"), says=("odd.png",), quick=True),
    beside_a_good_one("a web page named .jpg", add("<!DOCTYPE html><html>", "in/odd.jpg"), says=("odd.jpg",)),
    beside_a_good_one("JSON named .tif", add("{}", "in/odd.tif"), says=("odd.tif",)),
    beside_a_good_one("a PDF named .png", add(b"%PDF-1.7\n%\xe2\xe3"), says=("odd.png",)),
    beside_a_good_one("half a JPEG", add(encode(format="JPEG")[:700], "in/odd.jpg"), says=("odd.jpg",), quick=True),
    beside_a_good_one("the header of a JPEG", add(encode(format="JPEG")[:20], "in/odd.jpg"), says=("odd.jpg",)),
    beside_a_good_one("half a PNG", add(encode()[:1500]), says=("odd.png",), quick=True),
    beside_a_good_one("a PNG with a wrong checksum", add(damage(encode(), 1500)), says=("odd.png",)),
    beside_a_good_one("a PNG with a damaged header", add(damage(encode(), 20)), says=("odd.png",)),
    beside_a_good_one("half a TIFF", add(encode(format="TIFF")[:900], "in/odd.tif"), says=("odd.tif",)),
    beside_a_good_one("half a WebP", add(encode(format="WEBP")[:500], "in/odd.webp"), says=("odd.webp",)),
    beside_a_good_one(
        "10,000 megapixels in a PNG of 1 kB", add(make_bomb()), says=("odd.png", "megapixels"), quick=True
    ),
    beside_a_good_one("zeros", add(bytes(5000)), says=("odd.png",)),
    beside_a_good_one("a JPEG named .png", add(encode(format="JPEG")), 0, makes=("out/odd.png",), quick=True),
    beside_a_good_one(
        "a JPEG with bytes after its end",
        add(encode(format="JPEG") + b"tail" * 99, "in/odd.jpg"),
        0,
        makes=("out/odd.png",),
    ),
]

TIFFS = [
    beside_a_good_one(
        "float RGB in a TIFF",
        lambda place: save_tiff(place, "in/odd.tif", NOISE[..., :3].astype(np.float32), photometric="rgb"),
        says=("odd.tif", "(?i)float|32"),
    ),
    beside_a_good_one(
        "five bands in a TIFF",
        lambda place: save_tiff(place, "in/odd.tif", NOISE, photometric="minisblack", planarconfig="contig"),
        says=("odd.tif", "5"),
        quick=True,
    ),
    beside_a_good_one(
        "complex numbers in a TIFF",
        lambda place: save_tiff(place, "in/odd.tif", NOISE[..., 0].astype(np.complex64)),
        says=("odd.tif",),
    ),
]

NO_FILES = [
    beside_a_good_one("a dangling link", lambda place: link(place, "in/odd.png", "nowhere"), (0, SKIPPED), quick=True),
    beside_a_good_one("a link to itself", lambda place: link(place, "in/odd.png", "odd.png"), (0, SKIPPED)),
    beside_a_good_one("a folder that links to its parent", lambda place: link(place, "in/sub", "."), 0),
    beside_a_good_one("a named pipe", lambda place: os.mkfifo(place.path / "in/odd.png"), (0, SKIPPED), quick=True),
    beside_a_good_one(
        "a link to an endless device", lambda place: link(place, "in/odd.png", "/dev/zero"), (0, SKIPPED)
    ),
    beside_a_good_one("a link to an empty device", lambda place: link(place, "in/odd.png", "/dev/null"), (0, SKIPPED)),
    beside_a_good_one(
        "a link to an image elsewhere",
        lambda place: (place.image("far.png"), link(place, "in/odd.png", "../far.png")),
        0,
        makes=("out/odd.png",),
    ),
    beside_a_good_one("a hidden file", lambda place: place.image("in/.odd.png"), 0, never_makes=("out/.odd.png",)),
    beside_a_good_one("an image upright by EXIF", turn, 0, makes=("out/odd.png",)),
]

CLASHES = [
    Case(
        "two images with one name",
        lambda place: (place.image("in/a.png"), place.image("in/a.jpg"), place.predict())[-1],
        2,
        says=("a.png",),
        never_makes=("out/a.png",),
        quick=True,
    ),
    Case(
        "a folder without images", lambda place: (place.file("in/notes.txt", "x"), place.predict())[-1], 2, quick=True
    ),
    Case("an empty folder", lambda place: ((place.path / "in").mkdir(), place.predict())[-1], 2),
]

CASES = [*SIZES, *MODES, *NAMES, *DAMAGED, *TIFFS, *NO_FILES, *CLASHES]
