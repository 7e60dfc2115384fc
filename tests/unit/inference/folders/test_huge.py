from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from atrous.config.schema import ModelConfig
from atrous.core.errors import DataError, MachineError, UsageError
from atrous.core.inference_options import InferenceOptions
from atrous.core.inputs import ImageForm, InputSpec
from atrous.core.labels import LabelSpace
from atrous.core.records import Progress
from atrous.images.decode import load_image
from atrous.images.tiff import GEO_TAGS, TiffImage
from atrous.inference import HUGE_FORMATS
from atrous.inference.build import build_labeller
from atrous.inference.engine import Engine
from atrous.inference.exported import read_file
from atrous.inference.folders.predict import predict, predict_image
from atrous.inference.folders.writer import save_predictions
from atrous.inference.labelling.labeller import Labeller
from atrous.networks.build import build_network
from atrous.networks.segmenter import Segmenter

SPACE = LabelSpace(("sky", "road", "car"), ids=(0, 7, 200))
WINDOW = 65
GEO = [
    (33550, "d", 3, (0.5, 0.5, 0.0), True),
    (33922, "d", 6, (0.0, 0.0, 0.0, 4e5, 5e6, 0.0), True),
    (34735, "H", 8, (1, 1, 0, 1, 1024, 0, 1, 1), True),
    (34737, "s", 0, "WGS 84 / UTM zone 33N|", True),
]


