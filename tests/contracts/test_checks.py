"""What every entry of CHECKS must keep, on data broken in one way each: its finding and no other error, and a fix."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image
from ruamel.yaml import YAML

from atrous.config.load import load_config
from atrous.core.errors import DataError
from atrous.core.findings import FILES_KEPT, CheckResult, format_settings
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


def lock_folder(root: Path) -> None:
    (root / "images" / "train" / "locked").mkdir()


def rename_case(root: Path) -> None:
    for kind in ("images", "masks"):
        first = root / kind / "train" / "0.png"
        first.rename(first.with_name("P0.png" if kind == "images" else "p0.png"))


def rename_encoding(root: Path) -> None:
    for kind, form in (("images", "NFC"), ("masks", "NFD")):
        first = root / kind / "train" / "1.png"
        first.rename(first.with_name(unicodedata.normalize(form, "Bücher.png")))


def empty_val(root: Path) -> None:
    for mask in list_masks(root, "val"):
        mask.unlink()
        find_image(mask).unlink()


def count_objects(root: Path) -> None:
    for number, path in enumerate(list_masks(root)):
        save(path, draw_mask(*range(2 + number % 6)))


def turn(root: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    path = find_image(list_masks(root)[0])
    Image.open(path).save(path, exif=exif)


def break_pair(root: Path) -> None:
    path = find_image(list_masks(root)[0])
    save(path, np.zeros((8, 12, 3)))


def leave_void(root: Path) -> None:
    mask = draw_mask(0, 1)
    mask[1:] = 255
    save(list_masks(root)[0], mask)


def make_rare(root: Path) -> None:
    (root / "atrous.yaml").write_text("data: {classes: {0: road, 1: car, 2: cat}}\n")
    for path in list_masks(root):
        image, mask = np.random.default_rng(int(path.stem)).integers(0, 256, (120, 120, 3)), np.zeros((120, 120))
        mask[:60] = 1
        mask[0, 0] = 2
        save(find_image(path), image + (path.parent.name == "val"))
        save(path, mask)


def repeat_page(root: Path) -> None:
    path = find_image(list_masks(root)[0])
    image = Image.open(path)
    path.unlink()
    image.save(path.with_suffix(".tif"), save_all=True, append_images=[image])


def copy_brighter(root: Path) -> None:
    pixels = np.array(Image.open(find_image(list_masks(root, "train")[0])))
    save(find_image(list_masks(root, "val")[0]), np.minimum(pixels, 254) + 1)


def film_two_scenes(root: Path) -> None:
    """Train on two film clips, one of them red and one green, and score on more of the red one."""
    generator = np.random.default_rng(0)
    for number, mask in enumerate(list_masks(root)):
        scene = "red" if mask.parent.name == "val" or number % 2 else "green"
        pixels = generator.integers(0, 128, (*SIZE, 3))
        pixels[..., 0 if scene == "red" else 1] += 127
        find_image(mask).unlink()
        save(find_image(mask).with_stem(f"{scene}_{mask.stem}"), pixels)
        mask.rename(mask.with_stem(f"{scene}_{mask.stem}"))


def save_12_bits(root: Path) -> None:
    generator = np.random.default_rng(0)
    for mask in list_masks(root):
        Image.fromarray(generator.integers(0, 4096, SIZE).astype(np.uint16)).save(find_image(mask))


def add_profile(root: Path) -> None:
    path = find_image(list_masks(root)[0])
    Image.open(path).save(path, icc_profile=b"Adobe RGB (1998)")


def save_lossy(root: Path) -> None:
    path = list_masks(root)[0]
    path.unlink()
    Image.fromarray(draw_mask(0, 1)).save(path, format="JPEG")


def colour_mask(root: Path) -> None:
    for path in list_masks(root):
        save(path, np.array([[0, 0, 0], [255, 0, 0]])[draw_mask(0, 1)])


def hide_in_alpha(root: Path) -> None:
    pixels = np.zeros((*SIZE, 4))
    pixels[..., 3] = draw_mask(0, 1)
    save(list_masks(root)[0], pixels)


def add_page(root: Path) -> None:
    path = list_masks(root)[0]
    path.unlink()
    page = Image.fromarray(draw_mask(0, 1))
    page.save(path.with_suffix(".tif"), save_all=True, append_images=[page])


def smooth(root: Path) -> None:
    mask = np.zeros(SIZE, np.uint8)
    mask[:, SIZE[1] // 2 :] = 9
    (root / "atrous.yaml").write_text("data: {classes: {0: road, 9: car}}\n")
    write_masks(root, mask)
    mask[2:, 10:14] = (1, 3, 6, 8)
    mask[:, 11:13] -= np.arange(SIZE[0])[:, None].astype(np.uint8) % 2
    save(list_masks(root)[0], mask)


def paint(root: Path) -> None:
    """Masks of the same colours, whose palettes have them in another order."""
    for number, path in enumerate(list_masks(root)):
        image = Image.fromarray(draw_mask(0, 1))
        image.putpalette([0, 0, 0, 255, 0, 0] if number else [255, 0, 0, 0, 0, 0])
        image.save(path)


def cut_image(root: Path) -> None:
    path = find_image(list_masks(root)[0])
    path.write_bytes(path.read_bytes()[:-400])


CASES: dict[str, Callable[[Path], object]] = {
    "unlisted-folder": lock_folder,
    "duplicate-name": lambda root: save(root / "images" / "train" / "0.bmp", np.zeros((*SIZE, 3))),
    "name-differs-by-case": rename_case,
    "name-differs-by-encoding": rename_encoding,
    "image-without-mask": lambda root: list_masks(root)[0].unlink(),
    "mask-without-image": lambda root: find_image(list_masks(root)[0]).unlink(),
    "empty-split": empty_val,
    "unreadable-image": lambda root: find_image(list_masks(root)[0]).write_bytes(b"no image"),
    "truncated-image": cut_image,
    "unreadable-mask": lambda root: list_masks(root)[0].write_bytes(b""),
    "lossy-mask": save_lossy,
    "colour-mask": colour_mask,
    "alpha-mask": hide_in_alpha,
    "multi-page-mask": add_page,
    "multi-page-image": repeat_page,
    "size-mismatch": break_pair,
    "transposed-mask": lambda root: save(list_masks(root)[0], draw_mask(0, 1).T),
    "interpolated-mask": smooth,
    "palettes-differ": paint,
    "instance-mask": count_objects,
    "unknown-id": lambda root: save(list_masks(root)[0], draw_mask(0, 1, 7)),
    "binary-255": lambda root: (name_nothing(root), write_masks(root, draw_mask(0, 255))),
    "single-class": lambda root: (name_nothing(root), write_masks(root, draw_mask(4))),
    "no-labelled-pixel": lambda root: write_masks(root, draw_mask(255)),
    "named-class-empty": lambda root: write_masks(root, draw_mask(0)),
    "class-in-one-split-only": lambda root: [save(path, draw_mask(0)) for path in list_masks(root, "val")],
    "rare-class": make_rare,
    "mostly-void": leave_void,
    "split-overlap": lambda root: save(
        find_image(list_masks(root, "val")[0]), Image.open(find_image(list_masks(root, "train")[0]))
    ),
    "near-duplicate-across-splits": copy_brighter,
    "same-group-across-splits": film_two_scenes,
    "dark-images": lambda root: save(
        find_image(list_masks(root)[0]), np.random.default_rng(9).integers(0, 16, (*SIZE, 3))
    ),
    "unused-levels": save_12_bits,
    "mixed-modes": lambda root: save(find_image(list_masks(root)[0]), np.random.default_rng(9).integers(0, 256, SIZE)),
    "ignored-ids": lambda root: save(list_masks(root)[0], draw_mask(0, 1, 255)),
    "exif-rotated": turn,
    "icc-profile": add_profile,
    "hidden-files": lambda root: (root / "images" / "train" / ".hidden").touch(),
    "foreign-files": lambda root: (root / "images" / "train" / "notes.txt").touch(),
    "excluded-files": lambda root: (root / "atrous.yaml").write_text(NAMED.replace("}}", "}, exclude: [0.png]}")),
    "linked-folders": lambda root: (root / "images" / "train" / "more").symlink_to(root / "masks"),
    "special-files": lambda root: os.mkfifo(root / "images" / "train" / "pipe.png"),
}


@pytest.fixture(autouse=True)
def _lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders called locked cannot be listed, even by root."""
    scan = os.scandir

    def refuse(path: str | Path) -> object:
        if str(path).endswith("locked"):
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


