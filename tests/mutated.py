"""Files that were changed at random, and how reading each of them ends: read, refused with a message, or a fault.

As a program it reads many of them, in a process that is started anew after a crash or a hang:

    python tests/mutated.py --images 10000 --annotations 2000 --others 2000

It prints how many ended how, and the seed of every fault: `--only KIND:NUMBER` repeats a single one.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import re
import select
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import atrous
import tiny
from annotated import SAVERS, save_image
from atrous.config.load import load_config
from atrous.core.errors import AtrousError
from atrous.images.bands import load_bands
from atrous.images.decode import load_image, load_stored_mask
from atrous.images.encode import encode_index_png
from atrous.images.place import read_place
from atrous.images.samples import inspect_image, load_samples
from atrous.images.tiny_files import FILES
from atrous.model import load
from atrous.networks import BACKBONES
from atrous.networks.build import build_network_from
from atrous.networks.model_card import ModelCard
from atrous.networks.model_file import save_model
from atrous.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

MOST_GROWTH_MIB = 1536
"""Memory that one image may take: 178 megapixels of three bytes, the most that are opened, and a copy of them."""
MOSTLY = 0.75
"""Share of the texts that are changed by words, not bytes."""
OWN_FOLDERS = ("images", "source", "out")
"""What reading a case may make beside its file."""
TEXT_FORMATS = ("labelme", "coco", "cvat", "geojson", "label-studio", "yolo")
MOST_S = 60.0
"""Silence after which the reading process counts as hanging."""
DATA_SETTINGS = """\
version: 1
data:
  classes: {0: background, 1: crack}
  ignore: [254, -9999]
  label_map: {128: 1, 255: 1}
  split: {val: 0.2, seed: 0, group: "^(.+?)_"}
"""
RECIPE = """\
data:
  source: shapes
model:
  name: deeplabv3-lite0
  head: {rates: [6, 12, 18]}
training:
  epochs: 50
  batch: 8
  scale_range: [0.5, 2.0]
  class_weights: auto
evaluation:
  scales: [0.75, 1.0]
