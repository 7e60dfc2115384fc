from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.core.errors import ConfigError, DataError
from atrous.core.split_options import SplitOptions
from atrous.data.checks.survey import Survey, run_checks
from atrous.data.contracts import DataRequest
from atrous.data.datasets.folder import build_folder
from atrous.data.facts import read_facts
from atrous.data.facts_cache import FactsCache
from atrous.data.mask_reader import MaskReader


def save(path, array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path)


def fill(image_folder, mask_folder, count=4, ids=(0, 1, 255), suffix=".jpg", name="{}") -> None:
    generator = np.random.default_rng(0)
    for number in range(count):
        save(image_folder / (name.format(number) + suffix), np.zeros((4, 5, 3)))
        save(mask_folder / f"{name.format(number)}.png", generator.permutation(np.resize(ids, 20)).reshape(4, 5))


def test_images_and_masks_with_splits_inside(tmp_path):
    for split, count in (("train", 4), ("val", 2)):
        fill(tmp_path / "images" / split, tmp_path / "masks" / split, count)
    splits = build_folder(tmp_path)
    assert (len(splits.train), len(splits.val)) == (4, 2)
    assert splits.train.key(0) == "train/0"
    assert splits.val.key(0) == "val/0"
    assert "images/ and masks/ with train/ and val/" in splits.layout


def test_splits_with_images_and_masks_inside(tmp_path):
    for split, count in (("train", 4), ("val", 2)):
        fill(tmp_path / split / "images", tmp_path / split / "masks", count)
    splits = build_folder(tmp_path)
    assert (len(splits.train), len(splits.val)) == (4, 2)
    assert splits.train.name == f"{tmp_path.name} train"


def test_flat_folder_is_split_by_seed_and_said_so(tmp_path):
    fill(tmp_path / "images", tmp_path / "masks", 20)
    splits = build_folder(tmp_path)
    keys = {
        split: [data.key(index) for index in range(len(data))]
        for split, data in (("train", splits.train), ("val", splits.val))
    }
    assert len(keys["val"]) == 4
    assert sorted(keys["train"] + keys["val"]) == sorted(str(number) for number in range(20))
    assert any("4 of 20 pairs held out" in note and "seed 0" in note for note in splits.notes)
    again, other = build_folder(tmp_path), build_folder(tmp_path, DataRequest(split=SplitOptions(seed=1)))
    assert again.val == splits.val
    assert other.val != splits.val


def test_segnet_layout_is_recognised(tmp_path):
    for split in ("train", "val"):
        fill(tmp_path / split, tmp_path / f"{split}annot")
    splits = build_folder(tmp_path)
    assert splits.layout == "SegNet's"
    assert any("camvid=PATH" in note for note in splits.notes)


def test_voc_layout_is_recognised_with_and_without_lists(tmp_path):
    fill(tmp_path / "JPEGImages", tmp_path / "SegmentationClass", 5)
    assert build_folder(tmp_path).layout == "VOC's without lists"
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("0\n1\n2\n")
    (lists / "val.txt").write_text("3\n")
    splits = build_folder(tmp_path)
    assert splits.layout == "VOC's"
    assert (len(splits.train), len(splits.val)) == (3, 1)


def test_classes_not_named_are_the_ids_found(tmp_path):
    fill(tmp_path / "images", tmp_path / "masks", ids=(0, 3, 7, 255))
    splits = build_folder(tmp_path)
    assert splits.train.label_space.ids == (0, 3, 7)
    assert splits.train.label_space.ignored_ids == (255,)
    assert any("ids found in all masks, 0, 3, 7" in note for note in splits.notes)


def test_an_object_saved_as_255_is_read_where_it_is_named(tmp_path):
    fill(tmp_path / "images", tmp_path / "masks", ids=(0, 255))
    assert build_folder(tmp_path).train.label_space.ids == (0,)
    request = DataRequest(("background", "object"), ignore=(), mask_reader=MaskReader({255: 1}))
    splits = build_folder(tmp_path, request)
    assert set(np.unique(splits.train.get(0).labels)) == set(np.unique(splits.train.mask(0))) == {0, 1}


def test_of_mapped_masks_without_names_another_number_is_no_class(tmp_path):
    fill(tmp_path / "images", tmp_path / "masks", ids=(0, 128, 255))
    splits = build_folder(tmp_path, DataRequest(ignore=(), mask_reader=MaskReader({255: 1})))
    assert splits.train.label_space.ids == (0, 1)
    with pytest.raises(DataError, match=r"ids outside the classes: 128"):
        splits.train.get(0)