@pytest.fixture(autouse=True)
def _small_is_huge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of more than 10,000 pixels are huge, tiles of labels small."""
    for module in ("images.decode", "inference.folders.writer"):
        monkeypatch.setattr(f"atrous.{module}.HUGE_PX", 10_000)
    monkeypatch.setattr("atrous.images.tiff.TILE_SIDE", 48)


@pytest.fixture
def labeller(tiny_network: Segmenter) -> Labeller:
    return wrap(tiny_network, window=WINDOW)


def wrap(network: Segmenter, space: LabelSpace = SPACE, **evaluation: object) -> Labeller:
    return build_labeller(Engine(network, device="cpu"), space, InferenceOptions(**evaluation))


def draw_image(height: int = 170, width: int = 211) -> np.ndarray:
    """Draw blocks with noise over them."""
    random = np.random.default_rng(0)
    blocks = random.integers(0, 200, (height // 13 + 1, width // 13 + 1, 3))
    blocks = blocks.repeat(13, axis=0).repeat(13, axis=1)[:height, :width]
    return (blocks + random.integers(0, 56, blocks.shape)).astype(np.uint8)


def write(path: Path, pixels: np.ndarray, photometric: str = "rgb", **options: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    tifffile.imwrite(path, pixels, photometric=photometric, metadata=None, **options)
    return path


def label(labeller: Labeller, path: Path, out: Path, **options: object) -> np.ndarray:
    record = save_predictions(labeller, [path], out, **options)
    assert record.skipped == []
    return tifffile.imread(out / record.done[0]["files"][0])


LAYOUTS: dict[str, dict[str, object]] = {
    "tiles": {"tile": (32, 48), "compression": "zlib"},
    "planes of tiles": {"tile": (32, 48), "compression": "lzw", "predictor": True, "planarconfig": "separate"},
    "strips": {"rowsperstrip": 7, "compression": "zlib"},
    "one strip": {},
    "plain planes": {"planarconfig": "separate", "rowsperstrip": 9},
    "big-endian": {"tile": (16, 16), "byteorder": ">"},
    "BigTIFF": {"tile": (64, 64), "bigtiff": True},
    "big-endian BigTIFF": {"tile": (64, 64), "bigtiff": True, "byteorder": ">"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_tiff_in_parts_gets_the_labels_of_the_whole_image(layout: str, labeller: Labeller, tmp_path: Path) -> None:
    image, options = draw_image(), LAYOUTS[layout]
    Image.fromarray(image).save(tmp_path / "whole.png")
    pixels = image.transpose(2, 0, 1) if "planarconfig" in options else image
    labels = label(labeller, write(tmp_path / "in" / "huge.tif", pixels, **options), tmp_path / "out")
    expected = predict(labeller, tmp_path / "whole.png")
    assert expected.window == WINDOW
    np.testing.assert_array_equal(labels, expected.labels)
    assert len(np.unique(labels)) == 3


def test_no_more_than_a_windows_rows_are_held_and_each_is_decoded_once(
    labeller: Labeller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    held: list[int] = []
    decode = TiffImage._decode

    def count(self: TiffImage, number: int) -> np.ndarray | None:
        if number not in self._kept:
            decoded.append(number)
        held.append(len({index // 4 for index in self._kept} | {number // 4}))  # rows of tiles
        return decode(self, number)

    monkeypatch.setattr(TiffImage, "_decode", count)
    path = write(tmp_path / "in" / "huge.tif", draw_image(400, 100), tile=(16, 32))
    label(labeller, path, tmp_path / "out")
    assert sorted(decoded) == list(range(25 * 4))
    assert max(held) <= 1 + -(-WINDOW // 16)


def test_labels_are_compressed_tiles_with_the_classes_colours(labeller: Labeller, tmp_path: Path) -> None:
    path = write(
        tmp_path / "in" / "huge.tif", draw_image(), tile=(32, 32), extratags=[*GEO, (42113, "s", 0, "0", True)]
    )
    label(labeller, path, tmp_path / "out", formats=["labels"])
    target = tmp_path / "out" / "huge.tif"
    with tifffile.TiffFile(path) as given, tifffile.TiffFile(target) as file:
        page = file.pages.first
        assert (page.tilelength, page.tilewidth, page.compression.name) == (48, 48, "ADOBE_DEFLATE")
        assert {tag[0] for tag in GEO} <= set(GEO_TAGS)
        for code, *_ in GEO:
            before, after = given.pages.first.tags[code], page.tags[code]
            assert (after.value, after.dtype, after.count) == (before.value, before.dtype, before.count)
        assert page.tags[42113].value == "255"  # the id of void: one of labels may be the input's "no data"
    with Image.open(target) as seen:
        colours = np.asarray(seen.convert("RGB"))
        ids = np.asarray(seen)
    for number, colour in zip(SPACE.ids, SPACE.colours, strict=True):
        assert (colours[ids == number] == colour).all()


def test_labels_of_floats_name_the_value_of_pixels_without_data(tmp_path: Path) -> None:
    torch.manual_seed(0)
    form = ImageForm((0, 1), "float32", (0, 1))
    config = ModelConfig(name="fcn-resnet18", weights="none")
    network = build_network(config, 3, input_spec=InputSpec((0.5,) * 2, (0.25,) * 2, form)).eval()
    image = np.random.default_rng(0).random((170, 211, 2), dtype=np.float32)
    image[100:, 50:90] = np.nan
    path = write(tmp_path / "in" / "huge.tif", image, "minisblack", tile=(32, 32), planarconfig="contig")
    labels = label(wrap(network, window=WINDOW), path, tmp_path / "out")
    np.testing.assert_array_equal(labels == 255, np.isnan(image).all(axis=2))
    with tifffile.TiffFile(tmp_path / "out" / "huge.tif") as file:
        assert file.pages.first.tags[42113].value == "255"


def test_it_is_recorded_and_shows_where_it_stands(tiny_network: Segmenter, tmp_path: Path) -> None:
    write(tmp_path / "in" / "huge.tiff", draw_image(), tile=(32, 32))
    Image.fromarray(draw_image(40, 50)).save(tmp_path / "in" / "small.png")
    Image.fromarray(draw_image(40, 50)).save(tmp_path / "in" / "small2.tif")
    steps: list[Progress] = []
    labeller = wrap(tiny_network)  # the memory would suffice for the whole image
    save_predictions(labeller, [tmp_path / "in"], tmp_path / "out", progress=steps.append)
    done = json.loads((tmp_path / "out" / "predictions.json").read_text())["done"]
    assert [row["files"] for row in done] == [
        ["small.png", "small_overlay.jpg"],
        ["small2.png", "small2_overlay.jpg"],
        ["huge.tif"],
    ]
    assert (done[2]["height"], done[2]["width"], done[2]["window"]) == (170, 211, 1025)
    assert [step.done for step in steps if step.stage == "predicting"] == [1, 2, 3]
    save_predictions(
        wrap(tiny_network, window=WINDOW),
        [tmp_path / "in" / "huge.tiff"],
        tmp_path / "2",
        progress=steps.append,
    )
    windows = [(step.done, step.total) for step in steps[:-1] if step.stage == "labelling huge.tiff"][2:]
    assert windows == [(number, 20) for number in range(21)]


def test_unsure_pixels_and_large_ids(tiny_network: Segmenter, tmp_path: Path) -> None:
    space = LabelSpace(SPACE.names, ids=(0, 7, 2000), ignored_ids=(3000,))
    labeller, image = wrap(tiny_network, space, window=WINDOW), draw_image()
    path = write(tmp_path / "in" / "huge.tif", image, tile=(32, 32))
    least = float(np.median(predict_image(labeller, image).confidence))
    labels = label(labeller, path, tmp_path / "out", min_confidence=least)
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels, predict_image(labeller, image, min_confidence=least).labels)
    assert 0.3 < (labels == 255).mean() < 0.7


def _read_whole(path: Path) -> np.ndarray:
    with TiffImage(path) as image:
        return image.read(slice(0, image.height), slice(0, image.width))


def _make_palette() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 65536, (3, 256), dtype=np.uint16)


KINDS: dict[str, Callable[[np.ndarray], tuple[np.ndarray, dict[str, object]]]] = {
    "alpha": lambda rgb: (np.dstack([rgb, rgb[..., :1]]), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "grey": lambda rgb: (rgb[..., 0], {"photometric": "minisblack"}),
    "inverted grey": lambda rgb: (rgb[..., 0], {"photometric": "miniswhite"}),
    "16 bits of grey": lambda rgb: (rgb[..., 0] * np.uint16(251), {"photometric": "minisblack"}),
    "16 bits": lambda rgb: (rgb * np.uint16(251), {"photometric": "rgb"}),
    "palette": lambda rgb: (rgb[..., 0], {"photometric": "palette", "colormap": _make_palette()}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_colours_are_those_of_a_small_image(kind: str, tmp_path: Path) -> None:
    pixels, options = KINDS[kind](draw_image(50, 70))
    path = write(tmp_path / "image.tif", pixels, **options)
    np.testing.assert_array_equal(_read_whole(path), load_image(path))


def test_jpeg_tiles_are_read(tmp_path: Path) -> None:
    smooth = np.linspace(0, 255, 128 * 96).reshape(128, 96, 1).repeat(3, axis=2).astype(np.uint8)
    path = write(tmp_path / "image.tif", smooth, tile=(32, 32), compression="jpeg")
    assert np.abs(_read_whole(path).astype(int) - smooth).max() < 12


def test_tiles_that_are_not_stored_are_black(tmp_path: Path) -> None:
    tiles = iter([np.full((32, 32, 3), 9, np.uint8), None])
    options = {"shape": (32, 64, 3), "dtype": np.uint8, "tile": (32, 32), "compression": "zlib"}
    found = _read_whole(write(tmp_path / "image.tif", tiles, **options))
    assert (found[:, :32] == 9).all()
    assert (found[:, 32:] == 0).all()


REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "cmyk": ({"photometric": "separated", "shape": (120, 120, 4)}, "SEPARATED"),
    "float": (
        {"photometric": "minisblack", "shape": (120, 120), "dtype": np.float32},
        "float32, and RGB of uint8 are wanted",
    ),
    "turned": ({"extratags": [(274, "H", 1, 6, True)]}, "rotated by an orientation tag"),
    "one long strip": ({"compression": "zlib", "rowsperstrip": 120}, "too large to decode"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_other_kinds_are_skipped_and_named(
    kind: str, labeller: Labeller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atrous.images.tiff.MOST_BYTES_AT_ONCE", 119 * 120 * 3)
    options, reason = REFUSED[kind]
    pixels = np.zeros(options.get("shape", (120, 120, 3)), options.get("dtype", np.uint8))
    options = {name: value for name, value in options.items() if name not in ("shape", "dtype")}
    path = write(tmp_path / "in" / "huge.tif", pixels, **options)
    record = save_predictions(labeller, [path], tmp_path / "out")
    assert reason in record.skipped[0]["reason"]
    assert "huge.tif" in record.skipped[0]["reason"]
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["predictions.json"]


def test_a_damaged_file_is_skipped_and_leaves_nothing(labeller: Labeller, tmp_path: Path) -> None:
    whole = write(tmp_path / "in" / "huge.tif", draw_image(), tile=(32, 32), compression="zlib").read_bytes()
    (tmp_path / "in" / "cut.tif").write_bytes(whole[:-100])
    (tmp_path / "in" / "head.tif").write_bytes(whole[:7])
    with tifffile.TiffFile(tmp_path / "in" / "huge.tif") as file:
        at = file.pages.first.dataoffsets[-1]
    (tmp_path / "in" / "huge.tif").write_bytes(whole[:at] + b"\xff" * (len(whole) - at))
    record = save_predictions(labeller, [tmp_path / "in"], tmp_path / "out")
    reasons = {Path(row["input"]).name: row["reason"] for row in record.skipped}
    assert "truncated" in reasons["cut.tif"]
    assert "cannot be decoded" in reasons["huge.tif"]
    assert set(reasons) == {"cut.tif", "head.tif", "huge.tif"}
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["predictions.json"]


def test_an_interruption_leaves_no_half_file(labeller: Labeller, tmp_path: Path) -> None:
    path = write(tmp_path / "in" / "huge.tif", draw_image(), tile=(32, 32))

    def stop(progress: Progress) -> None:
        if progress.done == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_predictions(labeller, [path], tmp_path / "out", progress=stop)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["predictions.json"]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("overlay", {"formats": ["overlay"]}),
        ("confidence", {"formats": ["confidence"]}),
        ("probabilities", {"probabilities": True}),
    ],
)
def test_what_needs_the_whole_image_is_refused_at_once(
    name: str, wanted: dict, labeller: Labeller, tmp_path: Path
) -> None:
    path = write(tmp_path / "in" / "huge.tif", draw_image(), tile=(32, 32))
    with pytest.raises(UsageError, match=rf"{name}: .*huge\.tif has more than 10,000 pixels"):
        save_predictions(labeller, [path], tmp_path / "out", **wanted)
    assert not (tmp_path / "out").exists()


def test_crf_and_a_window_as_large_as_the_image_are_refused(tiny_network: Segmenter, tmp_path: Path) -> None:
    path = write(tmp_path / "in" / "huge.tif", draw_image(), tile=(32, 32))
    for options, words in (({"crf": True}, "DenseCRF"), ({"window": 1057}, "a window of 1057")):
        with pytest.raises(UsageError, match=words):
            save_predictions(wrap(tiny_network, **options), [path], tmp_path / "out")


def test_an_exported_file_is_refused(export_tiny: Callable[..., Path], tmp_path: Path) -> None:
    path = write(tmp_path / "in" / "huge.tif", draw_image(), tile=(32, 32))
    file = read_file(export_tiny("onnx", argmax=True), backend="onnxruntime")
    labeller = build_labeller(Engine(file, device="cpu"), SPACE, InferenceOptions(output_stride=file.output_stride))
    with pytest.raises(UsageError, match="an exported file, which gives every pixel of a window at once"):
        save_predictions(labeller, [path], tmp_path / "out")


def test_a_missing_package_is_named_with_its_extra(
    labeller: Labeller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "in" / "huge.tif", draw_image(), tile=(32, 32))
    monkeypatch.setitem(sys.modules, "tifffile", None)
    for module in ("atrous.images.tiff", HUGE_FORMATS["tiff"].partition(":")[0]):
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(MachineError, match=r"tifffile(.|\n)*pip install .*imagecodecs.*tifffile"):
        save_predictions(labeller, [path], tmp_path / "out")


def test_a_broken_reader_is_closed(tmp_path: Path) -> None:
    (tmp_path / "no.tif").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"no\.tif: cannot be decoded"):
        TiffImage(tmp_path / "no.tif")
