"""Frozen plain data that crosses folders."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from atrous.core.arguments import require_field_types
from atrous.core.calibration import Calibration, Foreground
from atrous.core.words import describe_count

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Sample:
    """An image and its labels.

    Args:
        key: The sample's name, unique in its data set: a path without suffix, such as "a/photo".
        image: (H, W, 3) uint8 RGB, or (H, W, C) in the data set's `ImageForm`.
        labels: (H, W) uint16 class indices, IGNORE_INDEX where ignored.
    """

    key: str
    image: np.ndarray
    labels: np.ndarray


class Note(str):
    """What was assumed, found or chosen automatically: a message with a code, sent wherever messages go.

    Messages without a code report what is being done; notes are also kept in results and in `--json`.

    Args:
        code: A short name, such as "held-out", for programs.
        message: One sentence for people.
    """

    __slots__ = ("code",)
    code: str

    def __new__(cls, code: str, message: str) -> Note:
        """Build a note."""
        note = super().__new__(cls, message)
        note.code = code
        return note

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]  # str alone has one argument
        """Return the arguments of a copy."""
        return self.code, str(self)

    def to_json(self) -> dict[str, str]:
        """Return the form that metrics.json and `--json` share."""
        return {"code": self.code, "message": str(self)}


@dataclass(frozen=True)
class Protocol:
    """How an image becomes labels: all that can change a score besides the model and the data.

    Args:
        output_stride: Input resolution / feature resolution.
        scales: Sizes of the image, relative, whose probabilities are averaged.
        flip: Whether the mirrored image is averaged in too.
        window: Side in pixels of a sliding window, or None for whole images.
        precision: "fp32" or "bf16".
        crf: Options of DenseCRF by name; None: the labels are not refined.
        budget_mib: Memory in MiB that a forward pass may take; an image that needs more is labelled in windows. None if
            not known.
        backend: What computed the network, such as "torch".
    """

    output_stride: int = 16
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    window: int | None = None
    precision: str = "fp32"
    crf: Mapping[str, Any] | None = None
    budget_mib: int | None = None
    backend: str = "torch"

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON."""
        return asdict(self) | {"scales": list(self.scales), "size": "the image's own", "metric": "mIoU (dataset)"}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Protocol:
        """Build a protocol from `to_json`'s form.

        Raises:
            ValueError: A value has another type.
        """
        known = {name: value[name] for name in cls.__dataclass_fields__ if name in value}
        known["scales"] = tuple(value.get("scales", cls.scales))
        require_field_types(cls, known)
        return cls(**known)

    def describe(self) -> str:
        """Say the protocol in a few words, for tables: "output stride 8, scales 0.75 1 1.25, flip"."""
        words = [f"output stride {self.output_stride}"]
        words.append("one scale" if self.scales == (1.0,) else "scales " + " ".join(f"{s:g}" for s in self.scales))
        words.append("flip" if self.flip else "no flip")
        words.append(f"window {self.window}" if self.window else "whole image")
        words.append(self.precision if self.backend == "torch" else f"{self.precision} by {self.backend}")
        if self.crf is not None:
            words.append("DenseCRF with " + " ".join(f"{name}={value}" for name, value in self.crf.items()))
        return ", ".join(words)


@dataclass(frozen=True)
class ClassScore:
    """One class's row. Ratios are in [0, 1], or are None where nothing was there to divide by."""

    name: str
    id: int
    iou: float | None
    recall: float | None
    precision: float | None
    pixels: int
    predicted_pixels: int
    iou_interval: tuple[float, float] | None = None
    dice: float | None = None


@dataclass(frozen=True)
class ImageScore:
    """One image's own mean IoU over the classes that it holds or was given; None where all is ignored."""

    key: str
    miou: float | None
    height: int
    width: int


FEWEST_GROUPS = 10
"""Groups, below which there is no interval: too few to say."""


@dataclass(frozen=True)
class Intervals:
    """What the 95 % intervals of scores are over, and those of the scores of all classes together.

    Args:
        unit: What was drawn with replacement: "image", or "group" where clips or scenes are known.
        count: How many of them.
        miou: Lower and upper end of the interval of the mIoU; None if there are too few to say.
        pixel_accuracy: Likewise.
    """

    unit: str
    count: int
    miou: tuple[float, float] | None
    pixel_accuracy: tuple[float, float] | None

    def describe(self) -> str:
        """Say what the intervals are over, or why there are none."""
        if self.unit == "group":
            over = describe_count(self.count, "group") + " of images (data.split.group)"
        else:
            over = describe_count(self.count, "image")
        if self.miou is None and self.pixel_accuracy is None:
            if self.count < FEWEST_GROUPS:
                return f"no intervals: {over} {'is' if self.count == 1 else 'are'} too few to say"
            return (
                f"no intervals over {over}: each has the same score, or fewer than {FEWEST_GROUPS} have labelled pixels"
            )
        apart = "" if self.unit == "group" else ", each on its own; clips and scenes: data.split.group"
        return f"95 % intervals over {over}{apart}"

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | None) -> Intervals | None:
        """Build intervals from the form that `Scores.to_json` gives them; None for records without them."""
        if value is None:
            return None
        ends = {name: _read_interval(value[name]) for name in ("miou", "pixel_accuracy")}
        return cls(value["unit"], value["count"], **ends)


