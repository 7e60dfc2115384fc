"""Images of shapes, drawn on demand: a data set without files, to try the whole tool in minutes.

Colour and texture carry no information: background and shapes take theirs from one distribution. The class of a pixel
follows from the outline around it, which may be a hundred pixels away: deep inside a large shape, or in the hole of a
frame, through which the same background shows. Shapes measure from a fifth of the image to nearly all of it, at any
angle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from atrous.core.errors import ConfigError
from atrous.core.labels import LabelSpace
from atrous.core.records import Sample
from atrous.core.seeds import MAX_SEED
from atrous.core.words import describe_count
from atrous.data.contracts import DEFAULT_REQUEST, DataRequest, Splits, describe_dataset

LARGEST_SIDE_PX, LARGEST_COUNT = 10_000, 10_000_000
CLASSES = ("background", "ellipse", "rectangle", "triangle", "frame", "hole")
_BACKGROUND, _ELLIPSE, _RECTANGLE, _TRIANGLE, _FRAME, _HOLE = range(6)
_SHAPES = (_ELLIPSE, _RECTANGLE, _TRIANGLE, _FRAME, _FRAME)  # frames are placed less often
_FRAME_OUTLINES = (_ELLIPSE, _RECTANGLE)
_SPLITS = {"train": 0, "val": 1}
_LAYOUT, _PAINT = 0, 1  # labels drawn without paint have the same layout

# Diameters / the shorter side of the image: of most shapes, and of the two large ones in every image.
_DIAMETERS = (0.2, 0.5)
_LARGE_DIAMETERS = (0.5, 0.95)
_LARGE_TRIES = 2
_TRIES = 4  # shapes to be placed
_PLACES = 3  # positions tried for each
_LEAST_INSIDE = 0.7  # share of a shape that must be inside the image
_LEAST_VISIBLE = 0.97  # share of a drawn shape that later ones must leave visible
_FRAME_HOLE = (0.6, 0.72)  # diameter of the hole / that of the frame
_ENLARGED = {_TRIANGLE: 1.3, _FRAME: 1.6}  # so that their areas match those of other shapes
_CONTRAST = 70.0  # least distance between the colour of a shape and the colours behind it, in 0 to 255 RGB
_COLOUR_RANGE = (40, 216)
_PERIOD_PX = (5, 40)
_FIXED_POINT_BITS = 4  # OpenCV's polygons in sixteenths of a pixel


@dataclass(frozen=True)
class ShapesDataset:
    """One split of the shapes. Sample i is a function of (seed, split, i, size) alone.

    Args:
        split: "train" or "val".
        count: Number of images.
        size: (height, width) in pixels.
        seed: Seed of all images.
        label_space: The six classes.
    """

    split: str
    count: int
    size: tuple[int, int]
    seed: int
    label_space: LabelSpace
    thread_safe: ClassVar[bool] = True

    def __repr__(self) -> str:
        return describe_dataset(self)

    @property
    def name(self) -> str:
        """Name of data and split."""
        return f"shapes {self.split}"

    def __len__(self) -> int:
        return self.count

    def get(self, index: int) -> Sample:
        """Draw the image and its labels."""
        layers, labels = _arrange(self._generator(index, _LAYOUT), self.size)
        image = _paint(self._generator(index, _PAINT), self.size, layers)
        return Sample(self.key(index), image, self.label_space.encode(labels))

    def key(self, index: int) -> str:
        """Return the sample's name, such as "val/00007"."""
        return f"{self.split}/{self._require_index(index):05d}"

    def mask(self, index: int) -> np.ndarray:
        """Draw the labels alone, (H, W) uint8 ids, in a fraction of the time that the image takes."""
        return _arrange(self._generator(index, _LAYOUT), self.size)[1]

    def image_path(self, index: int) -> Path | None:
        """Return None: images are drawn, not read."""
        self._require_index(index)
        return None

    def mask_path(self, index: int) -> Path | None:
        """Return None: masks are drawn, not read."""
        return self.image_path(index)

    def _generator(self, index: int, part: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, _SPLITS[self.split], self._require_index(index), part))

    def _require_index(self, index: int) -> int:
        if not 0 <= index < self.count:
            raise IndexError(f"sample {index} of {self.count}")
        return index


