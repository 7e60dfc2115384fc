from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.config.schema import DataConfig, TrainingConfig
from atrous.core.errors import DataError
from atrous.core.inference_options import InferenceOptions
from atrous.core.labels import IGNORE_INDEX
from atrous.core.run_folder import RunFolder
from atrous.data.augment.pipeline import Augmentation
from atrous.data.build import build_splits, check_training_data, list_pass
from atrous.data.contracts import Splits
from atrous.data.pairs import PairDataset
from atrous.data.rare import plan_rare_crops
from atrous.data.rasters import list_blocks
from atrous.data.sampling import Stream
from atrous.images.windows import Window, load_window
from atrous.inference.build import build_labeller
from atrous.inference.engine import Engine
from atrous.networks.segmenter import Segmenter
from atrous.runs.check import check_data
from atrous.runs.kept_images import find_images, save_images
from atrous.scoring.count import count

tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")

BLOCK = 64
SIZE = (300, 390)
PADDING = (9.0,) * 6


@pytest.fixture(autouse=True)
def _small_is_huge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of more than 10,000 pixels are read in windows, of blocks of 64 pixels."""
    monkeypatch.setattr("atrous.images.decode.HUGE_PX", 10_000)
    monkeypatch.setattr("atrous.data.rasters.BLOCK_PX", BLOCK)


def write_pair(
    root: Path, name: str = "scene", seed: int = 0, nodata: str | None = "0", **options: object
) -> tuple[np.ndarray, np.ndarray]:
    """Write six bands of 16 bits without data in a corner, and a mask with another corner that is ignored."""
    random = np.random.default_rng(seed)
    image = random.integers(1, 4000, (*SIZE, 6)).astype(np.uint16)
    mask = np.kron(random.integers(0, 3, (30, 39)), np.ones((10, 10))).astype(np.uint8)
    image[:80, :100], mask[200:, 300:] = 0, 255
    tags = [] if nodata is None else [(42113, "s", 0, nodata, True)]
    for folder, pixels, extra in (("images", image, tags), ("masks", mask, [])):
        (root / folder).mkdir(exist_ok=True)
        written = {"tile": (32, 32), "compression": "zlib", **options}
        if pixels.ndim == 3:
            written["planarconfig"] = "contig"
        tifffile.imwrite(
            root / folder / f"{name}.tif", pixels, photometric="minisblack", metadata=None, extratags=extra, **written
        )
    return image, mask


def build(root: Path, **settings: object) -> Splits:
    return build_splits(DataConfig(source=str(root), classes=("a", "b", "c"), **settings))


def list_windows(dataset: object) -> list[Window]:
    assert isinstance(dataset, PairDataset)
    return [window for pair in dataset.pairs if (window := pair.window) is not None]


def cover(windows: list[Window]) -> np.ndarray:
    """Count how often each pixel is in a window."""
    counts = np.zeros(windows[0].whole, dtype=int)
    for window in windows:
        counts[window.rows, window.columns] += 1
    return counts


@pytest.mark.parametrize("size", [(1, 5000), (63, 97), (64, 64), (300, 390), (95, 96), (161, 129)])
def test_blocks_cover_a_raster_once(size: tuple[int, int]) -> None:
    blocks = list_blocks(size)
    assert (cover(blocks) == 1).all()
    for block in blocks:
        for side, whole in zip(block.size, size, strict=True):
            assert min(BLOCK // 2, whole) <= side <= BLOCK * 3 // 2


def test_a_raster_is_divided_into_blocks_that_hold_its_pixels(tmp_path: Path) -> None:
    image, mask = write_pair(tmp_path)
    splits = build(tmp_path)
    blocks = [*list_windows(splits.train), *list_windows(splits.val)]
    counts = cover(blocks)
    assert counts.max() == 1
    assert {mask[rows, columns].min() for rows, columns in zip(*np.nonzero(counts == 0), strict=True)} == {255}
    assert len(splits.val) == round(0.2 * len(blocks))
    for dataset in (splits.train, splits.val):
        for index in (0, len(dataset) - 1):
            window, sample = dataset.window(index), dataset.get(index)
            np.testing.assert_array_equal(sample.image, image[window.rows, window.columns])
            labels = np.where(mask == 255, IGNORE_INDEX, mask.astype(np.uint16))
            labels[(image == 0).all(axis=2)] = IGNORE_INDEX
            np.testing.assert_array_equal(sample.labels, labels[window.rows, window.columns])
            assert sample.key == dataset.key(index) == f"scene@y{window.top}x{window.left}"
    codes = {note.code for note in splits.notes}
    assert {"rasters-in-windows", "held-out", "blocks-skipped"} <= codes


@pytest.mark.parametrize("rotation", [0.0, 45.0])
def test_no_training_window_touches_a_held_out_block(
    rotation: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pair(tmp_path)
    read: list[Window] = []
    monkeypatch.setattr(
        "atrous.data.pairs.load_window",
        lambda path, window, form: read.append(window) or load_window(path, window, form),
    )
    random = np.random.default_rng(5)
    held_out = None
    for seed in range(6):
        splits = build(tmp_path, split={"val": float(random.uniform(0.1, 0.6)), "seed": seed})
        held_out = cover(list_windows(splits.val)) > 0
        crop, low = int(random.integers(9, 100)), float(random.uniform(0.3, 1))
        augmentation = Augmentation(crop, (low, 2.0), rotation=rotation, quarter_turns=True, padding=PADDING)
        statistics, _ = check_training_data(DataConfig(source=str(tmp_path)), splits)
        stream = Stream(splits.train, augmentation, seed, rare_crops=plan_rare_crops(0.5, statistics))
        read.clear()
        for place in range(40):
            stream.sample(place)
        assert len(read) == 40
        assert not (held_out & (cover(read) > 0)).any()
    assert held_out is not None
    assert held_out.any()


@pytest.mark.parametrize("rotation", [0.0, 30.0])
def test_samples_of_windows_equal_those_of_whole_blocks(rotation: float, tmp_path: Path) -> None:
    write_pair(tmp_path, nodata=None)
    splits = build(tmp_path)
    augmentation = Augmentation(33, (0.5, 2.0), rotation=rotation, padding=PADDING)
    statistics, _ = check_training_data(DataConfig(source=str(tmp_path)), splits)
    rare = plan_rare_crops(0.5, statistics)
    parts = Stream(splits.train, augmentation, 1, rare_crops=rare)
    whole = Stream(_Whole(splits.train), augmentation, 1, rare_crops=rare)
    for place in range(30):
        one, other = parts.sample(place), whole.sample(place)
        assert one.key == other.key
        if rotation:  # coordinates of another origin are rounded otherwise
            assert np.mean(one.labels != other.labels) < 0.01
            assert np.mean(np.abs(one.image.astype(float) - other.image)) < 5
        else:
            np.testing.assert_array_equal(one.image, other.image)
            np.testing.assert_array_equal(one.labels, other.labels)


class _Whole:
    """A data set that says nothing of windows."""

    def __init__(self, dataset: object) -> None:
        self._dataset = dataset
        for name in ("name", "label_space", "form", "get", "key", "mask", "image_path", "mask_path"):
            setattr(self, name, getattr(dataset, name))

    def __len__(self) -> int:
        return len(self._dataset)


def test_a_block_counts_as_many_samples_as_crops_fit_into_it(tmp_path: Path) -> None:
    write_pair(tmp_path)
    splits = build(tmp_path)
    statistics, _ = check_training_data(DataConfig(source=str(tmp_path)), splits)
    for crop in (20, 33, 200):
        listed = np.bincount(list_pass(TrainingConfig(crop=crop), splits.train.label_space, statistics))
        sizes = [window.height * window.width for window in list_windows(splits.train)]
        assert listed.tolist() == [max(size // crop**2, 1) for size in sizes]


def test_of_many_rasters_whole_ones_are_held_out(tmp_path: Path) -> None:
    for number in range(10):
        write_pair(tmp_path, f"s{number % 2}_{number}", seed=number)
    splits = build(tmp_path)
    paths = [{pair.image for pair in dataset.pairs} for dataset in (splits.train, splits.val)]
    assert not paths[0] & paths[1]
    assert len(paths[1]) == 2
    grouped = build(tmp_path, split={"val": 0.4, "group": "^(.+?)_"})
    groups = [{pair.key[:2] for pair in dataset.pairs} for dataset in (grouped.train, grouped.val)]
    assert not groups[0] & groups[1]


def test_lists_and_folders_name_whole_rasters(tmp_path: Path) -> None:
    for number in range(2):
        write_pair(tmp_path, f"s{number}", seed=number)
    (tmp_path / "val.txt").write_text("images/s1.tif\n")
    splits = build(tmp_path, split={"val": "val.txt"})
    assert {Path(pair.image).stem for pair in splits.train.pairs} == {"s0"}
    assert {Path(pair.image).stem for pair in splits.val.pairs} == {"s1"}
    assert len(splits.val) > 10


def test_a_run_keeps_its_blocks(tmp_path: Path) -> None:
    write_pair(tmp_path)
    config, splits = DataConfig(source=str(tmp_path), classes=("a", "b", "c")), build(tmp_path)
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    save_images(run, config, splits)
    found = find_images(run, config, needed=("val",), hint="")
    assert (found.train.pairs, found.val.pairs) == (splits.train.pairs, splits.val.pairs)
    assert not found.notes


def test_findings_name_files_and_no_blocks(tmp_path: Path) -> None:
    image, mask = write_pair(tmp_path)
    result = check_data(DataConfig(source=str(tmp_path), classes=("a", "b")), page=tmp_path / "check.html")
    findings = {finding.code: finding for finding in result.findings}
    assert findings["unknown-id"].count == 1  # in each split, however many blocks it has
    assert set(findings["unknown-id"].files) == {str(tmp_path / "masks" / "scene.tif")}
    assert "split-overlap" not in findings
    assert "near-duplicate-across-splits" not in findings
    assert findings["nodata"].files[0] == str(tmp_path / "images" / "scene.tif")
    counts = {row.id: row.pixels for row in result.ids}
    assert [counts[number] for number in range(3)] == np.bincount(mask.ravel())[:3].tolist()
    assert image.size


def test_what_cannot_be_read_in_windows_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pair(tmp_path, tile=None, rowsperstrip=SIZE[0])
    monkeypatch.setattr("atrous.images.tiff.MOST_BYTES_AT_ONCE", 50_000)
    splits = build(tmp_path)
    assert [note for note in splits.notes if note.code == "raster-read-whole"]
    assert len(splits.train) + len(splits.val) == 1
    monkeypatch.setattr("atrous.data.rasters.MOST_PX", SIZE[0] * SIZE[1] - 1)
    with pytest.raises(DataError, match=r"scene.tif is larger than memory. .*strips of 300 x 390 pixels") as caught:
        build(tmp_path)
    assert "gdal_translate" in caught.value.hint


def test_a_raster_whose_mask_has_another_size_is_read_whole_and_reported(tmp_path: Path) -> None:
    _, mask = write_pair(tmp_path)
    tifffile.imwrite(tmp_path / "masks" / "scene.tif", mask[:, :-1], tile=(32, 32), metadata=None)
    splits = build(tmp_path)
    assert list_windows(splits.val) == []
    assert "is 300x390 (height x width), " in str(next(n for n in splits.notes if n.code == "raster-read-whole"))
    assert "size-mismatch" in {finding.code for finding in check_data(DataConfig(source=str(tmp_path))).findings}


@pytest.mark.parametrize("limit", [SIZE[0] * SIZE[1], SIZE[0] * SIZE[1] - 1])
def test_a_mask_in_another_format_is_read_whole_or_refused(
    limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, mask = write_pair(tmp_path)
    (tmp_path / "masks" / "scene.tif").unlink()
    Image.fromarray(mask).save(tmp_path / "masks" / "scene.png")
    monkeypatch.setattr("atrous.data.rasters.MOST_PX", limit)
    if limit < SIZE[0] * SIZE[1]:
        with pytest.raises(DataError, match=r"scene.tif is larger than memory. .*scene.png: is no TIFF"):
            build(tmp_path)
    else:
        splits = build(tmp_path)
        assert len(splits.train) + len(splits.val) == 1


@pytest.mark.parametrize(("strips", "width", "is_slow"), [(7, 390, True), (7, 128, False), (None, 390, False)])
def test_slow_strips_are_told(
    strips: int | None, width: int, is_slow: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atrous.images.decode.HUGE_PX", 1_000)
    for folder, bands in (("images", 6), ("masks", 1)):
        (tmp_path / folder).mkdir()
        layout = {"rowsperstrip": strips} if strips and bands == 1 else {"tile": (32, 32)}
        pixels = np.zeros((300, width, bands), np.uint8)
        tifffile.imwrite(
            tmp_path / folder / "scene.tif", pixels if bands > 1 else pixels[..., 0], photometric="minisblack",
            compression="zlib", metadata=None, planarconfig="contig" if bands > 1 else None, **layout,
        )  # fmt: skip
    told = [str(note) for note in build(tmp_path).notes if note.code == "raster-in-strips"]
    assert len(told) == is_slow
    assert not told or "about 6 times faster" in told[0]


def test_blocks_are_scored_alone(tmp_path: Path, tiny_network: Segmenter) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    mask = np.kron(np.random.default_rng(1).integers(0, 3, (30, 39)), np.ones((10, 10))).astype(np.uint8)
    for folder, pixels, kind in (("images", image, "rgb"), ("masks", mask, "minisblack")):
        (tmp_path / folder).mkdir()
        tifffile.imwrite(tmp_path / folder / "scene.tif", pixels, photometric=kind, tile=(32, 32), metadata=None)
    val = build(tmp_path).val
    labeller = build_labeller(Engine(tiny_network, device="cpu"), val.label_space, InferenceOptions())
    expected = np.zeros((3, 3), dtype=np.int64)
    for window in list_windows(val):
        alone = np.ascontiguousarray(image[window.rows, window.columns])
        found, truth = labeller.label_image(alone).indices, mask[window.rows, window.columns]
        expected += np.bincount(truth.ravel() * 3 + found.ravel(), minlength=9).reshape(3, 3)
    np.testing.assert_array_equal(count(labeller, val).total.counts, expected)
