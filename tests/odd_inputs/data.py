"""Odd data for `atrous train`: folders, masks, and every wrong kind of atrous.yaml."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from odd_inputs.case import Case, Place
from odd_inputs.images import encode

REFUSED = 3
"""The exit code for data."""


def with_data(
    name: str, change: Callable[[Path], object], code: int = REFUSED, *, says: Sequence[str] = (), **rest: object
) -> Case:
    """A copy of a good folder, changed; a training that is refused leaves no run."""

    def lay_out(place: Place) -> list[str]:
        change(place.copy_data())
        return place.train()

    outcome = (
        {"makes": ("new/metrics.json",)}
        if code == 0
        else {"never_makes": ("new/config.yaml",)}
        if code == REFUSED
        else {}
    )
    return Case(name, lay_out, code, says=says, **outcome, **rest)


def first(folder: Path, kind: str = "masks") -> Path:
    return min((folder / kind).rglob("*.png"))


def redraw(folder: Path, change: Callable[[np.ndarray], np.ndarray], *, every: bool = True, **options: object) -> None:
    """Change the pixels of every mask, or of the first."""
    paths = sorted((folder / "masks").rglob("*.png"))
    for path in paths if every else paths[:1]:
        Image.fromarray(change(np.asarray(Image.open(path)))).save(path, **options)


def keep(folder: Path, count: int) -> None:
    """Keep the first pairs of a folder."""
    for path in sorted((folder / "masks").rglob("*.png"))[count:]:
        path.unlink()
        (folder / "images" / path.relative_to(folder / "masks")).unlink()


def rename_masks(folder: Path, change: Callable[[Path], str]) -> None:
    for path in sorted((folder / "masks").rglob("*.png")):
        path.rename(path.with_name(change(path)))


def as_jpeg(folder: Path) -> None:
    for path in sorted((folder / "masks").rglob("*.png")):
        Image.open(path).convert("L").save(path.with_suffix(".jpg"))
        path.unlink()


def write(folder: Path, content: str | bytes) -> None:
    (folder / "atrous.yaml").write_bytes(content.encode() if isinstance(content, str) else content)


FOLDERS = [
    Case("a folder that is not there", lambda place: place.train("nowhere"), 3, says=("nowhere",), quick=True),
    Case("a mistyped data set", lambda place: place.train("shpes"), 3, says=("shapes",), quick=True),
    Case("a file as data", lambda place: (place.file("data", "x"), place.train())[1], 3, says=("data",)),
    Case(
        "an empty folder",
        lambda place: ((place.path / "data").mkdir(), place.train())[1],
        3,
        says=("data",),
        quick=True,
    ),
    Case("a data set without its path", lambda place: place.train("voc"), 3, says=("voc=",)),
    with_data("no masks", lambda data: shutil.rmtree(data / "masks"), says=("masks",), quick=True),
    with_data("no images", lambda data: shutil.rmtree(data / "images"), says=("images",)),
    with_data("an empty folder of masks", lambda data: [p.unlink() for p in (data / "masks").rglob("*.png")]),
    with_data("one pair", lambda data: keep(data, 1), says=("(?i)image",), quick=True),
    with_data("an image without a mask", lambda data: first(data).unlink(), says=("(?i)mask",)),
    with_data("a mask without an image", lambda data: first(data, "images").unlink(), says=("(?i)image",)),
    with_data("masks with a suffix of their own", lambda data: rename_masks(data, lambda p: f"{p.stem}_mask.png")),
    with_data("masks whose names end in capitals", lambda data: rename_masks(data, lambda p: f"{p.stem}A.png")),
    with_data("hidden files beside the images", lambda data: (data / "images/.DS_Store").write_bytes(b"x"), 0),
    with_data("a loop of folders", lambda data: (data / "images/again").symlink_to("."), 0),
]

MASKS = [
    with_data("masks as JPEG", as_jpeg, says=("(?i)jpe?g",), quick=True),
    with_data(
        "coloured masks",
        lambda data: redraw(data, lambda m: np.stack([m * 40, m * 7, 255 - m], -1)),
        says=("(?i)colou?r|RGB",),
    ),
    with_data("a mask of no bytes", lambda data: first(data).write_bytes(b""), says=("(?i)mask",), quick=True),
    with_data("half a mask", lambda data: first(data).write_bytes(first(data).read_bytes()[:60])),
    with_data("text as a mask", lambda data: first(data).write_text("mask")),
    with_data(
        "a mask of another size", lambda data: redraw(data, lambda m: m[:-1], every=False), says=("(?i)size|64",)
    ),
    with_data("a mask on its side", lambda data: redraw(data, lambda m: np.hstack([m, m]).T.copy(), every=False)),
    with_data("masks of 0 and 255", lambda data: redraw(data, lambda m: (m > 0).astype(np.uint8) * 255), says=("255",)),
    with_data(
        "masks of 0 and 65535",
        lambda data: redraw(data, lambda m: (m > 0).astype(np.uint16) * 65535),
        says=("6553[45]",),
    ),
    with_data("masks without a labelled pixel", lambda data: redraw(data, lambda m: np.full_like(m, 255))),
    with_data("masks of one class", lambda data: redraw(data, np.zeros_like), says=("class",)),
    with_data("16-bit masks of small ids", lambda data: redraw(data, lambda m: m.astype(np.uint16)), 0),
    with_data(
        "masks with an alpha channel", lambda data: redraw(data, lambda m: np.stack([m, m + 255], -1)), (0, REFUSED)
    ),
]

IMAGES = [
    with_data("an image of no bytes", lambda data: first(data, "images").write_bytes(b""), quick=True),
    with_data(
        "half an image", lambda data: first(data, "images").write_bytes(first(data, "images").read_bytes()[:3000])
    ),
    with_data(
        "half a JPEG",
        lambda data: (
            first(data, "images").with_suffix(".jpg").write_bytes(encode((65, 65), format="JPEG")[:900]),
            first(data, "images").unlink(),
        ),
        says=(r"\.jpg",),
    ),
]

YAML = [
    with_data(
        f"atrous.yaml: {name}",
        lambda data, content=content: write(data, content),
        2,
        says=("atrous.yaml", *says),
        quick=quick,
    )
    for name, content, says, quick in (
        ("data as text", "data: hello\n", ("data",), True),
        ("data as a list", "data: [1, 2]\n", ("data",), True),
        ("data as a number", "data: 3\n", ("data",), False),
        ("a list at the top", "- data\n- classes\n", (), True),
        ("a text at the top", "hello\n", (), False),
        ("a number at the top", "17\n", (), False),
        ("a key that does not exist", "data: {clases: [a, b]}\n", ("classes",), True),
        ("a section that does not exist", "dta: {classes: [a, b]}\n", ("data",), False),
        ("another section of the settings", "training: {lr: 1}\n", ("training",), False),
        ("the same key twice", "data: {}\ndata: {}\n", (), True),
        ("an open bracket", "data: {classes: [a\n", (), False),
        ("a tab as indentation", "data:\n\tclasses: [a]\n", (), False),
        ("bytes that are not UTF-8", b"data: {classes: [\xff\xfe]}\n", (), True),
        ("zero bytes", b"data:\0 {}\n", (), False),
        ("an object of Python", "data: !!python/object/apply:os.system ['touch owned']\n", (), True),
        ("aliases that multiply", "a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: [*b,*b,*b,*b]\ndata: {}\n", (), False),
        ("an alias to nothing", "data: *nothing\n", (), False),
        ("two documents", "data: {}\n---\ndata: {}\n", (), False),
        ("classes as a text", "data: {classes: cat}\n", ("classes",), False),
        ("classes as a number", "data: {classes: 3}\n", ("classes",), False),
        ("two classes of one name", "data: {classes: [a, a, b, c]}\n", ("'a'",), False),
        ("a class without a name", "data: {classes: {0: }}\n", ("classes",), False),
        ("a negative id", "data: {classes: {-1: a}}\n", (), False),
        ("an id beyond 16 bits", "data: {classes: {70000: a}}\n", (), False),
        ("an id that is a text", "data: {classes: {zero: a}}\n", ("classes",), False),
        ("ignore as a text", "data: {ignore: all}\n", ("ignore",), False),
        ("a class that is ignored", "data: {classes: {0: a, 1: b}, ignore: [1]}\n", ("ignore",), False),
        ("not a number", "data: {ignore: [.nan]}\n", ("ignore",), False),
    )
]

CASES = [*FOLDERS, *MASKS, *IMAGES, *YAML]