def build_shapes(
    root: Path | None = None,
    request: DataRequest = DEFAULT_REQUEST,
    *,
    num_train: int = 1000,
    num_val: int = 60,
    size: int | tuple[int, int] = 257,
    seed: int = 0,
) -> Splits:
    """Build the two splits without drawing anything yet.

    Args:
        root: No effect: there are no files.
        request: What is wanted: no classes, or the six names in their order; splits "train" and "val".
        num_train: Images in "train".
        num_val: Images in "val".
        size: Side of the square images, or (height, width), in pixels, each at least 65.
        seed: Seed of all images.
    Raises:
        ConfigError: An unknown split, other classes, or a number out of its range.
    """
    given = tuple(request.classes.values()) if isinstance(request.classes, Mapping) else request.classes
    if given is not None and tuple(given) != CLASSES:
        raise ConfigError("data.classes: shapes has classes of its own", f"Remove it, or give {', '.join(CLASSES)}.")
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 65 or max(height, width) > LARGEST_SIDE_PX:
        wrong = "small" if min(height, width) < 65 else "large"
        raise ConfigError(
            f"data.options.size: {height}x{width} is too {wrong} for the shapes",
            f"Give 65 to {LARGEST_SIDE_PX:,} pixels.",
        )
    counts = {"train": num_train, "val": num_val}
    for name, count in counts.items():
        if not 1 <= count <= LARGEST_COUNT:
            raise ConfigError(
                f"data.options.num_{name}: {describe_count(count, 'image')}", f"Give 1 to {LARGEST_COUNT:,}."
            )
    if not 0 <= seed <= MAX_SEED:
        raise ConfigError(f"data.options.seed: {seed}", f"Give 0 to {MAX_SEED}.")
    label_space = LabelSpace(CLASSES, ignored_ids=tuple(request.ignore))

    if request.split.is_divided:
        raise ConfigError("data.split: shapes has the splits train and val, and no files", "Remove this setting.")

    def build_split(key: str, split: str) -> ShapesDataset:
        if split not in counts:
            raise ConfigError(f"data.split.{key}: shapes has no split {split!r}", "Allowed: train, val.")
        return ShapesDataset(split, counts[split], (int(height), int(width)), seed, label_space)

    return Splits(
        train=build_split("train", request.split.train_name),
        val=build_split("val", request.split.val_name),
        layout="drawn on demand, no files",
    )


@dataclass(frozen=True)
class _Layer:
    """A shape in its position.

    Args:
        top: First row of `cover` in the image.
        left: First column likewise.
        cover: Share of each pixel that the shape covers, (h, w) uint8, 255 for all of it.
        behind: What is behind it: 0 for the background, 1 for the first layer, and so on.
    """

    top: int
    left: int
    cover: np.ndarray
    behind: np.ndarray


def _arrange(generator: np.random.Generator, size: tuple[int, int]) -> tuple[list[_Layer], np.ndarray]:
    """Place shapes, large ones first, so that each stays recognisable; return them with the labels (H, W) uint8."""
    height, width = size
    side = min(size)
    labels = np.zeros(size, np.uint8)
    owners = np.zeros(size, np.uint8)  # 0 the background, 1 the first layer, and so on
    drawn = np.zeros(_TRIES + 1)  # pixels of each owner when it was drawn; the background may disappear
    visible = np.zeros(_TRIES + 1)  # pixels of each owner now
    visible[0] = labels.size
    layers: list[_Layer] = []
    for diameter in _draw_diameters(generator, side):
        kind = _SHAPES[generator.integers(len(_SHAPES))]
        diameter = min(diameter * _ENLARGED.get(kind, 1.0), _LARGE_DIAMETERS[1] * side)
        unit_outlines = _draw_outlines(generator, kind)
        for _ in range(_PLACES):
            centre = generator.uniform((0, 0), (width, height))
            outlines = [outline * (diameter / 2) + centre for outline in unit_outlines]
            place, cover, hole = _rasterise(outlines, size)
            inside = cover > 127
            below = owners[place]
            covered = np.bincount(below[inside], minlength=_TRIES + 1)
            in_image = covered.sum() / (_compute_area(outlines[0]) - sum(_compute_area(o) for o in outlines[1:]))
            remaining = visible - covered
            if in_image < _LEAST_INSIDE or np.any((covered > 0) & (remaining < _LEAST_VISIBLE * drawn)):
                continue
            visible = remaining
            layers.append(_Layer(place[0].start, place[1].start, cover, np.flatnonzero(covered)))
            visible[len(layers)] = drawn[len(layers)] = covered.sum()
            labels[place][inside] = kind
            labels[place][(hole > 127) & (below == 0) & ~inside] = _HOLE
            below[inside] = len(layers)
            break
    return layers, labels


def _draw_diameters(generator: np.random.Generator, side: int) -> np.ndarray:
    """Return the diameters of the shapes that look for a place, in pixels, largest first."""
    low, high = np.log(_DIAMETERS)
    smaller = np.exp(generator.uniform(low, high, _TRIES - _LARGE_TRIES)) * side
    larger = generator.uniform(*_LARGE_DIAMETERS, _LARGE_TRIES) * side
    return np.sort(np.concatenate([smaller, larger]))[::-1]


def _draw_outlines(generator: np.random.Generator, kind: int) -> list[np.ndarray]:
    """Return the outline of a shape of diameter 2 around 0, and a frame's inner outline too, each (n, 2) x and y."""
    outline_kind = _FRAME_OUTLINES[generator.integers(len(_FRAME_OUTLINES))] if kind == _FRAME else kind
    cosine, sine = _draw_direction(generator)
    turn = np.array([[cosine, sine], [-sine, cosine]])
    outline = _OUTLINES[outline_kind] * (1.0, generator.uniform(0.7, 1.0)) @ turn
    return [outline, outline * generator.uniform(*_FRAME_HOLE)] if kind == _FRAME else [outline]


