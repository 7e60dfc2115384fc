"""Real images of other than three 8-bit bands, from the check to exported files, through the command line.

    pip download --no-deps --dest DATA xarray-spatial==0.5.3 stardist==0.9.2 pydicom==3.0.2
    (cd DATA; for wheel in *.whl; do unzip -q $wheel; done)
    pip install rasterio pydicom
    python benchmarks/real_bands.py --data DATA --work WORK

Three sets are made of what the packages ship: `satellite`, six 16-bit bands of Sentinel-2 as GeoTIFFs with nodata
pixels, whose masks follow from NDVI; `nuclei`, 16-bit grey of fluorescence microscopy with its label masks; and `ct`,
12-bit grey in 16-bit files of two CT slices, whose masks follow from Hounsfield units. Each is checked, trained for a
short time, scored, labelled, and exported to ONNX and OpenVINO. rasterio says whether the labels are where their images
are. Prints a table, with the share of pixels to which the exported files give the same label. WORK keeps everything.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

BANDS = ("blue", "green", "red", "nir", "swir1", "swir2")
TOP_LEFT, PIXEL_M, EPSG = (600_000.0, 4_700_020.0), 10.0, 32719
NODATA = 65535
VEGETATION = 0.078
"""Lowest NDVI of the class, smoothed; a third of this dry place is above it."""
SMOOTH_PX = 4.0
AIR_HU, BONE_HU = -400, 180
TILE = 66
"""Pixels: 12, 49 and 98 tiles."""
MODEL = ("--crop", "129", "--batch", "8", "--set", "model.head.rates=[2, 5, 8]", "--device", "cpu", "--workers", "0")
"""The default model, with the crop and the rates that its log proposes for images this small."""


@dataclass(frozen=True)
class RealSet:
    """One of the sets.

    Args:
        name: Its name.
        iter_tiles: Yields image (C, H, W), mask (H, W), and the row and column of the tile in its scene.
        is_placed: Whether the images are GeoTIFFs.
    """

    name: str
    iter_tiles: Callable[[Path], Iterator[tuple[np.ndarray, np.ndarray, int, int]]]
    is_placed: bool = False


def find(data: Path, pattern: str) -> Path:
    """Return the only file of a pattern."""
    found = sorted(data.rglob(pattern))
    if not found:
        raise SystemExit(f"{data} holds no {pattern}; see the first lines of this file")
    return found[0]


def cut(image: np.ndarray, mask: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, int, int]]:
    """Yield the whole tiles of an image (C, H, W) and its mask (H, W), with their first row and column."""
    for top in range(0, mask.shape[0] - TILE + 1, TILE):
        for left in range(0, mask.shape[1] - TILE + 1, TILE):
            part = (slice(top, top + TILE), slice(left, left + TILE))
            yield image[:, *part], mask[part], top, left


def iter_satellite(data: Path) -> Iterator[tuple[np.ndarray, np.ndarray, int, int]]:
    """Yield tiles of the Sentinel-2 scene, whose lower left corner is given no data."""
    from scipy.io import netcdf_file

    bands = []
    for band in BANDS:
        with netcdf_file(find(data, f"sentinel-2/{band}_band.nc"), mmap=False) as file:
            bands.append(file.variables["__xarray_dataarray_variable__"].data.astype(np.uint16))
    image = np.stack(bands)
    red, nir = image[2].astype(np.float32), image[3].astype(np.float32)
    index = cv2.GaussianBlur((nir - red) / (nir + red), (0, 0), SMOOTH_PX)
    mask = (index > VEGETATION).astype(np.uint8)
    rows, columns = np.indices(mask.shape)
    image[:, rows - columns > 150] = NODATA
    yield from cut(image, mask)


def iter_nuclei(data: Path) -> Iterator[tuple[np.ndarray, np.ndarray, int, int]]:
    """Yield tiles of nuclei and the masks that stardist ships."""
    import tifffile

    image, objects = (tifffile.imread(find(data, f"stardist/data/images/{name}2d.tif")) for name in ("img", "mask"))
    yield from cut(image[None], (objects > 0).astype(np.uint8))


def iter_ct(data: Path) -> Iterator[tuple[np.ndarray, np.ndarray, int, int]]:
    """Yield tiles of CT slices, as 12 bits: -1024 Hounsfield units are 0."""
    import pydicom

    for name in ("693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm"):
        file = pydicom.dcmread(find(data, name))
        units = file.pixel_array * float(file.RescaleSlope) + float(file.RescaleIntercept)
        smooth = cv2.GaussianBlur(units.astype(np.float32), (0, 0), 1.5)
        mask = np.digitize(smooth, (AIR_HU, BONE_HU)).astype(np.uint8)
        yield from cut(np.clip(units + 1024, 0, 4095).astype(np.uint16)[None], mask)


SETS = (
    RealSet("satellite", iter_satellite, is_placed=True),
    RealSet("nuclei", iter_nuclei),
    RealSet("ct", iter_ct),
)


def write_set(real: RealSet, data: Path, root: Path) -> None:
    """Write a set as images/ and masks/, with rasterio."""
    import rasterio

    for name in ("images", "masks"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for number, (image, mask, top, left) in enumerate(real.iter_tiles(data)):
        place: dict[str, Any] = {}
        if real.is_placed:
            corner = (TOP_LEFT[0] + left * PIXEL_M, TOP_LEFT[1] - top * PIXEL_M)
            place = {"crs": EPSG, "transform": rasterio.transform.from_origin(*corner, PIXEL_M, PIXEL_M)}
        for folder, pixels in (("images", image), ("masks", mask[None])):
            options = {"nodata": NODATA} if real.is_placed and folder == "images" else {}
            count, height, width = pixels.shape
            with rasterio.open(
                *(root / folder / f"{real.name}_{number:02d}.tif", "w", "GTiff", width, height, count),
                **{**place, **options, "dtype": pixels.dtype.name, "compress": "deflate"},
            ) as file:
                file.write(pixels)


def call(*arguments: str, may_fail: bool = False) -> str:
    """Run a command of atrous, and return what it printed."""
    done = subprocess.run([sys.executable, "-m", "atrous", *arguments], capture_output=True, text=True, check=False)
    if done.returncode and not may_fail:
        raise SystemExit(f"atrous {' '.join(arguments)}\n{done.stdout}{done.stderr}")
    return done.stdout


def read_labels(folder: Path) -> dict[str, np.ndarray]:
    """Return the labels in a folder by their names."""
    import rasterio

    found = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in (".tif", ".png"):
            with rasterio.open(path) as file:
                found[path.stem] = file.read(1)
    return found


def count_placed(images: Path, labels: Path) -> int:
    """Return how many labels are where their image is, and a nodata value exactly where it has no data."""
    import rasterio

    count = 0
    for path in sorted(images.iterdir()):
        with rasterio.open(path) as image, rasterio.open(labels / path.name) as file:
            is_placed = (image.transform, image.crs) == (file.transform, file.crs)
            count += is_placed and bool(np.array_equal(image.dataset_mask() > 0, file.read_masks(1) > 0))
    return count


def run_set(real: RealSet, work: Path, iterations: int) -> dict[str, Any]:
    """Take a set from the check to its exported files, and return the row of the table."""
    root, run = work / real.name, work / f"{real.name}_run"
    if not (root / "atrous.yaml").exists():
        call("check", str(root), "--write", "--out", str(work / f"{real.name}.html"), may_fail=True)
    if not (run / "metrics.json").exists():
        call("train", str(root), "--out", str(run), "--iterations", str(iterations), "--quiet", *MODEL)
    options = ("--device", "cpu", "--precision", "fp32")
    scores = json.loads(call("eval", str(run), str(root), "--json", *options))
    row = {
        "set": real.name,
        "images": len(list((root / "images").iterdir())),
        "miou": scores["miou"],
        "baseline": scores["baseline"]["miou"],
    }
    files = {"torch": run, "onnx": work / f"{real.name}.onnx", "openvino": work / f"{real.name}.xml"}
    labels = {}
    for name, model in files.items():
        if not model.exists():
            call("export", str(run), "--format", name, "--out", str(model), "--quiet")
        out = work / f"{real.name}_{name}"
        more = options if name == "torch" else ("--device", "cpu")
        call("predict", str(root / "images"), "--model", str(model), "--out", str(out), "--quiet", *more)
        labels[name] = read_labels(out)
    for name in ("onnx", "openvino"):
        same = [labels[name][key] == ids for key, ids in labels["torch"].items()]
        row[name] = float(np.concatenate([part.ravel() for part in same]).mean())
    row["placed"] = count_placed(root / "images", work / f"{real.name}_torch") if real.is_placed else "-"
    return row


def main() -> None:
    """Run all sets and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the unpacked packages")
    parser.add_argument("--work", type=Path, required=True, help="the folder for sets, runs and labels")
    parser.add_argument("--iterations", type=int, default=150, help="steps of each training")
    parser.add_argument("--sets", nargs="+", choices=[real.name for real in SETS], default=[r.name for r in SETS])
    options = parser.parse_args()
    for real in SETS:
        if real.name in options.sets:
            if not (options.work / real.name).exists():
                write_set(real, options.data, options.work / real.name)
            print(json.dumps(run_set(real, options.work, options.iterations)), flush=True)


if __name__ == "__main__":
    main()