def test_a_map_to_what_is_no_class_is_refused(tmp_path):
    fill(tmp_path / "images", tmp_path / "masks", ids=(0, 1, 255))
    request = DataRequest(("a", "b"), ignore=(), mask_reader=MaskReader({255: 2}))
    with pytest.raises(ConfigError, match="255 becomes 2, which is neither a class nor ignored"):
        build_folder(tmp_path, request)


def test_unknown_layout_lists_what_is_there_and_what_is_known(tmp_path):
    fill(tmp_path / "one", tmp_path / "two")
    with pytest.raises(DataError, match=r"folders inside: one/, two/") as caught:
        build_folder(tmp_path)
    assert "images/ and masks/" in caught.value.hint
    assert caught.value.findings[0].settings == {"images": "one", "masks": "two"}
    assert "data:\n  images: one\n  masks: two" in caught.value.hint


def lay_out(root, layout, names):
    """Four pairs in each split, laid out in one of the ways that have splits."""
    for name in names:
        if layout == "inside":
            fill(root / "images" / name, root / "masks" / name)
        elif layout == "outside":
            fill(root / name / "images", root / name / "masks")
        elif layout == "segnet":
            fill(root / name, root / f"{name}annot")
        else:
            fill(root / "JPEGImages", root / "SegmentationClass", name=f"{name}{{}}")
            lists = root / "ImageSets" / "Segmentation"
            lists.mkdir(parents=True, exist_ok=True)
            (lists / f"{name}.txt").write_text("".join(f"{name}{number}\n" for number in range(4)))


LAYOUTS = ["inside", "outside", "segnet", "voc"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("names", "missing", "options"),
    [
        (("train", "valid"), "val", "data.split.val=valid"),
        (
            ("training", "validation"),
            "train and no split val",
            "data.split.train=training `set` data.split.val=validation",
        ),
        (("train", "test"), "val", "data.split.val=test"),
        (("train",), "val", ""),
        (("test",), "train and no split val", "data.split.train=NAME `set` data.split.val=NAME"),
    ],
)
def test_splits_of_other_names_are_never_mixed_and_the_option_is_named(tmp_path, layout, names, missing, options):
    lay_out(tmp_path, layout, names)
    with pytest.raises(DataError, match=f"no split {missing}; there are: {', '.join(sorted(names))}") as caught:
        build_folder(tmp_path)
    if options:
        assert f"`set` {options}," in caught.value.hint
    chosen = build_folder(tmp_path, DataRequest(split=SplitOptions(train=names[0], val=names[-1])))
    assert (len(chosen.train), len(chosen.val)) == (4, 4)
    scored = build_folder(tmp_path, DataRequest(every_pair=True))
    is_partial = "train" in names and len(names) > 1
    assert len(scored.train) + len(scored.val) == (4 if is_partial else 4 * len(names))
    assert ("skipped-splits" in [note.code for note in scored.notes]) == is_partial


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_pair_of_train_and_val_is_not_that_of_test(tmp_path, layout):
    lay_out(tmp_path, layout, ("train", "val", "test"))
    splits = build_folder(tmp_path, DataRequest(every_pair=True))
    assert (len(splits.train), len(splits.val)) == (4, 4)
    assert splits.val.name == f"{tmp_path.name} val"
    assert "the splits train, val are taken, and test skipped" in splits.notes


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_test_splits_alone(tmp_path, layout):
    lay_out(tmp_path, layout, ("train", "val"))
    with pytest.raises(DataError) as caught:
        build_folder(tmp_path, DataRequest(only_test=True))
    assert caught.value.code == "no-test-split"
    lay_out(tmp_path, layout, ("test", "testing"))
    splits = build_folder(tmp_path, DataRequest(only_test=True))
    assert (splits.train.name, len(splits.train), len(splits.val)) == (f"{tmp_path.name} test and testing", 8, 0)
    used = build_folder(tmp_path, DataRequest(only_test=True, split=SplitOptions(val="test")))
    assert used.train.name == f"{tmp_path.name} testing"


def test_data_with_test_splits_alone_and_without_splits_have_none_for_the_end(tmp_path):
    fill(tmp_path / "images", tmp_path / "masks")
    lay_out(tmp_path / "tests", "inside", ("test",))
    for folder in (tmp_path, tmp_path / "tests"):
        with pytest.raises(DataError) as caught:
            build_folder(folder, DataRequest(only_test=True))
        assert caught.value.code == "no-test-split"


