"""Preparations of small data sets of the official form, from archives and from folders."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.core.errors import DataError, UsageError
from atrous.core.split_options import SplitOptions
from atrous.data import DATASETS, PREPARED
from atrous.data.contracts import DataRequest
from atrous.data.prepare.ade20k import Ade20kLayout
from atrous.data.prepare.camvid import CamvidLayout
from atrous.data.prepare.cityscapes import CityscapesLayout
from atrous.data.prepare.preparation import Preparation, prepare_dataset
from atrous.data.prepare.voc import VocLayout

VOC_KEYS = {"train": ["2007_000032", "2007_000039"], "val": ["2007_000033"]}
SBD_KEYS = ["2007_000032", "2007_000033", "2008_000002"]
CITIES = {"train": {"ulm": 2, "jena": 1}, "val": {"lindau": 1}, "test": {"bonn": 1}}


def draw(suffix: str, ids: list[int] | None = None) -> bytes:
    buffer = io.BytesIO()
    pixels = np.zeros((4, 5, 3), np.uint8) if ids is None else np.resize(np.array(ids, np.uint8), (4, 5))
    Image.fromarray(pixels).save(buffer, "JPEG" if suffix == "jpg" else "PNG")
    return buffer.getvalue()


def draw_sbd(ids: list[int]) -> bytes:
    scipy_io = pytest.importorskip("scipy.io")
    from scipy.sparse import csc_matrix

    boundaries = np.empty((20, 1), object)
    for index in range(20):
        boundaries[index, 0] = csc_matrix((4, 5), dtype=bool)
    mask = np.resize(np.array(ids, np.uint8), (4, 5))
    buffer = io.BytesIO()
    fields = {"Boundaries": boundaries, "Segmentation": mask, "CategoriesPresent": np.unique(mask)}
    scipy_io.savemat(buffer, {"GTcls": fields}, do_compression=True)
    return buffer.getvalue()


def list_voc() -> dict[str, bytes]:
    root = "VOCdevkit/VOC2012"
    files = {f"{root}/JPEGImages/{key}.jpg": draw("jpg") for key in ("2007_000032", "2007_000039", "2007_000033")}
    files |= {f"{root}/JPEGImages/{key}.jpg": draw("jpg") for key in ("2008_000002", "2009_000001")}
    for split, keys in VOC_KEYS.items():
        files[f"{root}/ImageSets/Segmentation/{split}.txt"] = "".join(f"{key}\n" for key in keys).encode()
        files |= {f"{root}/SegmentationClass/{key}.png": draw("png", [0, 15, 255]) for key in keys}
    return files | {f"{root}/ImageSets/Main/train.txt": b"2009_000001", f"{root}/Annotations/2007_000032.xml": b"<a/>"}


def list_sbd() -> dict[str, bytes]:
    return {f"benchmark_RELEASE/dataset/cls/{key}.mat": draw_sbd([0, 8, 20]) for key in SBD_KEYS}


def list_cityscapes() -> tuple[dict[str, bytes], dict[str, bytes]]:
    images, masks = {"leftImg8bit/README": b"read"}, {"license.txt": b"terms"}
    for split, cities in CITIES.items():
        for city, count in cities.items():
            for number in range(count):
                key = f"{split}/{city}/{city}_{number:06d}_000019"
                images[f"leftImg8bit/{key}_leftImg8bit.png"] = draw("png")
                masks[f"gtFine/{key}_gtFine_labelIds.png"] = draw("png", [0, 7, 33])
                masks[f"gtFine/{key}_gtFine_color.png"] = draw("png")
    return images, masks


def list_ade20k() -> dict[str, bytes]:
    files = {"ADEChallengeData2016/sceneCategories.txt": b"x"}
    for folder, split, count in (("training", "train", 3), ("validation", "val", 2)):
        for number in range(1, count + 1):
            key = f"{folder}/ADE_{split}_{number:08d}"
            files[f"ADEChallengeData2016/images/{key}.jpg"] = draw("jpg")
            files[f"ADEChallengeData2016/annotations/{key}.png"] = draw("png", [0, 1, 150])
    return files


def list_camvid() -> dict[str, bytes]:
    files = {}
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        for number in range(count):
            files[f"Tutorial/CamVid/{split}/{split}_{number}.png"] = draw("png")
            files[f"Tutorial/CamVid/{split}annot/{split}_{number}.png"] = draw("png", [0, 10, 11])
    return files


LAYOUTS = {
    "voc": VocLayout(train=2, val=1, train_aug=3),
    "cityscapes": CityscapesLayout(CITIES),
    "ade20k": Ade20kLayout(train=3, val=2),
    "camvid": CamvidLayout({"train": 3, "val": 2, "test": 1}),
}
FILES = {
    "voc": lambda: (list_voc(), list_sbd()),
    "cityscapes": list_cityscapes,
    "ade20k": lambda: (list_ade20k(),),
    "camvid": lambda: (list_camvid(),),
}
SPLITS = {
    "voc": {"train": 2, "val": 1, "train_aug": 3},
    "cityscapes": {"train": 3, "val": 1, "test": 1},
    "ade20k": {"train": 3, "val": 2},
    "camvid": {"train": 3, "val": 2, "test": 1},
}


def save(kind: str, place: Path, files: dict[str, bytes]) -> Path:
    if kind == "folder":
        for name, content in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content)
        return place
    path = place.with_suffix(f".{kind}")
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(path, "w:gz" if kind == "tgz" else "w") as tar:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def prepare(name, sources, out, layout=None, **options):
    options = {"progress": lambda _: None} | options
    return prepare_dataset(name, layout or LAYOUTS[name], sources, out, **options)


def read_folder(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", list(PREPARED))
@pytest.mark.parametrize("kind", ["zip", "tar", "tgz", "folder"])
def test_what_is_prepared_is_read_by_the_data_set(name, kind, tmp_path):
    parts = FILES[name]()
    sources = [save(kind, tmp_path / f"source{number}", files) for number, files in enumerate(parts)]
    dry = prepare(name, sources, tmp_path / "out", dry_run=True)
    assert dry.splits == SPLITS[name]
    assert not (tmp_path / "out").exists()
    result = prepare(name, sources, tmp_path / "out")
    assert result.splits == SPLITS[name]
    assert len(read_folder(tmp_path / "out")) == result.num_files
    splits = DATASETS.load(name)(tmp_path / "out")
    assert (len(splits.train), len(splits.val)) == (SPLITS[name]["train"], SPLITS[name]["val"])
    for dataset in (splits.train, splits.val):
        for index in range(len(dataset)):
            dataset.get(index)
    written = {content for path, content in read_folder(tmp_path / "out").items() if path.endswith(("jpg", "png"))}
    assert name == "voc" or written <= {content for files in parts for content in files.values()}


def test_train_aug_is_voc_and_sbd_without_val_and_vocs_own_masks_win(tmp_path):
    sources = [save("tar", tmp_path / "a", list_voc()), save("tgz", tmp_path / "b", list_sbd())]
    prepare("voc", sources, tmp_path / "out")
    lists = tmp_path / "out" / "ImageSets" / "Segmentation"
    assert (lists / "train_aug.txt").read_text().split() == ["2007_000032", "2007_000039", "2008_000002"]
    splits = DATASETS.load("voc")(tmp_path / "out", DataRequest(split=SplitOptions(train="train_aug")))
    ids = [np.unique(splits.train.mask(index)).tolist() for index in range(3)]
    assert ids == [[0, 15, 255], [0, 15, 255], [0, 8, 20]]
    np.testing.assert_array_equal(splits.train.mask(2), np.resize([0, 8, 20], (4, 5)))
    with Image.open(tmp_path / "out" / "SegmentationClass" / "2008_000002.png") as image:
        assert image.getpalette()[8 * 3 : 9 * 3] == [64, 0, 0]  # VOC's colour of cats
    assert not (tmp_path / "out" / "JPEGImages" / "2009_000001.jpg").exists()


def test_voc_alone_has_no_train_aug(tmp_path):
    result = prepare("voc", [save("tar", tmp_path / "a", list_voc())], tmp_path / "out")
    assert result.splits == {"train": 2, "val": 1}
    assert not (tmp_path / "out" / "ImageSets" / "Segmentation" / "train_aug.txt").exists()


@pytest.mark.parametrize(
    ("name", "lost", "message"),
    [
        ("voc", "VOCdevkit/VOC2012/JPEGImages/2007_000039.jpg", "1 file missing: JPEGImages/2007_000039.jpg"),
        ("voc", "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt", "no ImageSets/Segmentation/val.txt"),
        ("voc", "benchmark_RELEASE/dataset/cls/2008_000002.mat", "train_aug: 2 images, and 3 are official"),
        (
            "cityscapes",
            "leftImg8bit/train/ulm/ulm_000001_000019_leftImg8bit.png",
            "train: 2 images, and 3 are official; images of cities in train: ulm 1 of 2",
        ),
        (
            "cityscapes",
            "gtFine/val/lindau/lindau_000000_000019_gtFine_labelIds.png",
            "1 file missing: gtFine/val/lindau/lindau_000000_000019_gtFine_labelIds.png",
        ),
        (
            "ade20k",
            "ADEChallengeData2016/images/training/ADE_train_00000002.jpg",
            "train: 2 images, and 3 are official; 1 file missing: images/training/ADE_train_00000002.jpg",
        ),
        ("camvid", "Tutorial/CamVid/valannot/val_1.png", "1 file missing: valannot/val_1.png"),
        ("camvid", "Tutorial/CamVid/val/val_1.png", "val: 1 image, and 2 are official"),
    ],
)
def test_what_is_missing_is_named_and_nothing_is_written(name, lost, message, tmp_path):
    sources = []
    for number, files in enumerate(FILES[name]()):
        files.pop(lost, None)
        sources.append(save("zip", tmp_path / f"{number}", files))
    with pytest.raises(DataError) as caught:
        prepare(name, sources, tmp_path / "out")
    assert message in caught.value.message
    assert "http" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_no_image_of_val_can_be_in_train(tmp_path):
    files = list_voc()
    files["VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt"] = b"2007_000032\n2007_000033\n"
    with pytest.raises(DataError, match="1 image of train also in val: 2007_000033"):
        prepare("voc", [save("zip", tmp_path / "voc", files)], tmp_path / "out")
    files = list_camvid()
    for folder in ("train", "trainannot"):
        files[f"Tutorial/CamVid/{folder}/val_0.png"] = files.pop(f"Tutorial/CamVid/{folder}/train_0.png")
    with pytest.raises(DataError, match="1 image of train also in val: val_0"):
        prepare("camvid", [save("zip", tmp_path / "camvid", files)], tmp_path / "out")
    images, masks = list_cityscapes()
    files = {name.replace("train/jena/jena", "train/lindau/lindau"): content for name, content in images.items()}
    with pytest.raises(DataError, match="images of cities in train: jena 0 of 1, lindau 1 of 0"):
        prepare(
            "cityscapes", [save("zip", tmp_path / "i", files), save("zip", tmp_path / "m", masks)], tmp_path / "out"
        )


def test_names_in_lists_cannot_lead_elsewhere(tmp_path):
    files = list_voc()
    files["VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt"] = b"2007_000032\n../../../etc/passwd\n"
    with pytest.raises(DataError, match="1 name of another form than 2007_000032"):
        prepare("voc", [save("zip", tmp_path / "voc", files)], tmp_path / "out")


def test_two_years_of_voc_are_not_mixed(tmp_path):
    files = list_voc() | {name.replace("2012", "2011"): content for name, content in list_voc().items()}
    with pytest.raises(DataError, match="occurs twice"):
        prepare("voc", [save("folder", tmp_path / "voc", files)], tmp_path / "out")


def test_an_interrupted_preparation_continues_and_replaces_nothing(tmp_path):
    source = save("zip", tmp_path / "camvid", list_camvid())
    out = tmp_path / "out"

    def stop(progress):
        if progress.stage == "writing" and progress.done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        prepare("camvid", [source], out, progress=stop)
    assert "it continues" in caught.value.__notes__[0]
    assert len(read_folder(out)) == 5
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    (out / "train" / ".part-0123abcd.png").write_bytes(b"half")
    result = prepare("camvid", [source], out)
    assert result.num_kept == 5
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    assert len(read_folder(out)) == 12
    assert prepare("camvid", [source], out).num_kept == 12


def test_a_folder_with_other_files_or_other_content_is_refused(tmp_path):
    source = save("zip", tmp_path / "camvid", list_camvid())
    (tmp_path / "out" / "train").mkdir(parents=True)
    (tmp_path / "out" / "own.txt").write_text("own")
    with pytest.raises(UsageError, match=r"holds 1 other file: own\.txt"):
        prepare("camvid", [source], tmp_path / "out")
    (tmp_path / "out" / "own.txt").unlink()
    (tmp_path / "out" / "train" / "train_0.png").write_bytes(b"changed")
    with pytest.raises(UsageError, match=r"1 file with another content: train/train_0\.png"):
        prepare("camvid", [source], tmp_path / "out")
    assert (tmp_path / "out" / "train" / "train_0.png").read_bytes() == b"changed"


def test_sources_are_needed_once_each_and_outside_of_the_result(tmp_path):
    with pytest.raises(UsageError, match="no source of camvid") as caught:
        prepare("camvid", [], tmp_path / "out")
    assert "github.com" in caught.value.hint
    with pytest.raises(DataError, match="no file or folder"):
        prepare("camvid", [tmp_path / "gone.zip"], tmp_path / "out")
    source = save("folder", tmp_path / "camvid", list_camvid())
    with pytest.raises(UsageError, match="which is read"):
        prepare("camvid", [source], source / "out")
    with pytest.raises(UsageError, match="given twice"):
        prepare("camvid", [source, source], tmp_path / "out")


def test_official_numbers_are_those_that_are_published():
    def count(name):
        layout = PREPARED.load(name)
        if name == "cityscapes":
            return {split: sum(cities.values()) for split, cities in layout.cities.items()}
        return dict(layout.splits) if name == "camvid" else {"train": layout.train, "val": layout.val}

    assert count("voc") == {"train": 1464, "val": 1449}
    assert PREPARED.load("voc").train_aug == 10582
    assert count("cityscapes") == {"train": 2975, "val": 500, "test": 1525}
    assert count("ade20k") == {"train": 20210, "val": 2000}
    assert count("camvid") == {"train": 367, "val": 101, "test": 233}


@pytest.mark.parametrize(("out", "written"), [(Path("voc"), "voc"), (None, None)])
def test_a_preparation_as_data_says_where_it_is(out, written):
    found = Preparation("voc", out, {"train": 2}, num_files=4, num_kept=1, num_bytes=9)
    splits = {"train": 2}
    assert found.to_json() == {"name": "voc", "out": written, "splits": splits, "files": 4, "kept": 1, "bytes": 9}