def _draw_direction(generator: np.random.Generator) -> tuple[float, float]:
    angle = generator.uniform(0, 2 * np.pi)
    return float(np.cos(angle)), float(np.sin(angle))


def _rasterise(outlines: list[np.ndarray], size: tuple[int, int]) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
    """Return the box in the image, and the cover of the shape and of its hole there, (h, w) uint8."""
    left, top = np.clip(np.floor(outlines[0].min(axis=0)).astype(int) - 1, 0, None).tolist()
    right, bottom = np.minimum(np.ceil(outlines[0].max(axis=0)).astype(int) + 2, (size[1], size[0])).tolist()
    polygons = [np.round((outline - (left, top)) * 2**_FIXED_POINT_BITS).astype(np.int32) for outline in outlines]
    cover, hole = np.zeros((2, bottom - top, right - left), np.uint8)
    cv2.fillPoly(cover, polygons, 255, cv2.LINE_AA, _FIXED_POINT_BITS)
    if len(polygons) > 1:
        cv2.fillPoly(hole, polygons[1:], 255, cv2.LINE_AA, _FIXED_POINT_BITS)
    return np.s_[top:bottom, left:right], cover, hole


def _compute_area(outline: np.ndarray) -> float:
    x, y = outline.T
    return float(abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2)


def _paint(generator: np.random.Generator, size: tuple[int, int], layers: list[_Layer]) -> np.ndarray:
    """Paint background and shapes with textures of one distribution: (H, W, 3) uint8."""
    height, width = size
    colours = np.zeros((len(layers) + 1, 3), np.float32)
    colours[0] = generator.uniform(*_COLOUR_RANGE, 3)
    image = _draw_texture(generator, height, width, colours[0])  # (3, H, W): channels first is far faster in numpy
    for number, layer in enumerate(layers, start=1):
        candidates = generator.uniform(*_COLOUR_RANGE, (12, 3))
        contrasts = np.linalg.norm(candidates[:, None] - colours[layer.behind], axis=2).min(axis=1)
        enough = np.flatnonzero(contrasts > _CONTRAST)
        colours[number] = candidates[enough[0] if enough.size else contrasts.argmax()]
        h, w = layer.cover.shape
        area = image[:, layer.top : layer.top + h, layer.left : layer.left + w]
        texture = _draw_texture(generator, h, w, colours[number])
        area += (texture - area) * (layer.cover * np.float32(1 / 255))
    np.clip(image, 0, 255, out=image)
    return np.ascontiguousarray(image.astype(np.uint8).transpose(1, 2, 0))


def _draw_texture(generator: np.random.Generator, height: int, width: int, colour: np.ndarray) -> np.ndarray:
    """Draw checks, clouds or nothing on a colour, shaded and with grain: (3, height, width) float32."""
    cosine, sine = _draw_direction(generator)
    period = np.exp(generator.uniform(*np.log(_PERIOD_PX)))
    rows = np.arange(height, dtype=np.float32)[:, None] * np.float32(2 * np.pi / period) + generator.uniform(0, 7)
    columns = np.arange(width, dtype=np.float32) * np.float32(2 * np.pi / period)
    pattern: np.ndarray | np.float32
    match generator.integers(3):
        case 0:
            pattern = 3 * np.sin(columns * cosine + rows * sine) * np.sin(columns * sine - rows * cosine)
            np.clip(pattern, -1, 1, out=pattern)
        case 1:
            cells = generator.uniform(-1, 1, (int(height / period) + 2, int(width / period) + 2))
            pattern = cv2.resize(cells.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        case _:
            pattern = np.zeros((height, width), np.float32)
    tint = generator.standard_normal(3).astype(np.float32)
    tint *= generator.uniform(10, 25) / np.linalg.norm(tint)
    slope = generator.uniform(-25, 25, 2)
    shade = generator.standard_normal((height, width), np.float32) * np.float32(generator.uniform(1, 7))
    shade += np.linspace(-slope[0], slope[0], height, dtype=np.float32)[:, None]
    shade += np.linspace(-slope[1], slope[1], width, dtype=np.float32)
    return np.asarray(pattern * tint[:, None, None] + (shade + colour[:, None, None]), np.float32)


def _build_polygon(num_corners: int) -> np.ndarray:
    """Return a regular polygon in the unit circle, its lowest side level: stretched squares stay rectangles."""
    angles = (np.arange(num_corners) + 0.5) * 2 * np.pi / num_corners
    return np.stack([np.sin(angles), -np.cos(angles)], axis=1)


_OUTLINES = {_ELLIPSE: _build_polygon(64), _RECTANGLE: _build_polygon(4), _TRIANGLE: _build_polygon(3)}
