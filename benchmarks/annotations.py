"""Converters compared with the code of the tools whose formats they read and write.

    python -m venv tools && tools/bin/pip install . pycocotools labelme label-studio-sdk datumaro cvat-sdk rasterio
    tools/bin/python benchmarks/annotations.py voc_animals/

Each tool draws random scenes, or masks of a folder in VOC's layout that were written as its annotations, and so does
`atrous convert`. The figure is the lowest IoU over images and classes; encodings without losses must be equal.
pycocotools, and datumaro with it, round corners to fifths of pixels, which small shapes notice. Prints one row per
comparison, writes results/annotations.csv, and exits with 1 if a figure is below its limit. A tool that is
not installed is named. CVAT reads and writes its files with datumaro.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import atrous
from atrous.data.convert.coco import count_runs, decode_counts
from atrous.data.convert.label_studio import decode_brush
from atrous.data.convert.shapes import fill_polygon, fill_runs
from atrous.data.datasets.voc import VOC

SIZE = (120, 160)
SCENES, SHAPES = 20, 6
CLASSES = {0: "background", 1: "cat", 2: "dog", 3: "cow"}
PASCAL = dict(zip(VOC.ids, VOC.names, strict=True))
IGNORED = 255
OUTPUT = Path("results/annotations.csv")
Row = tuple[str, float, float]
"""What is compared, the lowest IoU, and the least that is accepted."""


def measure_iou(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the lowest IoU over the ids in two masks."""
    numbers = np.union1d(ours, theirs)
    return min(float(((ours == n) & (theirs == n)).sum() / ((ours == n) | (theirs == n)).sum()) for n in numbers)


def draw_polygon(generator: np.random.Generator) -> np.ndarray:
    """Return a polygon (N, 2) inside an image of `SIZE`, which may be concave."""
    angles = np.sort(generator.uniform(0, 2 * np.pi, generator.integers(3, 12)))
    reach = generator.uniform(5, 35, (len(angles), 1))
    points = generator.uniform(20, (SIZE[1] - 20, SIZE[0] - 20)) + reach * np.stack([np.cos(angles), np.sin(angles)], 1)
    return np.clip(points, 0.3, (SIZE[1] - 1.3, SIZE[0] - 1.3))


