"""The same scene in every format of annotations: a cat and a dog on background, as small files."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
from PIL import Image
from ruamel.yaml import YAML

HEIGHT, WIDTH = 10, 12
CAT = (slice(1, 6), slice(2, 7))
DOG = (slice(5, 10), slice(8, 12))
CORNERS = {"cat": [(2, 1), (7, 1), (7, 6), (2, 6)], "dog": [(8, 5), (12, 5), (12, 10), (8, 10)]}
"""Corners of the two rectangles, x and y, where a pixel covers the square between whole numbers."""


def draw_scene(cat: str = "cat", dog: str = "dog") -> np.ndarray:
    """Return the names of the classes, (H, W)."""
    names = np.full((HEIGHT, WIDTH), "background")
    names[CAT], names[DOG] = cat, dog
    return names


def save_image(path: Path, height: int = HEIGHT, width: int = WIDTH) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def read_names(folder: Path, key: str = "photo") -> np.ndarray:
    """Return the names of the classes in a converted mask, (H, W); ignored pixels are called "ignored"."""
    classes = YAML(typ="safe").load((folder / "atrous.yaml").read_text(encoding="utf-8"))["data"]["classes"]
    mask = np.array(Image.open(folder / "masks" / f"{key}.png"))
    return np.array([[classes.get(number, "ignored") for number in row] for row in mask.tolist()])


def save_labelme(folder: Path, name: str) -> Path:
    """labelme's rectangles include both of their corner pixels."""
    shapes = [
        {"label": label, "points": [corners[0], (corners[2][0] - 1, corners[2][1] - 1)], "shape_type": "rectangle"}
        for label, corners in CORNERS.items()
    ]
    content = {"shapes": shapes, "imagePath": name, "imageHeight": HEIGHT, "imageWidth": WIDTH, "imageData": None}
    file = folder / "photo.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def save_geojson(folder: Path, name: str) -> Path:
    """A ring ends with its first point."""
    features = [
        {
            "type": "Feature",
            "properties": {"class": label},
            "geometry": {"type": "Polygon", "coordinates": [[*corners, corners[0]]]},
        }
        for label, corners in CORNERS.items()
    ]
    file = folder / "photo.geojson"
    size = {"height": HEIGHT, "width": WIDTH}
    content = {"type": "FeatureCollection", "image": name, **size, "features": features}
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def save_coco(folder: Path, name: str) -> Path:
    categories = [{"id": number, "name": label} for number, label in enumerate(CORNERS, start=1)]
    annotations = [
        {"id": number, "image_id": 7, "category_id": number, "segmentation": [np.ravel(corners).tolist()]}
        for number, corners in enumerate(CORNERS.values(), start=1)
    ]
    images = [{"id": 7, "file_name": name, "height": HEIGHT, "width": WIDTH}]
    file = folder / "instances.json"
    content = {"images": images, "annotations": annotations, "categories": categories}
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def save_cvat(folder: Path, name: str) -> Path:
    labels = "".join(f"<label><name>{label}</name></label>" for label in CORNERS)
    polygons = "".join(
        f'<polygon label="{label}" points="{";".join(f"{x}.0,{y}.0" for x, y in corners)}" z_order="0"/>'
        for label, corners in CORNERS.items()
    )
    file = folder / "annotations.xml"
    file.write_text(
        f"<annotations><version>1.1</version><meta><task><labels>{labels}</labels></task></meta>"
        f'<image id="0" name={quoteattr(name.replace(chr(0), ""))} width="{WIDTH}" height="{HEIGHT}">{polygons}</image>'
        "</annotations>",
        encoding="utf-8",
    )
    return file


def save_label_studio(folder: Path, name: str) -> Path:
    """Coordinates are percentages."""
    results = [
        {
            "type": "polygonlabels",
            "original_width": WIDTH,
            "original_height": HEIGHT,
            "value": {
                "points": [[x / WIDTH * 100, y / HEIGHT * 100] for x, y in corners],
                "polygonlabels": [label],
            },
        }
        for label, corners in CORNERS.items()
    ]
    task = {"id": 1, "data": {"image": f"/data/upload/1/0123abcd-{name}"}, "annotations": [{"result": results}]}
    file = folder / "tasks.json"
    file.write_text(json.dumps([task]), encoding="utf-8")
    return file


def save_yolo(folder: Path, name: str) -> Path:
    """The name of the image is that of the text file."""
    lines = [
        " ".join(map(str, [number, *(np.array(corners) / (WIDTH, HEIGHT)).ravel().tolist()]))
        for number, corners in enumerate(CORNERS.values())
    ]
    (folder / "data.yaml").write_text("names: [cat, dog]\n", encoding="utf-8")
    file = folder / f"{name.removesuffix('.png')}.txt"
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def save_colours(folder: Path, name: str, place: str = "masks", table: str = "labelmap.txt") -> Path:
    """The name of the image is that of the mask; colours are off by a little, as CVAT's are."""
    colours = {"background": (0, 0, 0), "cat": (250, 50, 83), "dog": (36, 179, 83)}
    line = "{}:{},{},{}::\n" if table.endswith(".txt") else "{},{},{},{}\n"
    rows = [line.format(label, *colour) for label, colour in colours.items()]
    header = "# label:color_rgb:parts:actions\n" if table.endswith(".txt") else "name,r,g,b\n"
    (folder / table).write_text(header + "".join(rows), encoding="utf-8")
    names = draw_scene()
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for label, colour in colours.items():
        pixels[names == label] = np.minimum(np.array(colour) + 3, 255)
    return save_mask(folder, name, pixels, place)


def save_mask(folder: Path, name: str, pixels: np.ndarray, place: str = "masks") -> Path:
    file = folder / place / f"{name.removesuffix('.png')}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)
    return file


def save_binary(folder: Path, name: str) -> Path:
    return save_mask(folder, name, ((draw_scene() == "cat") * 255).astype(np.uint8))


def save_instances(folder: Path, name: str) -> Path:
    names = draw_scene()
    return save_mask(folder, name, ((names == "cat") * 7 + (names == "dog") * 300).astype(np.uint16))


SAVERS: dict[str, Callable[[Path, str], Path]] = {
    "labelme": save_labelme,
    "coco": save_coco,
    "cvat": save_cvat,
    "geojson": save_geojson,
    "label-studio": save_label_studio,
    "yolo": save_yolo,
    "voc": functools.partial(save_colours, place="SegmentationClass"),
    "colours": functools.partial(save_colours, table="class_colours.csv"),
    "binary": save_binary,
    "instances": save_instances,
}
"""By format: writes the scene for an image of a name, and returns the file that holds the annotations."""
NEVER_GUESSED = ("binary", "instances")
MERGED = {"binary": {"dog": "background", "cat": "object"}, "instances": {"dog": "object", "cat": "object"}}
"""What the classes of the scene are in formats of one class."""