@pytest.mark.parametrize("layout", ["inside", "outside", "segnet"])
def test_a_test_split_without_masks_is_told_from_none(tmp_path, layout):
    lay_out(tmp_path, layout, ("train", "val", "test"))
    shutil.rmtree(tmp_path / {"inside": "masks/test", "outside": "test/masks", "segnet": "testannot"}[layout])
    with pytest.raises(DataError, match="test has no masks"):
        build_folder(tmp_path, DataRequest(only_test=True))


def test_masks_that_cannot_be_read_are_left_to_the_checks(tmp_path):
    fill(tmp_path / "images", tmp_path / "masks")
    (tmp_path / "masks" / "1.png").write_bytes(b"")
    splits = build_folder(tmp_path)
    assert len(splits.train) + len(splits.val) == 4
    assert splits.train.label_space.ids == (0, 1)


def test_reading_masks_has_a_progress(tmp_path):
    fill(tmp_path / "images", tmp_path / "masks")
    seen = []
    build_folder(tmp_path, DataRequest(progress=seen.append))
    assert [progress.done for progress in seen] == [1, 2, 3, 4]
    assert {progress.total for progress in seen} == {4}


FOUND = {  # where images and masks of split "", "train" or "val" are, as people have them
    "labels": ("images/{split}{}.jpg", "labels/{split}{}.png"),
    "capitals": ("Images/{split}{}.jpg", "Masks/{split}{}.png"),
    "mmseg": ("img_dir/{split}{}.jpg", "ann_dir/{split}{}.png"),
    "suffix": ("images/{split}{}.jpg", "masks/{split}{}_mask.png"),
    "another suffix": ("images/{split}{}.jpg", "gt/{split}{}-handmade.png"),
    "prefix": ("imgs/{split}{}.jpg", "annotations/{split}seg_{}.png"),
    "both": ("images/{split}{}_image.jpg", "labels/{split}{}_label.png"),
    "beside": ("{split}{}.jpg", "{split}{}_mask.png"),
    "beside by suffix": ("{split}{}.jpg", "{split}{}.png"),
    "split outside": ("{split}images/{}.jpg", "{split}labels/{}.png"),
    "split outside, suffix": ("{split}images/{}.jpg", "{split}labels/{}_gt.png"),
}


def lay_out_found(root, name, splits, count=4):
    image, mask = FOUND[name]
    for split in splits:
        for number in range(count):
            place = f"{split}/" if split else ""
            save(root / image.format(f"p{number}", split=place), np.zeros((4, 5, 3)))
            save(root / mask.format(f"p{number}", split=place), np.resize([0, 1, number], 20).reshape(4, 5))


@pytest.mark.parametrize("name", FOUND)
@pytest.mark.parametrize("splits", [("",), ("train", "val")])
def test_a_template_that_explains_all_is_found(name, splits, tmp_path):
    lay_out_found(tmp_path, name, splits)
    found = build_folder(tmp_path)
    assert len(found.train) + len(found.val) == 4 * len(splits)
    for dataset in (found.train, found.val):
        for pair in dataset.pairs:
            number = int(Path(pair.image).stem.removesuffix("_image")[-1])
            assert f"p{number}" in Path(pair.mask).stem
    findings = run_checks(Survey(inventories=found.inventories))
    assert [finding for finding in findings if finding.severity == "error"] == []
    assert ("template-found" in [note.code for note in found.notes]) == (name not in PLAIN_NAMES)


PLAIN_NAMES = ("labels", "capitals", "mmseg", "split outside")


@pytest.mark.parametrize("name", ["labels", "suffix", "beside"])
def test_the_same_files_by_their_templates(name, tmp_path):
    lay_out_found(tmp_path, name, ("train", "val"))
    lay_out_found(tmp_path, name, ("test",))
    images, masks = (text.replace("{split}{}", "{stem}") for text in FOUND[name])
    found = build_folder(tmp_path, DataRequest(images=images, masks=masks))
    assert [found.train.key(0), found.val.key(0)] == ["train/p0", "val/p0"]
    assert (len(found.train), len(found.val)) == (4, 4)
    (tmp_path / masks.replace("{stem}", "test/p0")).unlink()  # of a split that is not read
    findings = run_checks(
        Survey(inventories=build_folder(tmp_path, DataRequest(images=images, masks=masks)).inventories)
    )
    assert [finding for finding in findings if finding.severity == "error"] == []


