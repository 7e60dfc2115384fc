"""Whether some data can be learned at all: two images are learned by heart, and what to look at if that fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from atrous.config.load import LoadedConfig
from atrous.config.stages import list_stages
from atrous.core.labels import IGNORE_INDEX
from atrous.core.output_folder import require_place
from atrous.core.records import MessageCallback, ProgressCallback, Scores, send_message
from atrous.core.run_folder import RunFolder
from atrous.core.words import describe_count
from atrous.data.build import build_splits
from atrous.data.excerpts import Excerpts, choose_excerpts
from atrous.data.preview import draw_sheet, require_own
from atrous.images.bands import stretch_bands
from atrous.images.encode import encode_png, save_encoded
from atrous.images.palette import colour_labels

PROBE_MARK = "probe of a training"
"""What the image of a probe says of itself, so that only such an image is replaced by the next one."""
LEARNED_IOU = 0.5
"""From this IoU on a class counts as learned, and from this mIoU on the two images do."""
LEAST_FALL = 0.5
"""Share by which the loss falls at least where two images are learned."""
MOSTLY = 0.5
LIMITS = (
    "A probe cannot see that masks are shifted, belong to other images, or have two classes exchanged throughout: two "
    "images can be learned by heart whatever their masks show. Look at them for that, and run atrous check."
)
"""A limit that every probe reports."""


@dataclass(frozen=True)
class LearnedClass:
    """A class of a probe.

    Args:
        name: Its name.
        pixels: Its pixels in the two images.
        before: Its IoU before the first step; None where there was nothing to divide by.
        after: Its IoU after the last step likewise.
        mistaken_for: The class that most of its pixels got, if that is another one.
    """

    name: str
    pixels: int
    before: float | None
    after: float | None
    mistaken_for: str | None

    @property
    def is_learned(self) -> bool:
        """Whether its IoU is that of a class that was learned."""
        return self.after is not None and self.after >= LEARNED_IOU


@dataclass(frozen=True)
class Probe:
    """What a probe found.

    Args:
        images: Names of the images.
        crop: Side of the crops in pixels.
        losses: The loss of each step.
        before: The mIoU on the two images before the first step.
        after: The mIoU on them after the last step.
        classes: The classes that the two images show.
        ignored: Share of their pixels that are ignored.
        sheet: The image that shows them with their masks and predictions; None if none was asked for.
    """

    images: tuple[str, ...]
    crop: int
    losses: tuple[float, ...]
    before: float | None
    after: float | None
    classes: tuple[LearnedClass, ...]
    ignored: float
    sheet: Path | None

    @property
    def has_fallen(self) -> bool:
        """Whether the loss fell as it does where images are learned by heart."""
        return self.losses[-1] <= (1 - LEAST_FALL) * self.losses[0]

    @property
    def is_learned(self) -> bool:
        """Whether the two images were learned: several classes, with a loss that fell."""
        return len(self.classes) > 1 and self.has_fallen and self.after is not None and self.after >= LEARNED_IOU

    def describe_images(self) -> str:
        """Return what was learned by heart."""
        return f"{' and '.join(self.images)}, crops of {describe_count(self.crop, 'pixel')} a side"

    def describe_scores(self) -> str:
        """Return the loss and the mIoU before and after."""
        before, after = ("-" if miou is None else f"{miou:.3f}" for miou in (self.before, self.after))
        return (
            f"loss {self.losses[0]:.3f} before, {self.losses[-1]:.3f} after; mIoU {before} before, {after} after; "
            f"{describe_count(len(self.losses), 'step')}"
        )

    def describe_verdict(self) -> str:
        """Return in a sentence what was found."""
        learned = sum(row.is_learned for row in self.classes)
        of_all = (
            f"{learned} of {describe_count(len(self.classes), 'class')} in {describe_count(len(self.images), 'image')}"
        )
        if self.is_learned:
            return f"learned: {of_all}, so images, masks, loss and learning rate work together"
        return f"not learned: {of_all}, in {describe_count(len(self.losses), 'step')}"

    def list_advice(self) -> list[str]:
        """Return what to look at if the images were not learned, the likeliest reason first; nothing if they were."""
        if self.is_learned:
            return []
        first, last = self.losses[0], self.losses[-1]
        advice = []
        if len(self.classes) < 2:
            names = ", ".join(row.name for row in self.classes)
            advice.append(f"classes: the masks hold {names} alone. See data.classes, data.label_map and data.ignore")
        if self.ignored > MOSTLY:
            advice.append(f"ignored pixels: {self.ignored:.0%} of the two crops are ignored. See data.ignore")
        if not self.has_fallen:
            advice.append(
                f"learning rate: the loss went from {first:.3f} to {last:.3f}. Try `lr` ten times higher and ten times "
                "lower; if none of them helps, the masks do not follow the images"
            )
        mistaken = [row for row in self.classes if row.mistaken_for and not row.is_learned and self.has_fallen]
        for row in sorted(mistaken, key=lambda row: -row.pixels)[:3]:
            advice.append(
                f"{row.name}: most of its pixels were taken for {row.mistaken_for}. Do the two look the same?"
            )
        advice.append(
            "masks: look at image, mask and prediction (`out=FOLDER`), and at what atrous check finds: labels that are "
            "shifted, of other images, or of objects too small for the output stride"
        )
        return advice

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON."""
        return {
            "learned": self.is_learned,
            "verdict": self.describe_verdict(),
            "advice": self.list_advice(),
            "limits": LIMITS,
            "images": list(self.images),
            "crop": self.crop,
            "steps": len(self.losses),
            "loss": [self.losses[0], self.losses[-1]],
            "miou": [self.before, self.after],
            "classes": [
                {"name": row.name, "pixels": row.pixels, "iou": [row.before, row.after], "learned": row.is_learned}
                for row in self.classes
            ],
            "ignored": self.ignored,
            "sheet": None if self.sheet is None else str(self.sheet),
        }