def iter_scenes(folder: Path) -> Iterator[tuple[Path, np.random.Generator]]:
    """Yield the file of an image, which is written, and the numbers that its shapes are drawn with."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(SCENES):
        generator = np.random.default_rng(seed)
        image = folder / f"scene{seed:02}.png"
        Image.fromarray(generator.integers(0, 256, (*SIZE, 3), dtype=np.uint8)).save(image)
        yield image, generator


def convert(source: Path, form: str, classes: dict[int, str]) -> dict[str, np.ndarray]:
    """Return the masks that `atrous convert` makes of a source by name."""
    with tempfile.TemporaryDirectory() as place:
        result = atrous.convert(source, Path(place, "out"), from_format=form, classes=classes, progress=False)
        if result.problems:
            raise SystemExit(f"{form}: {result.problems[0]}")
        return {path.stem: np.array(Image.open(path)) for path in sorted(Path(place, "out", "masks").rglob("*.png"))}


def compare(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> float:
    """Return the lowest IoU over images and ids."""
    if ours.keys() != theirs.keys():
        raise SystemExit(f"other images: {sorted(ours.keys() ^ theirs.keys())[:3]}")
    return min(measure_iou(ours[name], theirs[name]) for name in ours)


class Photographs:
    """Images and masks of a folder in VOC's layout, as `atrous convert` writes them in each format."""

    def __init__(self, source: Path, count: int, place: Path) -> None:
        files = sorted((source / "SegmentationClass").glob("*.png"))
        files = files[:: max(1, len(files) // count)][:count]
        self.masks = {file.stem: np.array(Image.open(file)) for file in files}
        self.data = place / "photographs"
        for folder in ("images", "masks"):
            (self.data / folder).mkdir(parents=True)
        for file in files:
            image = source / "JPEGImages" / f"{file.stem}.jpg"
            (self.data / "images" / image.name).write_bytes(image.read_bytes())
            (self.data / "masks" / file.name).write_bytes(file.read_bytes())
        (self.data / "atrous.yaml").write_text(f"data: {{classes: {json.dumps(PASCAL)}, ignore: [{IGNORED}]}}")

    def write(self, form: str) -> Path:
        """Return a folder of annotations, written at the first call."""
        folder = self.data.parent / f"as-{form}"
        if not folder.exists():
            atrous.convert(self.data, folder, to_format=form, progress=False)
        return folder


def check_round_trips(photographs: Photographs, place: Path) -> Iterator[Row]:
    """Compare masks with what is read of the annotations written of them."""
    for form in ("labelme", "coco", "cvat", "geojson"):
        masks = convert(photographs.write(form), form, PASCAL)
        yield f"photographs as {form}, read again", compare(masks, photographs.masks), 1.0


def check_coco(photographs: Photographs, place: Path) -> Iterator[Row]:
    """Compare run lengths and polygons with pycocotools."""
    from pycocotools import mask as coco
    from pycocotools.coco import COCO

    strings, lists, polygons = [], [], []
    for seed in range(SCENES):
        generator = np.random.default_rng(seed)
        mask = generator.random(SIZE) < generator.random() ** 2
        text = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
        strings.append(measure_iou(fill_runs(decode_counts(text), *SIZE, by_column=True), mask))
        lists.append(
            measure_iou(coco.decode(coco.frPyObjects({"size": SIZE, "counts": count_runs(mask)}, *SIZE)), mask)
        )
        points = draw_polygon(generator)
        top, left, pixels, _ = fill_polygon(points, *SIZE)
        ours = np.zeros(SIZE, bool)
        ours[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
        theirs = coco.decode(coco.frPyObjects([points.ravel().tolist()], *SIZE))[..., 0]
        polygons.append(float((ours & (theirs > 0)).sum() / (ours | (theirs > 0)).sum()))
    yield "pycocotools: strings of run lengths", min(strings), 1.0
    yield "pycocotools: lists of run lengths that are written", min(lists), 1.0
    yield "pycocotools: random polygons", min(polygons), 0.9
    with redirect_stdout(None):
        annotations = COCO(str(photographs.write("coco") / "annotations.json"))
    masks = {}
    for number, image in annotations.imgs.items():
        mask = np.zeros((image["height"], image["width"]), np.uint8)
        for row in sorted(annotations.imgToAnns[number], key=lambda row: -row["area"]):
            mask[annotations.annToMask(row) > 0] = row["category_id"]
        masks[Path(image["file_name"]).stem] = mask
    yield "pycocotools: photographs as COCO", compare(masks, photographs.masks), 0.99


def check_labelme(photographs: Photographs, place: Path) -> Iterator[Row]:
    """Compare shapes of every kind with labelme."""
    from labelme.utils import shapes_to_label

    kinds = ("polygon", "rectangle", "circle", "line", "linestrip", "point", "oriented_rectangle")
    numbers = {name: number for number, name in CLASSES.items()}
    theirs = {}
    for image, generator in iter_scenes(place / "labelme"):
        shapes = []
        for _ in range(SHAPES):
            kind = str(generator.choice(kinds))
            points = draw_polygon(generator)
            count = {"rectangle": 2, "circle": 2, "line": 2, "point": 1, "oriented_rectangle": 4}.get(kind, len(points))
            points = np.resize(points, (count, 2)) + generator.normal(0, 1, (count, 2)) * (kind != "polygon")
            points = np.clip(points, 0, (SIZE[1] - 1, SIZE[0] - 1))
            label = CLASSES[int(generator.integers(1, 4))]
            shapes.append({"label": label, "points": points.tolist(), "shape_type": kind, "group_id": None})
        content = {"shapes": shapes, "imagePath": image.name, "imageHeight": SIZE[0], "imageWidth": SIZE[1]}
        image.with_suffix(".json").write_text(json.dumps(content))
        theirs[image.stem] = shapes_to_label(SIZE, shapes, numbers)[0]
    yield "labelme: random shapes", compare(convert(place / "labelme", "labelme", CLASSES), theirs), 0.995
    masks = {}
    for file in sorted((photographs.write("labelme") / "images").glob("*.json")):
        content = json.loads(file.read_text())
        numbers = {name: number for number, name in PASCAL.items()} | {"__ignore__": IGNORED}
        size = (content["imageHeight"], content["imageWidth"])
        masks[file.stem] = shapes_to_label(size, content["shapes"], numbers)[0]
    yield "labelme: photographs as labelme", compare(masks, photographs.masks), 0.995


def check_label_studio(photographs: Photographs, place: Path) -> Iterator[Row]:
    """Compare brush strokes with Label Studio's own encoder and decoder, and its two forms of JSON."""
    from label_studio_sdk.converter import Converter
    from label_studio_sdk.converter.brush import decode_rle, mask2rle

    found = []
    for seed in range(3):
        generator = np.random.default_rng(seed)
        mask = ((generator.random(SIZE) < generator.random()) * 255).astype(np.uint8)
        rle = mask2rle(mask)
        ours = decode_brush(rle, mask.size * 4)
        found += [measure_iou(ours, decode_rle(rle)), measure_iou(ours.reshape(*SIZE, 4)[..., 3], mask)]
    yield "label-studio-sdk: brush strokes", min(found), 1.0
    labels = "".join(f'<Label value="{name}"/>' for name in CLASSES.values())
    kinds = ("BrushLabels", "PolygonLabels")
    tools = "".join(f'<{kind} name="{kind}" toName="image">{labels}</{kind}>' for kind in kinds)
    tasks = []
    for number, (image, generator) in enumerate(iter_scenes(place / "images"), start=1):
        results = []
        for _ in range(SHAPES):
            points, label = draw_polygon(generator), [CLASSES[int(generator.integers(1, 4))]]
            mask = np.zeros(SIZE, np.uint8)
            (left, top), (right, bottom) = points.min(axis=0).astype(int), points.max(axis=0).astype(int)
            mask[top : bottom + 1, left : right + 1] = 255
            stroke = {"format": "rle", "rle": mask2rle(mask), "brushlabels": label}
            outline = {"points": (points / SIZE[::-1] * 100).tolist(), "polygonlabels": label}
            tool, value = (
                ("PolygonLabels", outline) if number % 3 else ("BrushLabels", stroke)
            )  # JSON_MIN forgets their order
            sides = {"original_height": SIZE[0], "original_width": SIZE[1]}
            results.append({"from_name": tool, "to_name": "image", "type": tool.lower(), "value": value, **sides})
        annotation = {"id": number, "result": results, "created_at": "2024-01-01", "completed_by": {"id": 1}}
        tasks.append({"id": number, "data": {"image": f"/data/{image.name}"}, "annotations": [annotation]})
    source = place / "images" / "tasks.json"
    source.write_text(json.dumps(tasks))
    whole = convert(place / "images", "label-studio", CLASSES)
    config = f'<View><Image name="image" value="$image"/>{tools}</View>'
    converter = Converter(config, project_dir=str(place), download_resources=False)
    converter.convert_to_json_min(str(source), str(place / "min"), is_dir=False)
    source.write_text((place / "min" / "result.json").read_text())
    yield "label-studio-sdk: JSON_MIN", compare(convert(place / "images", "label-studio", CLASSES), whole), 1.0


def check_rasterio(photographs: Photographs, place: Path) -> Iterator[Row]:
    """Compare GeoJSON and polygons with GDAL."""
    from rasterio.features import rasterize

    found = []
    for seed in range(SCENES):
        points = draw_polygon(np.random.default_rng(seed))
        ring = [*points.tolist(), points[0].tolist()]
        theirs = rasterize([({"type": "Polygon", "coordinates": [ring]}, 1)], SIZE)
        top, left, pixels, _ = fill_polygon(points, *SIZE)
        ours = np.zeros(SIZE, np.uint8)
        ours[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
        found.append(measure_iou(ours, theirs))
    yield "rasterio: random polygons", min(found), 1.0
    masks = {}
    for file in sorted((photographs.write("geojson") / "images").glob("*.geojson")):
        content = json.loads(file.read_text())
        shapes = [(feature["geometry"], feature["properties"]["id"]) for feature in content["features"]]
        masks[file.stem] = rasterize(shapes, (content["height"], content["width"]))
    yield "rasterio: photographs as GeoJSON", compare(masks, photographs.masks), 1.0


def check_cvat(photographs: Photographs, place: Path) -> Iterator[Row]:
    """Compare both of CVAT's formats with datumaro, through which CVAT reads and writes masks."""
    import datumaro

    def draw(items: Any, numbers: dict[str, int]) -> dict[str, np.ndarray]:
        labels = items.categories()[datumaro.AnnotationType.label]
        masks = {}
        for item in items.transform("polygons_to_masks").transform("boxes_to_masks"):
            masks[Path(item.id).name] = mask = np.zeros(item.media_as(datumaro.Image).size, np.uint8)
            for shape in sorted(item.annotations, key=lambda shape: shape.z_order):
                mask[shape.image > 0] = numbers[labels[shape.label].name]
        return masks

    numbers = {name: number for number, name in PASCAL.items()} | {"__ignore__": IGNORED}
    items = datumaro.Dataset.import_from(str(photographs.write("cvat")), "cvat")
    yield "datumaro: photographs as CVAT for images", compare(draw(items, numbers), photographs.masks), 0.99
    items = []
    for image, generator in iter_scenes(place / "scenes"):
        shapes: list[Any] = []
        for order in range(SHAPES):
            points, label = draw_polygon(generator), int(generator.integers(1, 4))
            (left, top), (right, bottom) = points.min(axis=0).round(), points.max(axis=0).round()
            box = datumaro.Bbox(left, top, right - left, bottom - top, label=label, z_order=order)
            mask = datumaro.Mask(
                np.hypot(*np.indices(SIZE)) % 9 < generator.uniform(0, 0.5), label=label, z_order=order
            )
            polygon = datumaro.Polygon(points.ravel().tolist(), label=label, z_order=order)
            shapes.append([box, mask, polygon, polygon][int(generator.integers(4))])
        media = datumaro.Image.from_file(str(image))
        items.append(datumaro.DatasetItem(image.stem, media=media, annotations=shapes))
    colours = {0: (0, 0, 0), 1: (250, 50, 83), 2: (36, 179, 83), 3: (51, 221, 255)}
    categories = {
        datumaro.AnnotationType.label: datumaro.LabelCategories.from_iterable(CLASSES.values()),
        datumaro.AnnotationType.mask: datumaro.MaskCategories(colours),
    }
    scenes = datumaro.Dataset.from_iterable(items, categories=categories)
    scenes.export(str(place / "cvat"), "cvat", save_media=True)
    masks = draw(scenes, {name: number for number, name in CLASSES.items()})
    yield "datumaro: random shapes as CVAT for images", compare(convert(place / "cvat", "cvat", CLASSES), masks), 0.9
    scenes.export(str(place / "voc"), "voc_segmentation", save_media=True, apply_colormap=True, label_map="source")
    masks = draw(scenes, {name: number for number, name in CLASSES.items()})
    yield "datumaro: random shapes as Segmentation mask", compare(convert(place / "voc", "voc", CLASSES), masks), 1.0


def check_cvat_masks(photographs: Photographs, place: Path) -> Iterator[Row]:
    """Compare run lengths of masks with CVAT's own encoder."""
    from cvat_sdk.masks import encode_mask

    masks, elements = {}, []
    for image, generator in iter_scenes(place):
        mask = generator.random(SIZE) < generator.random()
        *runs, left, top, right, bottom = encode_mask(mask)
        box = f'left="{left}" top="{top}" width="{right - left + 1}" height="{bottom - top + 1}"'
        shape = f'<mask label="cat" rle="{str(runs)[1:-1]}" {box} z_order="0"/>'
        elements.append(f'<image name="{image.name}" width="{SIZE[1]}" height="{SIZE[0]}">{shape}</image>')
        masks[image.stem] = mask.astype(np.uint8)
    (place / "annotations.xml").write_text(f"<annotations>{''.join(elements)}</annotations>")
    yield "cvat-sdk: masks of CVAT for images", compare(convert(place, "cvat", CLASSES), masks), 1.0


CHECKS: dict[str, Callable[[Photographs, Path], Iterator[Row]]] = {
    "atrous": check_round_trips,
    "pycocotools": check_coco,
    "labelme": check_labelme,
    "label-studio-sdk": check_label_studio,
    "rasterio": check_rasterio,
    "datumaro": check_cvat,
    "cvat-sdk": check_cvat_masks,
}


def main() -> int:
    """Print and save all figures."""
    parser = argparse.ArgumentParser(description="Compare converters with the tools of their formats.")
    parser.add_argument("voc", type=Path, help="folder in VOC's layout, with JPEGImages/ and SegmentationClass/")
    parser.add_argument("--images", type=int, default=60, help="how many of its images")
    parser.add_argument("--out", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    rows = []
    is_met = True
    with tempfile.TemporaryDirectory() as place:
        photographs = Photographs(arguments.voc, arguments.images, Path(place))
        for tool, check in CHECKS.items():
            try:
                release = version(tool)
                for what, figure, least in check(photographs, Path(place, tool)):
                    print(
                        f"{what:<50} {release:>8} {figure:8.5f}  {'' if figure >= least else f'below {least}'}",
                        flush=True,
                    )
                    rows.append((what, release, f"{figure:.5f}", least))
                    is_met &= figure >= least
            except (PackageNotFoundError, ImportError) as error:
                print(f"{tool:<50} not installed: {error}")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with arguments.out.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("comparison", "version", "lowest IoU", "least"), *rows])
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