def test_names_without_one_template_are_not_paired(tmp_path):
    fill(tmp_path / "images", tmp_path / "masks")
    (tmp_path / "masks" / "0.png").rename(tmp_path / "masks" / "0_mask.png")
    found = build_folder(tmp_path)
    assert {finding.code for finding in run_checks(Survey(inventories=found.inventories))} == {
        "image-without-mask",
        "mask-without-image",
    }


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_pairs_of_a_list_with_and_without_splits(delimiter, tmp_path):
    fill(tmp_path / "a", tmp_path / "b")
    rows = [["image", "mask", "split"], *([f"a/{n}.jpg", f"b/{n}.png", "train" if n < 3 else "val"] for n in range(4))]
    (tmp_path / "pairs.csv").write_text("\n".join(delimiter.join(row) for row in rows))
    (tmp_path / "flat.csv").write_text("\n".join(delimiter.join(row[:2]) for row in rows))
    found = build_folder(tmp_path, DataRequest(pairs="pairs.csv"))
    assert (len(found.train), len(found.val)) == (3, 1)
    assert found.train.key(0) == "a/0"
    flat = build_folder(tmp_path, DataRequest(pairs="flat.csv", exclude=("0.jpg",)))
    assert len(flat.train) + len(flat.val) == 3
    assert "1 pair of" in next(note for note in flat.notes if note.code == "excluded-files")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n", "its columns are a, b"),
        ("image,mask\na/0.jpg,b/9.png\n", r"1 file listed that do not exist: .*pairs\.csv:2: .*9\.png"),
        ("image,mask\na/0.jpg\n", r"pairs\.csv:2: an image or a mask is missing"),
        ("image,mask\na/0.jpg,b/0.png\na/0.jpg,b/0.png\n", r"pairs\.csv:3: a/0\.jpg has the name of line 2"),
        ("image,mask,split\na/0.jpg,b/0.png,train\na/1.jpg,b/1.png,\n", "1 pair without a split"),
        ("image,mask\n", "no pair listed"),
    ],
)
def test_lists_of_another_form_are_refused(text, words, tmp_path):
    fill(tmp_path / "a", tmp_path / "b")
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        build_folder(tmp_path, DataRequest(pairs="pairs.csv"))


def test_classes_of_roboflow_are_named(tmp_path):
    lay_out_found(tmp_path, "beside", ("train", "val"))
    for split in ("train", "val"):
        (tmp_path / split / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, crack\n2, hole\n3, gap\n")
    assert build_folder(tmp_path).train.label_space.names == ("background", "crack", "hole", "gap")


@pytest.mark.parametrize("name", ["labels", "suffix", "beside", "split outside"])
def test_an_image_without_a_mask_is_what_the_settings_say(name, tmp_path):
    lay_out_found(tmp_path, name, ("train", "val"), count=5)
    (tmp_path / FOUND[name][1].format("p0", split="train/")).unlink()
    found = {kind: build_folder(tmp_path, DataRequest(unlabelled=kind)) for kind in ("error", "background", "ignore")}
    findings = {
        kind: [f for f in run_checks(Survey(inventories=splits.inventories)) if f.code == "image-without-mask"]
        for kind, splits in found.items()
    }
    assert {kind: [finding.severity for finding in own] for kind, own in findings.items()} == {
        "error": ["error"],
        "background": ["note"],
        "ignore": ["note"],
    }
    assert [len(found[kind].train) for kind in ("background", "ignore")] == [5, 4]
    dataset = found["background"].train
    assert dataset.mask_path(0) is None
    assert dataset.get(0).labels.tolist() == dataset.mask(0).tolist() == np.zeros((4, 5)).tolist()
    with FactsCache(tmp_path / "cache") as cache:
        assert read_facts(dataset, cache).items[0].mask.counts == {0: 20}


@pytest.mark.parametrize(
    ("classes", "background"), [({3: "a", 5: "Background"}, 5), ({0: "a", 5: "b"}, 0), ({3: "a", 5: "b"}, None)]
)
def test_background_is_the_class_of_this_name_or_0(classes, background, tmp_path):
    lay_out_found(tmp_path, "labels", ("train", "val"))
    (tmp_path / "labels" / "train" / "p0.png").unlink()
    request = DataRequest(classes, unlabelled="background")
    if background is None:
        with pytest.raises(ConfigError, match=r"data.unlabelled is background, and no class is"):
            build_folder(tmp_path, request)
    else:
        assert set(np.unique(build_folder(tmp_path, request).train.mask(0))) == {background}