"""
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
WORDS = (
    "null",
    "-1",
    "1e400",
    ".nan",
    "[]",
    "{}",
    "yes",
    "&a [*a]",
    "!!python/object:os.system",
    '"',
    "\t",
    "é\x00",
    "9" * 400,
)


def _draw_pixels(channels: int, dtype: str = "uint8") -> np.ndarray:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, np.iinfo(dtype).max, (24, 32, channels), dtype=dtype)
    return pixels if channels > 1 else pixels[..., 0]


def _encode(pixels: np.ndarray, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def build_images() -> dict[str, bytes]:
    """Return whole images by a name that ends in their suffix."""
    photo, grey, deep = _draw_pixels(3), _draw_pixels(1), _draw_pixels(1, "uint16")
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation
    progressive = {"progressive": True, "exif": exif.tobytes()}
    return {
        "photo.jpg": _encode(photo, "JPEG"),
        "turned.jpg": _encode(photo, "JPEG", **progressive),
        "photo.png": _encode(photo, "PNG"),
        "alpha.png": _encode(_draw_pixels(4), "PNG"),
        "deep.png": _encode(deep, "PNG"),
        "labels.png": encode_index_png(grey % 5),
        "photo.tif": _encode(photo, "TIFF", compression="tiff_lzw"),
        "deep.tif": _encode(deep, "TIFF"),
        "bands.tif": FILES["TIFF"],
        "photo.webp": _encode(photo, "WEBP"),
        "photo.bmp": _encode(photo, "BMP"),
        "photo.ppm": _encode(photo, "PPM"),
        "photo.avif": FILES["AVIF"],
        "photo.heic": FILES["HEIF"],
        "photo.jxl": FILES["JPEG XL"],
    }


def build_others() -> dict[str, bytes]:
    """Return a checkpoint, a model file and settings, by a name that ends in their suffix."""
    torch.manual_seed(0)
    network = build_network_from({"name": "fcn-tiny"}, 3)
    checkpoint = Checkpoint(3, network.state_dict(), network.state_dict(), {"state": {}}, {"plan": {"steps": 9}})
    with tempfile.TemporaryDirectory() as folder:
        save_model(Path(folder) / "model.safetensors", network, ModelCard({"name": "fcn-tiny"}, tiny.TINY_SPACE))
        save_checkpoint(Path(folder) / "last.ckpt", checkpoint)
        files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    return files | {"recipe.yaml": RECIPE.encode(), "atrous.yaml": DATA_SETTINGS.encode()}


def mutate(content: bytes, generator: np.random.Generator) -> bytes:
    """Return bytes with one to four random changes: bits, numbers, spans that are cut, doubled, filled or moved."""
    changed = bytearray(content)
    for _ in range(int(generator.integers(1, 5))):
        place = _draw_place(len(changed), generator)
        span = int(generator.integers(1, max(min(len(changed) - place, 64), 1) + 1))
        kind = int(generator.integers(8))
        if kind == 0 and changed:
            changed[min(place, len(changed) - 1)] ^= 1 << int(generator.integers(8))
        elif kind == 1:
            width = int(generator.choice([1, 2, 4]))
            order = str(generator.choice(["little", "big"]))
            number = int(generator.choice(NUMBERS)) & (256**width - 1)
            changed[place : place + width] = number.to_bytes(width, order)  # type: ignore[arg-type]
        elif kind == 2:
            del changed[place:]
        elif kind == 3:
            del changed[place : place + span]
        elif kind == 4:
            changed[place:place] = changed[place : place + span]
        elif kind == 5:
            changed[place : place + span] = generator.bytes(span)
        elif kind == 6:
            changed[place : place + span] = bytes([int(generator.choice([0, 255]))]) * span
        else:
            other = _draw_place(len(changed), generator)
            changed[place : place + span] = changed[other : other + span]
    return bytes(changed)


def mutate_text(content: bytes, generator: np.random.Generator) -> bytes:
    """Return a text with one to three words or lines that are replaced, doubled or cut."""
    text = content.decode()
    for _ in range(int(generator.integers(1, 4))):
        words = list(re.finditer(r"[\w.-]+|[^\w\s]|\n *", text))
        if not words:
            return text.encode()
        word = words[int(generator.integers(len(words)))]
        other = words[int(generator.integers(len(words)))][0]
        new = str(generator.choice(["", word[0] * 2, other, str(generator.choice(WORDS)), "[" * 200]))
        text = text[: word.start()] + new + text[word.end() :]
    return text.encode()


def _draw_place(length: int, generator: np.random.Generator) -> int:
    """Return a place in a file; half of them are in its head, where sizes are."""
    limit = min(length, 128) if generator.random() < 0.5 else length
    return int(generator.integers(max(limit, 1)))


def read_as_image(path: Path) -> None:
    """Read an image in each way in which commands do; the last one takes any bands and says whether it was read."""
    for read in (load_image, load_bands, load_stored_mask, inspect_image, read_place):
        with contextlib.suppress(AtrousError):
            read(path)
    load_samples(path)


def read_other(path: Path) -> None:
    """Open a file that is no image, in the way in which commands open it."""
    if path.suffix == ".ckpt":
        load_checkpoint(path)
    elif path.suffix == ".safetensors":
        load(path, device="cpu")
    elif path.name == "recipe.yaml":
        load_config(recipe=path)
    else:
        (path.parent / "images").mkdir(exist_ok=True)
        load_config(options={"data.source": str(path.parent)})


def build_annotations() -> dict[str, bytes]:
    """Return files of annotations by a name that begins with their format."""
    found = {}
    for form in TEXT_FORMATS:
        with tempfile.TemporaryDirectory() as folder:
            found[f"{form}@annotations"] = SAVERS[form](Path(folder), "photo.png").read_bytes()
    return found


def read_annotation(path: Path) -> None:
    """Convert annotations, with the image that the whole file is about."""
    form, source = path.name.partition("@")[0], path.parent / "source"
    save_image(source / "photo.png")
    SAVERS[form](source, "photo.png").write_bytes(path.read_bytes())
    atrous.convert(source, path.parent / "out", from_format=form, progress=False, on_message=lambda _: None)


KINDS: dict[str, tuple[Callable[[], dict[str, bytes]], Callable[[Path], None]]] = {
    "image": (build_images, read_as_image),
    "annotation": (build_annotations, read_annotation),
    "other": (build_others, read_other),
}


def run_case(kind: str, number: int, folder: Path, wholes: dict[str, bytes]) -> str:
    """Read one changed file and return how it ended: "read", "refused", or what was wrong.

    Args:
        kind: A key of `KINDS`.
        number: Of the case; it decides which file is changed, and how.
        folder: An empty folder of its own.
        wholes: What the kind builds.
    """
    generator = np.random.default_rng([number, len(kind)])
    name = sorted(wholes)[number % len(wholes)]
    path = folder / name
    is_text = name.endswith((".yaml", "@annotations")) and generator.random() < MOSTLY
    path.write_bytes((mutate_text if is_text else mutate)(wholes[name], generator))
    before, started = _read_peak_mib(), time.monotonic()
    try:
        KINDS[kind][1](path)
        ended = "read"
    except AtrousError as error:
        ended = "refused" if error.message.strip() else "refused without a message"
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        ended = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {str(error)[:100]}"
    if _read_peak_mib() - before > MOST_GROWTH_MIB:
        ended = f"memory: {_read_peak_mib() - before:,.0f} MiB"
    if time.monotonic() - started > MOST_S:
        ended = "slow"
    strangers = {each.name for each in folder.iterdir()} - {name, *OWN_FOLDERS}
    return f"wrote {sorted(strangers)}" if strangers else ended


def _read_peak_mib() -> float:
    """Return the most memory that this process ever held, in MiB; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


