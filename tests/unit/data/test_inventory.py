from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from atrous.data.inventory import Exclusion, FileSet, list_folder, take_inventory


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("a.png", ["a.png", "deep/er/a.png"], ["b.png", "aa.png", "a.png.png"]),
        ("old/*", ["old/a.png", "images/old/a.png", "old/deep/a.png"], ["a.png", "very_old/a.png", "old.png"]),
        ("old", ["old/a.png", "x/old/y/a.png"], ["older/a.png", "a/old.png"]),
        ("old/", ["old/a.png"], ["a.png"]),
        ("images/a_?.png", ["images/a_1.png", "x/images/a_2.png"], ["a_1.png", "images/a_12.png"]),
        ("[ab].png", ["a.png", "x/b.png"], ["c.png"]),
    ],
)
def test_an_exclusion_is_the_end_of_a_path_inside_the_data(pattern, matching, others):
    root = Path("/data/old")
    exclusion = Exclusion(root, (pattern,))
    assert [name for name in matching if exclusion.find_pattern(root / name) != pattern] == []
    assert [name for name in others if exclusion.find_pattern(root / name) is not None] == []


def test_of_files_with_one_name_the_excluded_one_goes_and_the_pair_stays(tmp_path):
    touch(tmp_path, "images/a.png", "images/a.jpg", "masks/a.png", "images/b.png", "images/b.jpg", "masks/b.png")
    exclusion = Exclusion(tmp_path, ("images/a.png", "masks/b.png"))
    (inventory,) = take_inventory([("", tmp_path / "images", tmp_path / "masks")], exclusion)
    assert [(Path(pair.image).name, Path(pair.mask).name) for pair in inventory.pairs] == [("a.jpg", "a.png")]
    assert inventory.images_without_mask == inventory.masks_without_image == []
    assert {Path(file).name for file in inventory.images.excluded["b"]} == {"b.jpg", "b.png"}
    assert not inventory.images.doubled.keys() & {"a", "b"}


def test_keys_of_all_files_begin_as_those_of_their_split(tmp_path):
    touch(
        tmp_path, *(f"{kind}/{name}" for kind in ("images", "masks") for name in ("a.png", "b.png", "b.tif", "c.png"))
    )
    both = tmp_path / "images", tmp_path / "masks"
    (inventory,) = take_inventory([("train/", *both)], Exclusion(tmp_path, ("masks/c.png",)))
    for listing in (inventory.images, inventory.masks):
        found = [{*listing.files}, {*listing.doubled}, {*listing.excluded}]
        assert found == [{"train/a", "train/b"}, {"train/b"}, {"train/c"}]
    kept = inventory.keep("val/")
    for listing in (kept.images, kept.masks):
        assert [*listing.files, *listing.doubled, *listing.excluded] == []


@pytest.mark.parametrize(("unlabelled", "num_pairs"), [("error", 1), ("ignore", 1), ("background", 2)])
def test_pairs_are_counted_as_they_are_listed(tmp_path, unlabelled, num_pairs):
    touch(tmp_path, "images/a.png", "images/b.png", "masks/a.png", "masks/c.png")
    (inventory,) = take_inventory([("", tmp_path / "images", tmp_path / "masks")])
    inventory = replace(inventory, unlabelled=unlabelled)
    assert inventory.num_pairs == len(inventory.pairs) == num_pairs


@pytest.mark.parametrize(
    ("pattern", "keys", "unmatched"),
    [
        ("", ["a", "a_mask", "b_mask", "deep/c_mask", "deep/deep"], []),
        ("{stem}_mask", ["a", "b", "deep/c"], ["a.jpg", "deep/deep.png"]),
        ("{stem}_mask.png", ["a", "deep/c"], ["a.jpg", "b_mask.tif", "deep/deep.png"]),
        ("{stem}_mask.*", ["a", "b", "deep/c"], ["a.jpg", "deep/deep.png"]),
        ("*_mask.png", ["a_mask"], ["a.jpg", "b_mask.tif", "deep/c_mask.png", "deep/deep.png"]),
        ("**/*_mask.png", ["a_mask", "deep/c_mask"], ["a.jpg", "b_mask.tif", "deep/deep.png"]),
        ("{stem}/{stem}.png", ["deep"], ["a.jpg", "a_mask.png", "b_mask.tif", "deep/c_mask.png"]),
        ("?.jpg", ["a"], ["a_mask.png", "b_mask.tif", "deep/c_mask.png", "deep/deep.png"]),
    ],
)
def test_the_files_of_a_pattern_and_what_they_share_with_their_partner(pattern, keys, unmatched, tmp_path):
    touch(tmp_path, "a.jpg", "a_mask.png", "b_mask.tif", "deep/c_mask.png", "deep/deep.png")
    listing = list_folder(FileSet(tmp_path, pattern))
    assert sorted(listing.files) == keys
    assert sorted(Path(file).relative_to(tmp_path).as_posix() for file in listing.unmatched) == unmatched


def test_a_folder_that_exists_is_no_pattern(tmp_path):
    touch(tmp_path, "who?/a.jpg", "{x} [1]/a.png", "real/a_mask.png")
    parsed = [FileSet.parse(tmp_path, text) for text in ("who?", "{x} [1]/{stem}.png", "re*/{stem}_mask.png", "?eal")]
    assert [(files.folder, files.pattern) for files in parsed] == [
        (tmp_path / "who?", ""),
        (tmp_path / "{x} [1]", "{stem}.png"),
        (tmp_path, "re*/{stem}_mask.png"),
        (tmp_path, "?eal"),
    ]
