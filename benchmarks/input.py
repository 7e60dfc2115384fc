"""Training samples from files: decoding, random scale, crop and mirroring, by several pipelines on one core.

    python benchmarks/input.py --voc PATH/TO/VOC             # JPEGImages/, SegmentationClass/, ImageSets/Segmentation/

Every pipeline reads the same files and gives the same crops: scale 0.5 to 2, side 513, mirrored or not, as uint8
tensors. `v2` is Pillow with torchvision.transforms.v2 on tensors, which is its fastest form and the reference; `v2_pil`
is the same on Pillow's images, and `opencv` is OpenCV. All three scale the whole image and then crop it. `opencv_first`
crops it with OpenCV first. `albumentations` is the library of this name, if it is installed; it draws its crops itself.
`atrous` decodes every image, `cached` has decoded them before. Seconds are those of the process, so other load counts
little. `difference` is the mean absolute difference of pixels, of 255, from what Pillow makes of the window that the
crop shows; `equal_labels` is the share of equal labels. A whole image that is scaled first has crops at other fractions
of a pixel.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import torch
from harness import parse_options, report, take_turns
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from atrous.config.schema import DataConfig, TrainingConfig
from atrous.core.labels import IGNORE_INDEX
from atrous.core.seeds import compute_epoch_order, sample_generator
from atrous.data.augment.geometric import PADDING_COLOUR, CropGeometry
from atrous.data.build import build_splits, build_stream
from atrous.data.sampling import Stream

VOID = 255
Pipeline = Callable[[int], tuple[torch.Tensor, torch.Tensor]]
"""From the number of a sample in the stream to its image (3, N, N) uint8 and its ids (N, N) uint8."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this script."""
    parser.add_argument("--voc", type=Path, required=True, help="folder of data in VOC's layout")
    parser.add_argument("--train-split", default="train_aug", help="name of the list of images")
    parser.add_argument("--crop", type=int, default=513, help="side of the crop in pixels")
    parser.add_argument("--count", type=int, default=64, help="samples in a turn")