@pytest.mark.parametrize("code", list(CHECKS))
def test_data_broken_in_one_way_have_its_finding_and_no_other_error(code, root):
    CASES[code](root)
    result = check(root)
    own = [finding for finding in result.findings if finding.code == code]
    assert own
    assert {finding.code for finding in result.findings if finding.severity == "error"} <= {code}
    assert is_refused(root) == (result.exit_code == DataError.exit_code)
    for finding in own:
        assert finding.count >= 1
        assert finding.message
        assert finding.fix or finding.severity == "note"
        assert len(finding.files) <= FILES_KEPT
        assert YAML(typ="safe", pure=True).load(finding.to_json()["fix"].get("yaml", "data:"))["data"] is not False
    assert list(CHECKS.load(code)(Survey())) == []


SOLVED = (
    *("image-without-mask", "mask-without-image", "unreadable-image", "truncated-image", "unreadable-mask"),
    *("lossy-mask", "alpha-mask", "multi-page-mask", "size-mismatch", "transposed-mask", "interpolated-mask"),
    *("multi-page-image", "unknown-id", "instance-mask", "binary-255", "named-class-empty"),
)


@pytest.mark.parametrize("code", SOLVED)
def test_the_settings_that_solve_it_do(code, root):
    """They are written beside the settings that the data have already."""
    CASES[code](root)
    (finding,) = (finding for finding in check(root).findings if finding.code == code)
    path = root / "atrous.yaml"
    before = YAML(typ="safe", pure=True).load(path.read_text())["data"] if path.exists() else {}
    path.write_text(format_settings({**before, **finding.settings}))
    assert {left.code for left in check(root).findings if left.severity == "error"} <= {"named-class-empty"} - {code}


def test_a_command_that_solves_it_does(root):
    for code in ("name-differs-by-case", "name-differs-by-encoding"):
        CASES[code](root)
        (finding,) = (finding for finding in check(root).findings if finding.code == code)
        assert os.system(finding.command) == 0
        assert check(root).findings == ()