def _read_interval(value: Iterable[float] | None) -> tuple[float, float] | None:
    if value is None:
        return None
    low, high = value
    return low, high


def format_interval(interval: tuple[float, float] | None) -> str:
    """Write an interval for tables, such as "0.713-0.742"; empty without one."""
    return "" if interval is None else f"{interval[0]:.3f}-{interval[1]:.3f}"


@dataclass(frozen=True)
class BandScore:
    """IoU near boundaries, mean over classes; see `count_boundaries` in metrics/boundary.py.

    Args:
        width: Width of the band, such as "5 px".
        boundary_iou: Boundary IoU, of the contours of the masks of each class.
        boundary_interval: Its 95 % interval.
        trimap_iou: IoU of the pixels within the width of a boundary of the truth.
        trimap_interval: Its 95 % interval.
    """

    width: str
    boundary_iou: float | None
    boundary_interval: tuple[float, float] | None
    trimap_iou: float | None
    trimap_interval: tuple[float, float] | None


@dataclass(frozen=True)
class PartScore:
    """How much of the connected parts of the truth of some size was found.

    Args:
        size: Their size, such as "below 16 x 16 px".
        parts: Number of parts.
        pixels: Pixels of all.
        recall: Share of these pixels that were labelled correctly; None without any.
        recall_interval: Its 95 % interval.
    """

    size: str
    parts: int
    pixels: int
    recall: float | None
    recall_interval: tuple[float, float] | None