def main() -> None:
    """Compare the pipelines, and print how far their samples differ."""
    options = parse_options(__doc__, add_options)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    data = DataConfig(source=f"voc={options.voc}", split={"train": options.train_split, "val": "val"})
    training = TrainingConfig(crop=options.crop, iterations=1)
    dataset = build_splits(data).train
    stream = build_stream(dataset, training)
    cached = build_stream(dataset, training, cache_bytes=2**40)
    order = compute_epoch_order(training.seed, 0, len(dataset))
    masks = [dataset.mask_path(int(order[place])) for place in range(options.count)]
    images = [dataset.image_path(int(order[place])) for place in range(options.count)]

    def find_geometry(place: int) -> CropGeometry:
        return stream.augmentation.draw(sizes[place], sample_generator(training.seed, place))

    def read_v2(place: int, *, as_tensors: bool) -> tuple[torch.Tensor, torch.Tensor]:
        crop = WholeCrop.find(geometries[place], *sizes[place])
        image, mask = Image.open(images[place]).convert("RGB"), Image.open(masks[place])
        if as_tensors:
            image, mask = functional.pil_to_tensor(image), functional.pil_to_tensor(mask)
        nearest = v2.InterpolationMode.NEAREST_EXACT if as_tensors else v2.InterpolationMode.NEAREST
        image = functional.resize(image, crop.size, interpolation=v2.InterpolationMode.BILINEAR)
        mask = functional.resize(mask, crop.size, interpolation=nearest)
        image = functional.pad(image, crop.padding, fill=PADDING_COLOUR)
        mask = functional.pad(mask, crop.padding, fill=VOID)
        image, mask = (functional.crop(each, *crop.start, options.crop, options.crop) for each in (image, mask))
        if geometries[place].flip:
            image, mask = functional.hflip(image), functional.hflip(mask)
        if not as_tensors:
            image, mask = functional.pil_to_tensor(image), functional.pil_to_tensor(mask)
        return image, mask[0]

    def read_window(place: int) -> tuple[torch.Tensor, torch.Tensor]:
        geometry = geometries[place]
        rows, columns = geometry.rows, geometry.columns
        box = (columns.start, rows.start, columns.start + columns.length, rows.start + rows.length)
        below, right = (geometry.crop - span.before - span.size for span in (rows, columns))
        parts = []
        for path, method, fill in (
            (images[place], Image.Resampling.BILINEAR, PADDING_COLOUR),
            (masks[place], Image.Resampling.NEAREST, VOID),
        ):
            part = Image.open(path).crop(box).resize((columns.size, rows.size), method)
            part = functional.pad(part, [columns.before, rows.before, right, below], fill=fill)
            parts.append(functional.pil_to_tensor(functional.hflip(part) if geometry.flip else part))
        return parts[0], parts[1][0]

    def read_opencv(place: int, *, is_cropped_first: bool) -> tuple[torch.Tensor, torch.Tensor]:
        geometry = geometries[place]
        crop = WholeCrop.find(geometry, *sizes[place])
        image = cv2.cvtColor(cv2.imread(str(images[place])), cv2.COLOR_BGR2RGB)
        mask = np.asarray(Image.open(masks[place]))
        size = crop.size[::-1]
        if is_cropped_first:
            window, size = geometry.find_window(sizes[place]), [geometry.columns.size, geometry.rows.size]
            image, mask = image[window], mask[window]
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT)
        left, top, right, bottom = crop.padding
        image = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=PADDING_COLOUR)
        mask = cv2.copyMakeBorder(mask, top, bottom, left, right, cv2.BORDER_CONSTANT, value=VOID)
        if not is_cropped_first:
            rows, columns = (slice(start, start + options.crop) for start in crop.start)
            image, mask = image[rows, columns], mask[rows, columns]
        if geometry.flip:
            image, mask = cv2.flip(image, 1), cv2.flip(mask, 1)
        return to_tensors(image, mask)

    def read_stream(stream: Stream, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        sample = stream.sample(place)
        return to_tensors(sample.image, sample.labels)

    sizes = [Image.open(path).size[::-1] for path in images]
    geometries = [find_geometry(place) for place in range(options.count)]
    pipelines: dict[str, Pipeline] = {
        "v2": partial(read_v2, as_tensors=True),
        "v2_pil": partial(read_v2, as_tensors=False),
        "opencv": partial(read_opencv, is_cropped_first=False),
        "opencv_first": partial(read_opencv, is_cropped_first=True),
        "atrous": partial(read_stream, stream),
        "cached": partial(read_stream, cached),
    }
    if find_spec("albumentations"):
        pipelines["albumentations"] = build_albumentations(options.crop, images, masks)
    compared = {name: compare(read_window, read, options.count) for name, read in pipelines.items()}

    def run_turn(read: Pipeline) -> Callable[[], None]:
        def run() -> None:
            for place in range(options.count):
                read(place)

        return run

    times = take_turns(
        {name: run_turn(read) for name, read in pipelines.items()}, options.rounds, clock=time.process_time
    )
    more = {
        name: {"images_per_s": f"{options.count / np.median(times[name]):.0f}", **compared.get(name, {})}
        for name in pipelines
    }
    report("input", {"crop": options.crop}, times, reference="v2", options=options, more=more)


@dataclass(frozen=True)
class WholeCrop:
    """A crop as other libraries make it: the whole image is scaled, padded and then cropped.

    Args:
        size: Height and width of the scaled image.
        padding: Pixels on the left, at the top, on the right and at the bottom.
        start: First row and column of the crop in the padded image, the nearest to the crop that is compared.
    """

    size: list[int]
    padding: list[int]
    start: tuple[int, int]

    @classmethod
    def find(cls, geometry: CropGeometry, height: int, width: int) -> WholeCrop:
        """Return the form of a crop of an image of some size."""
        sides = [
            (
                round(side / span.step),
                span.before,
                geometry.crop - span.before - span.size,
                round(span.start / span.step),
            )
            for span, side in ((geometry.rows, height), (geometry.columns, width))
        ]
        (rows, top, bottom, first_row), (columns, left, right, first_column) = sides
        return cls([rows, columns], [left, top, right, bottom], (first_row, first_column))


def build_albumentations(crop: int, images: list[Path], masks: list[Path]) -> Pipeline:
    """Build the pipeline of albumentations, which draws its crops itself."""
    import albumentations

    transform = albumentations.Compose(
        [
            albumentations.RandomScale((-0.5, 1.0), p=1.0),
            albumentations.PadIfNeeded(
                crop, crop, border_mode=cv2.BORDER_CONSTANT, fill=PADDING_COLOUR, fill_mask=VOID
            ),
            albumentations.RandomCrop(crop, crop),
            albumentations.HorizontalFlip(p=0.5),
        ],
        seed=0,
    )

    def read(place: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = cv2.cvtColor(cv2.imread(str(images[place])), cv2.COLOR_BGR2RGB)
        changed = transform(image=image, mask=np.asarray(Image.open(masks[place])))
        return to_tensors(changed["image"], changed["mask"])

    return read


def to_tensors(image: np.ndarray, labels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Return an image (N, N, 3) and its labels as tensors, the image as (3, N, N) with the channels last in memory."""
    return torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(labels)


def compare(reference: Pipeline, read: Pipeline, count: int) -> dict[str, str]:
    """Return how far the samples of a pipeline are from those of another."""
    differences, equal = [], []
    for place in range(count):
        image, labels = read(place)
        wanted_image, wanted_labels = reference(place)
        labels = torch.where(labels.int() == IGNORE_INDEX, VOID, labels.int())
        differences.append((image.float() - wanted_image.float()).abs().mean().item())
        equal.append((labels == wanted_labels.int()).float().mean().item())
    return {"difference": f"{np.mean(differences):.3g}", "equal_labels": f"{np.mean(equal):.5f}"}


if __name__ == "__main__":
    main()
