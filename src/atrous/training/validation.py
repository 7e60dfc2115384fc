"""The averaged network as it will be used: scored, saved with its card, and shown on example images."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from atrous.config.schema import EvaluationConfig
from atrous.core.errors import OutputError, TrainingDiverged
from atrous.core.labels import IGNORE_INDEX, LabelSpace
from atrous.core.records import MessageCallback, Note, Progress, ProgressCallback, Scores
from atrous.core.run_folder import RunFolder
from atrous.data.contracts import SegmentationDataset
from atrous.data.samples import find_window, read_sample
from atrous.images.bands import stretch_bands
from atrous.images.decode import load_header
from atrous.images.encode import draw_overlay, encode_jpeg, encode_png, save_encoded, shrink_view
from atrous.images.palette import colour_labels
from atrous.inference.build import build_labeller
from atrous.inference.engine import Engine
from atrous.inference.labelling.labeller import Labeller
from atrous.inference.precision import computes_bf16
from atrous.metrics.calibration import TEMPERATURES
from atrous.networks.segmenter import Segmenter
from atrous.scoring.calibration import choose_on
from atrous.scoring.count import Counts, ImageCallback, count
from atrous.scoring.summarise import select_examples, summarise
from atrous.training.world import World

EXAMPLE_SIDE_PX = 480
"""Longer side of the images in the report and in trackers."""
TRACKED_EXAMPLES = 4


class Validator:
    """Scores a network on the validation data through the one evaluation path.

    Args:
        network: The averaged network, whose weights change between calls.
        dataset: The validation data.
        evaluation: How images become labels, and what computes them; precision auto is fp32.
        device: Where the network lies.
        world: The processes that share out the images.
        on_message: Receives messages about automatic choices and findings.
    """

    def __init__(
        self,
        network: Segmenter,
        dataset: SegmentationDataset,
        evaluation: EvaluationConfig,
        *,
        device: str,
        world: World,
        on_message: MessageCallback,
    ) -> None:
        self.network = network
        self._world = world
        self.dataset = dataset
        self._evaluation = evaluation
        self._engine = Engine(network, device=device, backend=evaluation.backend)
        self.labeller = self._build_labeller(evaluation.precision, on_message)

    def _build_labeller(self, precision: str, on_message: MessageCallback | None = None) -> Labeller:
        space = self.dataset.label_space
        return build_labeller(self._engine, space, self._evaluation, precision=precision, on_message=on_message)

    def run(self, progress: ProgressCallback | None = None) -> Scores:
        """Score the network as it is now, with what a training reads in its course: the confusion matrix alone.

        Raises:
            TrainingDiverged: Its output is not finite.
        """
        with _naming_validation():
            return self._score(self.labeller, progress)

    def conclude(self, progress: ProgressCallback | None = None) -> Scores:
        """Score the network as it will be used, and choose the temperature of its confidences on these images.

        Raises:
            TrainingDiverged: Its output is not finite.
        """
        with _naming_validation():
            counts = count_together(
                self._world, self.labeller, self.dataset, temperatures=TEMPERATURES, progress=progress
            )
        name = self.dataset.name
        chosen = choose_on(counts, name)
        scores = summarise(counts, self.labeller, data=name, chosen=chosen)
        return replace(scores, notes=(*scores.notes, Note("chosen-here", chosen.describe_use())))

    def _score(self, labeller: Labeller, progress: ProgressCallback | None = None) -> Scores:
        """Score every image once, each in one of the processes; all of them get the scores."""
        counts = count_together(self._world, labeller, self.dataset, detailed=False, progress=progress)
        return summarise(counts, labeller, data=self.dataset.name)

    def compare_pooling(self, scores: Scores) -> tuple[Note, ...]:
        """Say what the score is with the whole image's image-level features, where windows of it were averaged.

        Args:
            scores: With windows.
        Returns: A note, or nothing where the network has no such windows or they change nothing.
        """
        window = self.network.pooling_window
        if window is None:
            return ()
        self.network.pooling_window = None
        try:
            miou = self.run().miou
        finally:
            self.network.pooling_window = window
        if miou == scores.miou or miou is None or scores.miou is None:
            return ()
        message = (
            f"image-level features: mIoU {scores.miou:.4f} averaged over windows of {window} pixels, "
            f"{miou:.4f} over the whole image"
        )
        return (Note("image-level-windows", message),)

    def score_bf16(self, scores: Scores) -> float | None:
        """Return the mIoU in bf16, where validations are in fp32 and the machine computes bf16 faster, else None.

        Args:
            scores: In fp32.
        """
        has_bf16 = "bf16" in self._engine.precisions and computes_bf16(self._engine.device.type)
        if scores.protocol.precision != "fp32" or self._evaluation.precision != "auto" or not has_bf16:
            return None
        return self._score(self._build_labeller("bf16")).miou

    def describe_memory(self) -> str:
        """Describe how the largest validation image will be labelled, before the first step.

        Raises:
            MachineError: Not even a small window fits in memory.
        """
        height, width = max((self._read_size(i) for i in range(len(self.dataset))), key=lambda size: size[0] * size[1])
        mebibytes = self.labeller.backend.measure_bytes_per_pixel() * height * width / 2**20
        window = self.labeller.find_window(height, width)
        how = "as a whole" if window is None else f"in windows of {window}"
        return f"validation: the largest image, {height} x {width}, takes about {mebibytes:.0f} MiB {how}"

    def measure_seconds(self) -> float:
        """Return the seconds that a pass over the data takes, from one image after a first one to warm up."""
        for index in (0, 1):
            started = time.perf_counter()
            sample = read_sample(self.dataset, index % len(self.dataset))
            self.labeller.label_image(sample.image, confidence=False)
        return (time.perf_counter() - started) * len(self.dataset)

    def _read_size(self, index: int) -> tuple[int, int]:
        if (window := find_window(self.dataset, index)) is not None:
            return window.size
        path = self.dataset.image_path(index)
        if path is not None:
            header = load_header(path)
            return header.height, header.width
        height, width = self.dataset.mask(index).shape
        return height, width

    def draw_examples(self) -> dict[str, np.ndarray]:
        """Draw the labels of a few images, the same at each call, over the images: truth left, prediction right.

        Returns: By key, each (H, W, 3) uint8.
        """
        space = self.dataset.label_space
        places = np.linspace(0, len(self.dataset) - 1, min(TRACKED_EXAMPLES, len(self.dataset))).round().astype(int)
        drawn = {}
        for index in places.tolist():
            sample = read_sample(self.dataset, index)
            image = shrink_view(stretch_bands(sample.image, self.labeller.form), EXAMPLE_SIDE_PX, smooth=True)
            truth = shrink_view(sample.labels, EXAMPLE_SIDE_PX, smooth=False)
            predicted = shrink_view(
                self.labeller.label_image(sample.image, confidence=False)[0], EXAMPLE_SIDE_PX, smooth=False
            )
            drawn[sample.key] = np.hstack([_overlay(image, labels, space) for labels in (truth, predicted)])
        return drawn

    def save_examples(self, run: RunFolder, scores: Scores) -> list[dict[str, Any]]:
        """Write the best and the worst images with truth and prediction beside them.

        Args:
            run: The run's folder, whose `examples` gets the files.
            scores: Which images are best and worst.
        Returns: A row per image for metrics.json, with file names relative to the run's folder.
        """
        best, worst = select_examples(scores)
        mious = {row.key: row.miou for row in scores.images}
        indices = {self.dataset.key(index): index for index in range(len(self.dataset))}
        rows = []
        for number, key in enumerate((*best, *worst)):
            sample = read_sample(self.dataset, indices[key])
            predicted = self.labeller.label_image(sample.image, confidence=False)[0]
            views = {
                "image": stretch_bands(sample.image, self.labeller.form),
                "truth": colour_labels(sample.labels, self.dataset.label_space),
                "prediction": colour_labels(predicted, self.dataset.label_space),
            }
            row: dict[str, Any] = {"key": key, "miou": mious[key]}
            for name, view in views.items():
                path = run.examples / f"{number}_{name}.{'jpg' if name == 'image' else 'png'}"
                _save_small(path, view, smooth=name == "image")
                row[name] = path.relative_to(run.path).as_posix()
            rows.append(row)
        return rows


@contextmanager
def _naming_validation() -> Iterator[None]:
    try:
        yield
    except OutputError as error:
        hint = "Lower `lr` or training.clip_norm, or train with `precision=fp32`."
        raise TrainingDiverged(f"validation: {error.message}", hint) from error


def count_together(
    world: World,
    labeller: Labeller,
    dataset: SegmentationDataset,
    *,
    detailed: bool = True,
    temperatures: Sequence[float] | None = None,
    on_image: ImageCallback | None = None,
    progress: ProgressCallback | None = None,
) -> Counts:
    """Count every image of a data set once, each in one of several processes; all of them get the counts of all.

    Args:
        world: The processes; the share of one may be empty.
        labeller: What labels, and how.
        dataset: Images with masks, whose classes are the labeller's.
        detailed: See `count`.
        temperatures: See `count`.
        on_image: Receives each image that this process labels, see `count`.
        progress: Receives the progress of this process, in images of all.
    Raises:
        DataError: See `count`.
        OutputError: See `count`.
    """

    def show(at: Progress) -> None:
        if progress is not None:
            progress(replace(at, done=min(at.done * world.size, len(dataset)), total=len(dataset)))

    own = range(world.rank, len(dataset), world.size)
    counts = count(
        labeller, dataset, own, detailed=detailed, temperatures=temperatures, on_image=on_image, progress=show
    )
    parts: list[Counts] = world.gather(counts)
    for other in parts[1:]:
        parts[0].merge(other)
    return parts[0]


def _overlay(image: np.ndarray, labels: np.ndarray, space: LabelSpace) -> np.ndarray:
    """Draw class indices (H, W) over an image."""
    ids = space.decode(np.minimum(labels, space.num_classes - 1), labels == IGNORE_INDEX)
    return draw_overlay(image, ids, space)


def _save_small(path: Path, view: np.ndarray, *, smooth: bool) -> None:
    small = shrink_view(view, EXAMPLE_SIDE_PX, smooth=smooth)
    save_encoded(path, encode_jpeg(small) if smooth else encode_png(small))