def _read_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of a table from JSON, where intervals are lists."""
    return {name: _read_interval(value) if name.endswith("interval") else value for name, value in row.items()}


@dataclass(frozen=True, repr=False)
class Scores:
    """All that one pass over a data set tells, from one confusion matrix.

    Args:
        miou: Mean of the IoU over classes that occur in truth or prediction; None if there are none.
        pixel_accuracy: Share of valid pixels with the right class.
        classes: A row a class.
        confusion: (K, K) pixel counts, rows truth, columns prediction.
        images: A row an image.
        protocol: How the labels were made.
        baseline_class: The most frequent class of the truth.
        baseline_miou: The mIoU of answering with that class everywhere.
        never_predicted: Names of classes that have pixels and were not given to a single one.
        data: Name of the data and split, such as "camvid val".
        notes: What else a reader must know.
        miou_before_crf: The mIoU of the same pass without DenseCRF, where the protocol has one.
        intervals: How far the scores may be from those of other images of the same kind; None in older records.
        bands: Scores near boundaries, a row a width; none in older records.
        parts: Recall by the size of connected parts of the truth, a row a size; none in older records.
        calibration: How well confidences tell how many labels are correct; None in older records.
        foreground: Precision against recall of the second of two classes; None for other data.
        test: Beside the scores of a run on its validation images: those of the test split of its data, if there is one.
    """

    miou: float | None
    pixel_accuracy: float | None
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    images: tuple[ImageScore, ...]
    protocol: Protocol
    baseline_class: str
    baseline_miou: float | None
    never_predicted: tuple[str, ...]
    data: str = ""
    notes: tuple[Note, ...] = field(default=())
    miou_before_crf: float | None = None
    intervals: Intervals | None = None
    bands: tuple[BandScore, ...] = ()
    parts: tuple[PartScore, ...] = ()
    calibration: Calibration | None = None
    foreground: Foreground | None = None
    test: Scores | None = None

    def __repr__(self) -> str:
        miou = "none" if self.miou is None else f"{self.miou:.4f}"
        baseline = "none" if self.baseline_miou is None else f"{self.baseline_miou:.4f}"
        return (
            f"Scores(mIoU {miou}, baseline {baseline}, {describe_count(len(self.classes), 'class')}, "
            f"{describe_count(len(self.images), 'image')}, "
            f"data {self.data!r}, {self.protocol.describe()})"
        )

    def _repr_html_(self) -> str:
        """Return a table with a row a class, which a notebook shows."""
        rows = "".join(
            f"<tr><th>{html.escape(row.name)}</th>"
            + "".join(f"<td>{_describe_ratio(ratio)}</td>" for ratio in (row.iou, row.dice, row.recall, row.precision))
            + f"<td>{format_interval(row.iou_interval) or '-'}</td><td>{row.pixels:,}</td></tr>"
            for row in self.classes
        )
        never = f"; never predicted: {', '.join(self.never_predicted)}" if self.never_predicted else ""
        interval = "" if self.intervals is None else format_interval(self.intervals.miou)
        between = f" ({interval})" if interval else ""
        lines = [
            f"mIoU {_describe_ratio(self.miou)}{between}, pixel accuracy {_describe_ratio(self.pixel_accuracy)}; "
            f"{_describe_ratio(self.baseline_miou)} when always predicting {self.baseline_class!r}{never}",
            f"{self.data}, {describe_count(len(self.images), 'image')}; {self.protocol.describe()}",
            *(() if self.intervals is None else (self.intervals.describe(),)),
            *self.notes,
        ]
        text = "".join(f"<div>{html.escape(line)}</div>" for line in lines)
        head = "".join(
            f"<th>{name}</th>" for name in ("class", "IoU", "Dice", "recall", "precision", "IoU, 95 %", "pixels")
        )
        of_test = "" if self.test is None else self.test._repr_html_()
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{text}{of_test}"

    def to_json(self) -> dict[str, Any]:
        """Return the one form that metrics.json and `atrous eval --json` share."""
        scored = sum(row.iou is not None for row in self.classes)
        return {
            "miou": self.miou,
            "miou_over": f"{scored} of {describe_count(len(self.classes), 'class')}",
            "pixel_accuracy": self.pixel_accuracy,
            "baseline": {"class": self.baseline_class, "miou": self.baseline_miou},
            "never_predicted": list(self.never_predicted),
            "classes": [asdict(row) for row in self.classes],
            "protocol": self.protocol.to_json(),
            "data": self.data,
            "notes": list_notes(self.notes),
            "miou_before_crf": self.miou_before_crf,
            "intervals": None if self.intervals is None else asdict(self.intervals),
            "bands": [asdict(row) for row in self.bands],
            "parts": [asdict(row) for row in self.parts],
            "calibration": None if self.calibration is None else asdict(self.calibration),
            "foreground": None if self.foreground is None else asdict(self.foreground),
            "confusion": [list(row) for row in self.confusion],
            "images": [asdict(row) for row in self.images],
            "test": None if self.test is None else self.test.to_json(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Scores:
        """Build scores from `to_json`'s form; other keys are ignored."""
        return cls(
            miou=value["miou"],
            pixel_accuracy=value["pixel_accuracy"],
            classes=tuple(ClassScore(**_read_row(row)) for row in value["classes"]),
            confusion=tuple(tuple(row) for row in value["confusion"]),
            images=tuple(ImageScore(**row) for row in value["images"]),
            protocol=Protocol.from_json(value["protocol"]),
            baseline_class=value["baseline"]["class"],
            baseline_miou=value["baseline"]["miou"],
            never_predicted=tuple(value["never_predicted"]),
            data=value["data"],
            notes=tuple(Note(**note) for note in value["notes"]),
            miou_before_crf=value.get("miou_before_crf"),
            intervals=Intervals.from_json(value.get("intervals")),
            bands=tuple(BandScore(**_read_row(row)) for row in value.get("bands", ())),
            parts=tuple(PartScore(**_read_row(row)) for row in value.get("parts", ())),
            calibration=Calibration.from_json(value.get("calibration")),
            foreground=Foreground.from_json(value.get("foreground")),
            test=None if value.get("test") is None else cls.from_json(value["test"]),
        )


def _describe_ratio(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.4f}"


@dataclass(frozen=True)
class Progress:
    """Progress of long work.

    Args:
        stage: What is being done, such as "training".
        done: Units finished.
        total: Units in all, or None where unknown.
        note: Figures worth showing now, such as "loss 0.41".
    """

    stage: str
    done: int
    total: int | None
    note: str = ""


ProgressCallback = Callable[[Progress], None]
"""Receives the progress of long work."""
MessageCallback = Callable[[str], None]
"""Receives messages about automatic choices and findings, one sentence each; those with a code are a `Note`."""


def send_message(on_message: MessageCallback | None, text: str) -> None:
    """Pass a message to a callback, if there is one and the message is not empty.

    Args:
        on_message: Receives the message.
        text: The message, one sentence.
    """
    if on_message is not None and text:
        on_message(text)


class NoteCollector:
    """A callback that passes messages on and keeps the notes among them, each once.

    Args:
        on_message: Receives all messages.
    """

    def __init__(self, on_message: MessageCallback | None = None) -> None:
        self.notes: list[Note] = []
        self._on_message = on_message

    def __call__(self, message: str) -> None:
        """Receive a message."""
        if isinstance(message, Note) and message not in self.notes:
            self.notes.append(message)
        send_message(self._on_message, message)


def list_notes(messages: Iterable[str]) -> list[dict[str, str]]:
    """Return the notes among some messages in the form of `Note.to_json`, each once."""
    return [message.to_json() for message in dict.fromkeys(messages) if isinstance(message, Note)]