@contextlib.contextmanager
def prepare(kind: str) -> Iterator[dict[str, bytes]]:
    """Build the whole files of a kind, while warnings of decoders are silent and the tiny backbone has its name."""
    torch.set_num_threads(1)
    with warnings.catch_warnings(), contextlib.ExitStack() as stack:
        warnings.simplefilter("ignore")
        if "tiny" not in BACKBONES:
            stack.enter_context(BACKBONES.including(tiny.TINY))
        yield KINDS[kind][0]()


def work(kind: str, first: int, count: int) -> None:
    """Run cases and print a line before and after each, for the process that watches."""
    with prepare(kind) as wholes:
        for number in range(first, first + count):
            print(f"begin {number}", flush=True)
            with tempfile.TemporaryDirectory() as folder:
                print(f"end {number} {run_case(kind, number, Path(folder), wholes)}", flush=True)


def watch(kind: str, count: int) -> collections.Counter[str]:
    """Run cases in processes of their own; one that crashes or hangs is counted, and the next begins behind it."""
    found: collections.Counter[str] = collections.Counter()
    number = 0
    while number < count:
        words = [sys.executable, __file__, "--work", f"{kind}:{number}:{count - number}"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdout is not None
            is_hanging = False
            while not is_hanging:
                if not select.select([process.stdout], [], [], MOST_S)[0]:
                    is_hanging = True
                    process.kill()
                elif not (line := process.stdout.readline()):
                    break
                elif line.startswith("end"):
                    number, ended = int(line.split()[1]) + 1, line.split(maxsplit=2)[2].strip()
                    found[ended] += 1
                    if ended not in ("read", "refused"):
                        print(f"{kind}:{number - 1}: {ended}", flush=True)
        if number < count:
            ended = "hangs" if is_hanging else f"crash, signal {-process.returncode}"
            print(f"{kind}:{number}: {ended}", flush=True)
            found[ended] += 1
            number += 1
    return found


def main() -> int:
    """Run the program; returns 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000, help="changed images")
    parser.add_argument("--annotations", type=int, default=2_000, help="changed annotations of labelling tools")
    parser.add_argument("--others", type=int, default=2_000, help="changed checkpoints, model files and settings")
    parser.add_argument("--only", metavar="KIND:NUMBER", help="run one case here, with its traceback")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        kind, first, count = options.work.split(":")
        work(kind, int(first), int(count))
        return 0
    if options.only:
        kind, number = options.only.split(":")
        with prepare(kind) as wholes, tempfile.TemporaryDirectory() as folder:
            print(run_case(kind, int(number), Path(folder), wholes))
        return 0
    is_sound = True
    for kind, count in (
        ("image", options.images),
        ("annotation", options.annotations),
        ("other", options.others),
    ):
        found = watch(kind, count)
        is_sound = is_sound and set(found) <= {"read", "refused"}
        print(f"{kind}: {dict(found.most_common())}", flush=True)
    return 0 if is_sound else 1


if __name__ == "__main__":
    sys.exit(main())
