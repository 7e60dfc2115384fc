"""What every entry of CHECKS must keep, on data broken in one way each: its finding and no other error, and a fix."""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image

import printed
from atrous.config.load import load_config
from atrous.core.errors import DataError
from atrous.core.findings import FILES_KEPT, CheckResult
from atrous.data import CHECKS
from atrous.data.build import build_splits, check_training_data
from atrous.data.checks.survey import Survey
from atrous.runs.check import check_data

SIZE = (16, 24)
NAMED = "data: {classes: {0: road, 1: car}}\n"


def save(path: Path, pixels: object, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)
    return path


def draw_mask(*ids: int) -> np.ndarray:
    """A mask with a block of each id, side by side."""
    return np.repeat(np.array(ids, np.uint8), -(-SIZE[1] // len(ids)))[None, : SIZE[1]].repeat(SIZE[0], axis=0)


def list_masks(root: Path, split: str = "*") -> list[Path]:
    return sorted((root / "masks").glob(f"{split}/*.png"))


def find_image(mask: Path) -> Path:
    return mask.parents[2] / "images" / mask.parent.name / mask.name


def write_masks(root: Path, *masks: np.ndarray) -> None:
    """Write the given masks in turn over all that there are."""
    for number, path in enumerate(list_masks(root)):
        save(path, masks[number % len(masks)])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Sound data: images of noise with two named classes in each mask, 8 pairs to train on and 3 to score on."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 3)):
        for number in range(count):
            save(tmp_path / "images" / split / f"{number}.png", generator.integers(0, 256, (*SIZE, 3)))
            save(tmp_path / "masks" / split / f"{number}.png", draw_mask(0, 1))
    (tmp_path / "atrous.yaml").write_text(NAMED)
    return tmp_path


def name_nothing(root: Path) -> None:
    (root / "atrous.yaml").unlink()


def write_settings(root: Path, text: str) -> None:
    (root / "atrous.yaml").write_text(f"data: {{{text}}}\n")


def first_mask(root: Path) -> Path:
    return list_masks(root)[0]


def first_image(root: Path) -> Path:
    return find_image(first_mask(root))


def draw_noise(seed: int, *shape: int, below: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, below, shape or (*SIZE, 3))


def lock_folder(root: Path) -> None:
    (root / "images" / "train" / "locked").mkdir(mode=0o200)


def rename_case(root: Path) -> None:
    for kind in ("images", "masks"):
        first = root / kind / "train" / "0.png"
        first.rename(first.with_name("P0.png" if kind == "images" else "p0.png"))


def rename_encoding(root: Path) -> None:
    for kind, form in (("images", "NFC"), ("masks", "NFD")):
        first = root / kind / "train" / "1.png"
        first.rename(first.with_name(unicodedata.normalize(form, "Bücher.png")))


def drop_masks(root: Path) -> None:
    for mask in list_masks(root, "train")[:6]:
        mask.unlink()


def empty_val(root: Path) -> None:
    for mask in list_masks(root, "val"):
        mask.unlink()
        find_image(mask).unlink()


def empty_train(root: Path) -> None:
    for mask in list_masks(root, "train"):
        mask.unlink()
        find_image(mask).unlink()


def count_objects(root: Path) -> None:
    for number, path in enumerate(list_masks(root)):
        save(path, draw_mask(*range(2 + number % 6)))


def turn(root: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    path = first_image(root)
    Image.open(path).save(path, exif=exif)


def leave_void(root: Path) -> None:
    mask = draw_mask(0, 1)
    mask[1:] = 255
    save(first_mask(root), mask)


def leave_all_void(root: Path) -> None:
    mask = draw_mask(0, 1)
    mask[6:] = 255
    write_masks(root, mask)


def make_rare(root: Path) -> None:
    write_settings(root, "classes: {0: road, 1: car, 2: cat}")
    for path in list_masks(root):
        image, mask = draw_noise(int(path.stem), 120, 120, 3), np.zeros((120, 120))
        mask[:60] = 1
        mask[0, 0] = 2
        save(find_image(path), image + (path.parent.name == "val"))
        save(path, mask)


def repeat_page(root: Path) -> None:
    path = first_image(root)
    image = Image.open(path)
    path.unlink()
    image.save(path.with_suffix(".tif"), save_all=True, append_images=[image])


def copy_brighter(root: Path) -> None:
    pixels = np.array(Image.open(find_image(list_masks(root, "train")[0])))
    save(find_image(list_masks(root, "val")[0]), np.minimum(pixels, 254) + 1)


def film(root: Path) -> None:
    """Eight film clips, whose frames are nearly equal, in both splits."""
    for number, mask in enumerate(list_masks(root)):
        find_image(mask).unlink()
        mask.unlink()
        for frame in range(2):
            name = f"clip{number}_{frame}.png"
            split = "train" if frame == 0 or number < 6 else "val"
            save(root / "images" / split / name, np.minimum(draw_noise(number), 254) + frame)
            save(root / "masks" / split / name, draw_mask(0, 1))


def film_two_scenes(root: Path) -> None:
    """Train on film clips in two colours, and score on more of the red ones."""
    generator = np.random.default_rng(0)
    for number, mask in enumerate(list_masks(root)):
        scene = "red" if mask.parent.name == "val" or number % 2 else "green"
        find_image(mask).unlink()
        mask.unlink()
        for part in range(2):
            name = f"{scene}{'' if mask.parent.name == 'val' else number % 4 // 2}_{number}{part}.png"
            pixels = generator.integers(0, 128, (*SIZE, 3))
            pixels[..., 0 if scene == "red" else 1] += 127
            save(root / "images" / mask.parent.name / name.replace("red0", "red").replace("red1", "red"), pixels)
            save(
                root / "masks" / mask.parent.name / name.replace("red0", "red").replace("red1", "red"), draw_mask(0, 1)
            )
    for extra in ("blue", "grey"):
        for number in range(4):
            pixels = generator.integers(0, 128, (*SIZE, 3))
            pixels[..., 2] += 127 if extra == "blue" else 0
            save(root / "images" / "train" / f"{extra}_{number}.png", pixels)
            save(root / "masks" / "train" / f"{extra}_{number}.png", draw_mask(0, 1))


def save_12_bits(root: Path) -> None:
    Image.fromarray(draw_noise(9, *SIZE, below=4096).astype(np.uint16)).save(first_image(root))


def save_all_in_12_bits(root: Path) -> None:
    for number, mask in enumerate(list_masks(root)):
        Image.fromarray(draw_noise(number, *SIZE, below=4096).astype(np.uint16)).save(find_image(mask))


def save_half_grey(root: Path) -> None:
    for number, mask in enumerate(list_masks(root, "train")[:4] + list_masks(root, "val")[:2]):
        save(find_image(mask), draw_noise(number, *SIZE))


def add_profile(root: Path) -> None:
    path = first_image(root)
    Image.open(path).save(path, icc_profile=b"a profile that is damaged")


def save_lossy(root: Path) -> None:
    path = first_mask(root)
    path.unlink()
    Image.fromarray(draw_mask(0, 1)).save(path, format="JPEG")


def save_lossy_tiff(root: Path) -> None:
    path = first_mask(root)
    path.unlink()
    Image.fromarray(draw_mask(0, 1)).save(path.with_suffix(".tif"), compression="jpeg")


def colour_masks(root: Path, *colours: tuple[int, int, int]) -> None:
    for path in list_masks(root):
        save(path, np.array(colours)[draw_mask(*range(len(colours)))])


def hide_in_alpha(root: Path) -> None:
    pixels = np.zeros((*SIZE, 4))
    pixels[..., 3] = draw_mask(0, 1)
    save(first_mask(root), pixels)


def add_page(root: Path) -> None:
    path = first_mask(root)
    path.unlink()
    page = Image.fromarray(draw_mask(0, 1))
    page.save(path.with_suffix(".tif"), save_all=True, append_images=[page])


def smooth(root: Path) -> None:
    mask = np.zeros(SIZE, np.uint8)
    mask[:, SIZE[1] // 2 :] = 9
    write_settings(root, "classes: {0: road, 9: car}")
    write_masks(root, mask)
    mask[2:, 10:14] = (1, 3, 6, 8)
    mask[:, 11:13] -= np.arange(SIZE[0])[:, None].astype(np.uint8) % 2
    save(first_mask(root), mask)


def paint(root: Path) -> None:
    """Masks of the same colours, whose palettes have them in another order."""
    for number, path in enumerate(list_masks(root)):
        image = Image.fromarray(draw_mask(0, 1) if number else 1 - draw_mask(0, 1))
        image.putpalette([0, 0, 0, 255, 0, 0] if number else [255, 0, 0, 0, 0, 0])
        image.save(path)


def paint_more(root: Path) -> None:
    """Masks of four colours whose palettes hold the colours of the mask alone, and no names."""
    name_nothing(root)
    colours = [(0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)]
    for number, path in enumerate(list_masks(root)):
        chosen = [colours[0], colours[1], colours[2 + number % 2]]
        order = chosen if number % 4 < 2 else [chosen[0], chosen[2], chosen[1]]
        image = Image.fromarray(draw_mask(0, 1, 2))
        image.putpalette([value for colour in order for value in colour])
        image.save(path)


def cut_image(root: Path) -> None:
    path = first_image(root)
    path.write_bytes(path.read_bytes()[:-400])


def write_16_bits(root: Path, *ids: int) -> None:
    for path in list_masks(root):
        Image.fromarray(np.array(ids, np.uint16)[draw_mask(*range(len(ids)))]).save(path)


def put_class_in(root: Path, split: str) -> None:
    """A third class in one split alone, in every image of it."""
    for path in list_masks(root, split):
        save(path, draw_mask(0, 1, 2))


def copy_train(root: Path) -> None:
    """Validation data that are a copy of the training data, with more images than a fix lists."""
    for number, mask in enumerate(list_masks(root, "train")):
        for copy in range(3):
            name = f"{number}{copy}.png"
            pixels = draw_noise(10 * number + copy)
            for split in ("train", "val"):
                save(root / "images" / split / name, pixels)
                save(root / "masks" / split / name, Image.open(mask))


def link_folder(root: Path) -> None:
    """A folder of images and one of masks that are links, and a link back to the whole."""
    for kind in ("images", "masks"):
        (root / kind / "train").rename(root.parent / f"{root.name} {kind}")
        (root / kind / "train").symlink_to(root.parent / f"{root.name} {kind}")
        (root / kind / "val" / "loop").symlink_to(root / kind)


def add_pairs(root: Path, count: int) -> list[Path]:
    """Add sound pairs to train, and return their images."""
    for number in range(100, 100 + count):
        save(root / "masks" / "train" / f"{number}.png", draw_mask(0, 1))
        save(root / "images" / "train" / f"{number}.png", draw_noise(number))
    return sorted((root / "images" / "train").glob("1??.png"))


def cut_images(root: Path, count: int | None = None, split: str = "*") -> None:
    for mask in list_masks(root, split)[:count]:
        image = find_image(mask)
        image.write_bytes(image.read_bytes()[:-400])


def keep_one_pair(root: Path) -> None:
    name_nothing(root)
    shutil.rmtree(root / "images")
    shutil.rmtree(root / "masks")
    save(root / "images" / "a.png", draw_noise(1))
    save(root / "masks" / "a.png", draw_mask(0, 1))


def save_all_lossy(root: Path) -> None:
    for path in list_masks(root):
        path.unlink()
        Image.fromarray(draw_mask(0, 1)).save(path, format="JPEG")


def colour_as_photos(root: Path) -> None:
    for number, path in enumerate(list_masks(root)):
        save(path, draw_noise(number))


def colour_smoothly(root: Path) -> None:
    """Masks in two colours whose edges are blends of both."""
    for number, path in enumerate(list_masks(root)):
        mask = np.zeros((64, 96, 3), np.uint8)
        mask[10:40, 10 + number : 60] = (250, 30, 0)
        save(path, Image.fromarray(mask).resize((48, 32), Image.Resampling.BICUBIC))
        save(find_image(path), draw_noise(number, 32, 48, 3))


def draw_photo(root: Path) -> None:
    name_nothing(root)
    save(first_mask(root), draw_noise(1, *SIZE))


def draw_photos(root: Path) -> None:
    name_nothing(root)
    for number, path in enumerate(list_masks(root)):
        save(path, draw_noise(number, *SIZE))


def smooth_all(root: Path) -> None:
    """Masks of three classes whose edges were resized with blends."""
    write_settings(root, "classes: {0: road, 40: car, 80: cat}")
    for number, path in enumerate(list_masks(root)):
        mask = Image.fromarray(draw_mask(0, 40, 80)).resize((SIZE[1] * 4, SIZE[0] * 4), Image.Resampling.BICUBIC)
        save(path, mask)
        save(find_image(path), draw_noise(number, SIZE[0] * 4, SIZE[1] * 4, 3))


def smooth_binary(root: Path) -> None:
    """Masks of 0 and 255 whose edges were smoothed."""
    for number, path in enumerate(list_masks(root)):
        mask = np.zeros((64, 96), np.uint8)
        mask[8:40, 8 + number : 70] = 255
        small = Image.fromarray(mask).rotate(7).resize((48, 32), Image.Resampling.BICUBIC)
        save(path, small.resize((96, 64), Image.Resampling.BICUBIC))
        save(find_image(path), draw_noise(number, 64, 96, 3))


def count_hundreds(root: Path) -> None:
    """Masks in 16 bits that number hundreds of objects of 4 x 4 pixels."""
    for number, path in enumerate(list_masks(root)):
        ids = np.arange(1, 401).reshape(20, 20).repeat(4, axis=0).repeat(4, axis=1)
        ids[ids > 400 - number] = 0
        Image.fromarray(ids.astype(np.uint16)).save(path)
        save(find_image(path), draw_noise(number, 80, 80, 3))


def break_many(root: Path, size: int | None) -> None:
    for image in add_pairs(root, 90)[:45]:
        image.write_bytes(image.read_bytes()[:size])


def break_many_masks(root: Path) -> None:
    for image in add_pairs(root, 90)[:45]:
        save(root / "masks" / "train" / image.name, draw_mask(0, 1)[:-1])


def draw_blocks(root: Path, values: np.ndarray) -> None:
    """Masks of 8 x 8 blocks of 4 x 6 pixels, one for each value."""
    for number, path in enumerate(list_masks(root)):
        pixels = values.reshape(8, 8, -1).repeat(4, axis=0).repeat(6, axis=1)
        save(path, pixels)
        save(find_image(path), draw_noise(number, *pixels.shape[:2], 3))


def colour_in_60(root: Path) -> None:
    colours = np.random.default_rng(4).permutation(256**3)[:60].astype(">u4").view(np.uint8).reshape(60, 4)[:, 1:]
    colours[0] = 0
    draw_blocks(root, colours[np.arange(64) % 60])


def draw_strays() -> np.ndarray:
    """A mask of two classes with a pixel each of thirty other ids."""
    mask = draw_mask(0, 1).copy()
    mask[::8, ::2].flat[:24] = np.arange(10, 34)
    return mask


Kind = Callable[[Path], object]


def save_raster(path: Path, pixels: np.ndarray, nodata: str = "", corner: tuple[float, float] | None = None) -> Path:
    """Write a TIFF in place of a PNG; its pixels are 10 m wide if it has a corner."""
    tags: list[tuple[int, object, int, object, bool]] = []
    if nodata:
        tags.append((42113, "s", 0, nodata, True))
    if corner is not None:
        tags += [(33550, "d", 3, (10.0, 10.0, 0.0), True), (33922, "d", 6, (0.0, 0.0, 0.0, *corner, 0.0), True)]
    path.unlink()
    kind = "rgb" if pixels.ndim == 3 and pixels.shape[2] == 3 else "minisblack"
    target = path.with_suffix(".tif")
    tifffile.imwrite(target, pixels, photometric=kind, planarconfig=(pixels.ndim == 3 and 1) or None, extratags=tags)
    return target


def load(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def add_band(root: Path) -> None:
    path = first_image(root)
    pixels = load(path)
    save_raster(path, np.dstack([pixels, pixels[..., :2]]))


def move_mask(root: Path) -> None:
    mask = first_mask(root)
    save_raster(first_image(root), load(first_image(root)), corner=(500_000.0, 4_000_000.0))
    save_raster(mask, load(mask), corner=(500_100.0, 4_000_000.0))


def leave_no_data(root: Path) -> None:
    path = first_image(root)
    pixels = load(path).copy()
    pixels[:4] = 7
    save_raster(path, pixels, nodata="7")


def leave_no_data_at_all(root: Path) -> None:
    save_raster(first_image(root), np.full((*SIZE, 3), 7, np.uint8), nodata="7")


def save_16_bits(root: Path) -> None:
    generator = np.random.default_rng(3)
    for mask in list_masks(root):
        save_raster(find_image(mask), generator.integers(0, 60_000, (*SIZE, 4)).astype(np.uint16))


CASES: dict[str, dict[str, Kind]] = {
    "unlisted-folder": {"locked": lock_folder},
    "duplicate-name": {
        "image": lambda root: save(root / "images" / "train" / "0.bmp", np.zeros((*SIZE, 3))),
        "mask": lambda root: save(root / "masks" / "train" / "0.bmp", draw_mask(0, 1)),
    },
    "name-differs-by-case": {"letters": rename_case},
    "name-differs-by-encoding": {"umlaut": rename_encoding},
    "image-without-mask": {"one": lambda root: first_mask(root).unlink(), "most": drop_masks},
    "mask-without-image": {"one": lambda root: first_image(root).unlink()},
    "empty-split": {"val": empty_val, "train": empty_train, "one pair": keep_one_pair},
    "unreadable-image": {
        "text": lambda root: first_image(root).write_bytes(b"no image"),
        "empty": lambda root: first_image(root).write_bytes(b""),
        "many": lambda root: break_many(root, 8),
        "AVIF": lambda root: first_image(root).write_bytes(b"\0\0\0\x1cftypavif" + bytes(64)),
    },
    "truncated-image": {
        "PNG": cut_image,
        "many": lambda root: break_many(root, -60),
        "most": lambda root: cut_images(root, 9),
        "all of val": lambda root: cut_images(root, split="val"),
        "all": cut_images,
    },
    "unreadable-mask": {
        "empty": lambda root: first_mask(root).write_bytes(b""),
        "cut": lambda root: first_mask(root).write_bytes(first_mask(root).read_bytes()[:48]),
    },
    "lossy-mask": {"JPEG": save_lossy, "TIFF": save_lossy_tiff, "all": save_all_lossy},
    "colour-mask": {
        "RGB": lambda root: colour_masks(root, (0, 0, 0), (255, 0, 0)),
        "without names": lambda root: (name_nothing(root), colour_masks(root, (9, 9, 9), (255, 0, 0), (0, 0, 1))),
        "sixty": colour_in_60,
        "photos": colour_as_photos,
        "smooth": colour_smoothly,
        "more than named": lambda root: colour_masks(root, (0, 0, 0), (255, 0, 0), (0, 255, 0)),
    },
    "alpha-mask": {"RGBA": hide_in_alpha},
    "multi-page-mask": {"TIFF": add_page},
    "multi-page-image": {"TIFF": repeat_page},
    "size-mismatch": {
        "half": lambda root: save(first_image(root), draw_noise(5, 8, 12, 3)),
        "cut": lambda root: save(first_mask(root), draw_mask(0, 1)[:-1]),
        "many": break_many_masks,
        "all": lambda root: write_masks(root, draw_mask(0, 1)[:-1]),
    },
    "transposed-mask": {"turned": lambda root: save(first_mask(root), draw_mask(0, 1).T)},
    "interpolated-mask": {"smooth": smooth, "all": smooth_all, "one photo": draw_photo, "photos": draw_photos},
    "palettes-differ": {"swapped": paint, "of each mask": paint_more},
    "instance-mask": {
        "named": count_objects,
        "without names": lambda root: (name_nothing(root), count_objects(root)),
        "hundreds": count_hundreds,
    },
    "unknown-id": {
        "one mask": lambda root: save(first_mask(root), draw_mask(0, 1, 7)),
        "16 bits": lambda root: write_16_bits(root, 0, 1, 300),
        "many in one": lambda root: save(first_mask(root), draw_strays()),
        "many in all": lambda root: write_masks(root, draw_strays()),
        "named too few": lambda root: write_masks(root, draw_mask(0, 1, 2, 3)),
    },
    "binary-255": {
        "255": lambda root: (name_nothing(root), write_masks(root, draw_mask(0, 255))),
        "128": lambda root: (name_nothing(root), write_masks(root, draw_mask(0, 128))),
        "65535": lambda root: (name_nothing(root), write_16_bits(root, 0, 65535)),
        "smooth": lambda root: (name_nothing(root), smooth_binary(root)),
        "smooth and named": smooth_binary,
        "beside 1": lambda root: (name_nothing(root), write_masks(root, draw_mask(0, 1), draw_mask(0, 255))),
        "beside 1, named": lambda root: write_masks(root, draw_mask(0, 1), draw_mask(0, 255)),
    },
    "single-class": {
        "beside void": lambda root: (name_nothing(root), write_masks(root, draw_mask(4, 255))),
        "named": lambda root: (write_settings(root, "classes: {1: cat}"), write_masks(root, draw_mask(1, 255))),
        "one value": lambda root: (name_nothing(root), write_masks(root, draw_mask(4))),
        "one named": lambda root: (write_settings(root, "classes: {1: cat}"), write_masks(root, draw_mask(1))),
    },
    "no-labelled-pixel": {
        "void in train": lambda root: (
            [save(path, draw_mask(255)) for path in list_masks(root, "train")[1:]]
            and save(list_masks(root, "train")[0], draw_mask(255))
        ),
        "all ignored": lambda root: (
            write_settings(root, "classes: {2: road, 3: car}, ignore: [0, 1]"),
            write_masks(root, draw_mask(0, 1)),
        ),
        "void in val": lambda root: [save(path, draw_mask(255)) for path in list_masks(root, "val")],
        "void": lambda root: (name_nothing(root), write_masks(root, draw_mask(255))),
    },
    "named-class-empty": {
        "one value": lambda root: write_masks(root, draw_mask(1)),
        "absent": lambda root: (
            write_settings(root, "classes: {0: road, 1: car, 2: cat}"),
            write_masks(root, draw_mask(0, 1)),
        ),
        "255": lambda root: write_masks(root, draw_mask(0, 255)),
        "65535": lambda root: write_16_bits(root, 0, 65535),
        "in val alone": lambda root: (
            write_settings(root, "classes: {0: road, 1: car, 2: cat}"),
            put_class_in(root, "val"),
        ),
    },
    "class-in-one-split-only": {
        "train": lambda root: (
            write_settings(root, "classes: {0: road, 1: car, 2: cat}"),
            put_class_in(root, "train"),
        ),
        "val": lambda root: (name_nothing(root), put_class_in(root, "val")),
        "one image": lambda root: (
            write_settings(root, "classes: {0: road, 1: car, 2: cat}"),
            save(first_mask(root), draw_mask(0, 1, 2)),
        ),
    },
    "rare-class": {"few pixels": make_rare},
    "mostly-void": {"one mask": leave_void, "all masks": leave_all_void},
    "split-overlap": {
        "one": lambda root: save(
            find_image(list_masks(root, "val")[0]), Image.open(find_image(list_masks(root, "train")[0]))
        ),
        "all": copy_train,
    },
    "near-duplicate-across-splits": {"one": copy_brighter, "clips": film},
    "same-group-across-splits": {"clips": film_two_scenes},
    "channels-differ": {"one": add_band},
    "place-mismatch": {"one": move_mask},
    "nodata": {"one": leave_no_data, "all of one": leave_no_data_at_all},
    "dark-images": {
        "one": lambda root: save(first_image(root), draw_noise(9, below=16)),
        "all": lambda root: [
            save(find_image(mask), draw_noise(number, below=16)) for number, mask in enumerate(list_masks(root))
        ],
    },
    "unused-levels": {"one": save_12_bits, "all": save_all_in_12_bits},
    "mixed-modes": {"grey": lambda root: save(first_image(root), draw_noise(9, *SIZE)), "half": save_half_grey},
    "band-values": {"four bands": save_16_bits},
    "ignored-ids": {"void": lambda root: save(first_mask(root), draw_mask(0, 1, 255))},
    "exif-rotated": {"half a turn": turn},
    "icc-profile": {"Adobe": add_profile},
    "hidden-files": {"a file": lambda root: (root / "images" / "train" / ".hidden").touch()},
    "foreign-files": {"a text": lambda root: (root / "images" / "train" / "notes.txt").touch()},
    "excluded-files": {"one": lambda root: write_settings(root, "classes: {0: road, 1: car}, exclude: [0.png]")},
    "linked-folders": {"a loop": link_folder},
    "special-files": {"a pipe": lambda root: os.mkfifo(root / "images" / "train" / "pipe.png")},
}
KINDS = [(code, kind) for code, kinds in CASES.items() for kind in kinds]


@pytest.fixture(autouse=True)
def _lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders without the permission to read cannot be listed, even by root."""
    scan = os.scandir

    def refuse(path: str | Path) -> object:
        if not os.stat(path).st_mode & 0o400:
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)


def check(root: Path) -> CheckResult:
    return check_data(load_config(options={"data.source": str(root)}).config.data)


def is_refused(root: Path) -> bool:
    config = load_config(options={"data.source": str(root)}).config.data
    try:
        check_training_data(config, build_splits(config))
    except DataError:
        return True
    return False


def test_sound_data_have_no_findings(root):
    assert check(root).findings == ()
    assert not is_refused(root)


def test_every_check_has_a_case():
    assert set(CASES) == set(CHECKS)
    assert len([code for code, _ in KINDS if find_severity(code) != "note"]) >= 45


def find_severity(code: str) -> str:
    return "note" if code in NOTES else "error or warning"


NOTES = (
    *("ignored-ids", "exif-rotated", "icc-profile", "hidden-files", "foreign-files", "excluded-files"),
    *("linked-folders", "special-files", "band-values"),
)


@pytest.mark.parametrize(("code", "kind"), KINDS)
def test_data_broken_in_one_way_have_its_finding_and_no_other_error(code, kind, root):
    CASES[code][kind](root)
    result = check(root)
    own = [finding for finding in result.findings if finding.code == code]
    assert own
    assert {finding.code for finding in result.findings if finding.severity == "error"} <= {code}
    assert {finding.severity for finding in own} == {"note"} or code not in NOTES
    assert is_refused(root) == (result.exit_code == DataError.exit_code)
    for finding in own:
        assert finding.count >= 1
        assert finding.message
        assert len(finding.files) <= FILES_KEPT
        fix = finding.to_json()["fix"]
        assert finding.severity == "note" or fix["text"]
        assert finding.severity == "note" or {"yaml", "command"} & fix.keys() or (code, kind) in UNSOLVABLE
    assert list(CHECKS.load(code)(Survey())) == []


SOLVABLE = [(code, kind) for code, kind in KINDS if code not in NOTES]
UNSOLVABLE: dict[tuple[str, str], str] = {
    ("empty-split", "one pair"): "no image is left to score",
    ("truncated-image", "all"): "no image is left",
    ("lossy-mask", "all"): "the ids are lost",
    ("colour-mask", "photos"): "more colours than classes: which are labels is unknown",
    ("interpolated-mask", "all"): "the ids are lost",
    ("interpolated-mask", "photos"): "the masks hold no labels",
    ("size-mismatch", "all"): "which pixel has which label is unknown",
    ("single-class", "one value"): "there is no second class",
    ("single-class", "one named"): "there is no second class",
    ("named-class-empty", "one value"): "there is no second class",
    ("no-labelled-pixel", "void"): "no pixel has a label",
}
"""Data that nothing in an atrous.yaml makes trainable, and why: for these an instruction is printed, and no lines."""
SINGLE = (
    *(("unreadable-image", "text"), ("unreadable-image", "AVIF"), ("truncated-image", "PNG"), ("lossy-mask", "JPEG")),
    *(("unreadable-mask", "empty"), ("alpha-mask", "RGBA"), ("multi-page-mask", "TIFF"), ("size-mismatch", "half")),
    *(("transposed-mask", "turned"), ("interpolated-mask", "smooth"), ("duplicate-name", "image")),
    *(("mask-without-image", "one"), ("image-without-mask", "one"), ("channels-differ", "one")),
    *(("place-mismatch", "one"), ("multi-page-image", "TIFF"), ("dark-images", "one"), ("split-overlap", "one")),
)
"""Data of which a single file is bad."""


def test_what_nothing_solves_is_a_short_list_with_reasons():
    assert set(UNSOLVABLE) <= set(SOLVABLE)
    assert len(UNSOLVABLE) <= len(SOLVABLE) / 5
    assert {code for code, _ in SOLVABLE} == {code for code, _ in set(SOLVABLE) - set(UNSOLVABLE)}


@pytest.mark.parametrize(("code", "kind"), [pair for pair in SOLVABLE if pair not in UNSOLVABLE])
def test_what_is_printed_leads_to_a_training(code, kind, root, capsys, monkeypatch):
    """What the command line prints is carried out word by word; then notes are left, and a training runs."""
    monkeypatch.chdir(root.parent)  # where commands write
    CASES[code][kind](root)
    first = printed.check(root, lambda: capsys.readouterr().out)
    assert code in [name for _, name in first.found]
    data, options, last = printed.solve(root, lambda: capsys.readouterr().out)
    assert last.is_sound or options
    assert printed.train(data, *options) == 0
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize(("code", "kind"), UNSOLVABLE)
def test_what_nothing_solves_has_an_instruction_and_no_training(code, kind, root, capsys):
    CASES[code][kind](root)
    found = [finding for finding in check(root).findings if finding.severity != "note"]
    assert [finding.code for finding in found] == [code]
    assert found[0].fix
    data, options, last = printed.solve(root, lambda: capsys.readouterr().out)
    assert (data, options, last.is_sound) == (root, [], False)
    if found[0].severity == "error":
        assert printed.train(root) == DataError.exit_code
        assert found[0].fix.split(":")[0] in capsys.readouterr().err


def test_no_fix_makes_a_class_of_what_may_be_unknown(root):
    leave_all_void(root)
    found = [finding for finding in check(root).findings if finding.code == "mostly-void"]
    assert [(finding.severity, finding.settings) for finding in found] == [("warning", {"ignore": [255]})] * 2


def test_blended_colours_become_the_nearer_one(root):
    colour_smoothly(root)
    (finding,) = [finding for finding in check(root).findings if finding.code == "colour-mask"]
    table = finding.settings["colours"]
    assert {*table.values()} == {0, 1}
    assert len(table) > 4
    assert all(number == (colour[0] >= 125) for colour, number in table.items())


@pytest.mark.parametrize(("code", "kind"), SINGLE)
def test_a_single_bad_file_is_excluded(code, kind, root):
    CASES[code][kind](root)
    (settings,) = [finding.settings for finding in check(root).findings if finding.code == code]
    assert [*settings] == ["exclude"]
    assert len(settings["exclude"]) == 1