def probe_training(
    loaded: LoadedConfig,
    progress: ProgressCallback | None = None,
    on_message: MessageCallback | None = None,
    on_result: Callable[[Probe], None] | None = None,
) -> Probe:
    """Learn crops of two training images by heart, with the network, the loss and the learning rate of a training.

    The images are those that show most classes among some that are drawn by the seed. Nothing is written but an image
    of them, if the configuration names a folder.

    Args:
        loaded: The configuration; of stages the first one counts.
        progress: Receives the progress.
        on_message: Receives what was assumed of the data.
        on_result: Receives what is returned before the image is written.
    Raises:
        ConfigError: The settings are impossible.
        DataError: The data cannot be used for training, or no pixel of them has a class.
        TrainingDiverged: A loss, a gradient or an output is not finite.
        UsageError: There is a file of the image's name that is none of a probe.
    """
    from atrous.training.feasibility import require_feasible
    from atrous.training.probe import choose_probe_crop, learn_excerpts
    from atrous.training.terms import describe_terms, list_terms

    config = list_stages(loaded.config)[0]
    sheet = None if config.output.folder is None else RunFolder(Path(config.output.folder)).probe
    if sheet is not None:
        require_place(sheet)
        require_own(sheet, PROBE_MARK)
    require_feasible(config)
    splits = build_splits(config.data, progress=progress)
    for note in (*splits.notes, *describe_terms(list_terms(config))):
        send_message(on_message, note)
    crop = choose_probe_crop(config, splits.train.label_space.num_classes)
    excerpts = choose_excerpts(splits.train, crop, config.training.seed)
    learned = learn_excerpts(config, excerpts, crop, progress)
    probe = Probe(
        tuple(sample.key for sample in excerpts.samples),
        crop,
        learned.losses,
        learned.before.miou,
        learned.after.miou,
        _list_classes(learned.before, learned.after),
        excerpts.compute_statistics().ignored_share,
        sheet,
    )
    if on_result is not None:
        on_result(probe)
    if sheet is not None:
        _save_sheet(sheet, excerpts, learned.predictions)
    return probe


def _list_classes(before: Scores, after: Scores) -> tuple[LearnedClass, ...]:
    rows = []
    for number, (old, new) in enumerate(zip(before.classes, after.classes, strict=True)):
        if new.pixels:
            most = int(np.argmax(after.confusion[number]))
            mistaken_for = None if most == number else after.classes[most].name
            rows.append(LearnedClass(new.name, new.pixels, old.iou, new.iou, mistaken_for))
    return tuple(rows)


def _save_sheet(path: Path, excerpts: Excerpts, predictions: Sequence[np.ndarray]) -> None:
    """Write image, mask and prediction of each crop in a row; ignored pixels are ignored in the prediction too."""
    space = excerpts.label_space
    groups = [
        (
            stretch_bands(sample.image, excerpts.form),
            colour_labels(sample.labels, space),
            colour_labels(np.where(sample.labels == IGNORE_INDEX, IGNORE_INDEX, predicted), space),
        )
        for sample, predicted in zip(excerpts.samples, predictions, strict=True)
    ]
    save_encoded(path, encode_png(draw_sheet(groups, space, columns=1), text=PROBE_MARK))
