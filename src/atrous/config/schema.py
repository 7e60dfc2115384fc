"""The tree of settings: one frozen section a subject, a line of explanation under each field."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from atrous.core.errors import ConfigError
from atrous.core.inference_options import InferenceOptions, Precision
from atrous.core.inputs import MOST_BANDS
from atrous.core.labels import USUAL_VOID_ID
from atrous.core.seeds import MAX_SEED
from atrous.core.split_options import SplitOptions

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
ClassId = Annotated[int, Field(ge=0, le=65534)]
LARGEST_FACTOR = 1e9
"""Largest learning rate, decay or weight: products of them are still finite in float32."""
LARGEST_SIDE_PX = 1_000_000
MOST_PAGES = 1_000
Positive = Annotated[float, Field(gt=0.0, le=LARGEST_FACTOR)]
NotNegative = Annotated[float, Field(ge=0.0, le=LARGEST_FACTOR)]
FileValue = Annotated[int, Field(ge=-(2**31), lt=2**32)]
Byte = Annotated[int, Field(ge=0, le=255)]
Colour = Annotated[
    str, BeforeValidator(lambda value: format_colour(value)), Field(pattern=r"^\[\d{1,3}, \d{1,3}, \d{1,3}\]$")
]
ExcludePattern = Annotated[str, Field(pattern=r"[^\s./\\]")]
Place = Annotated[str, Field(pattern=r"\S")]
Scale = Annotated[float, Field(ge=1e-3, le=1e3)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
ImageValue = Annotated[float, Field(ge=-1e12, le=1e12)]
StepNumber = Annotated[int, Field(ge=0, le=10**9)]
Band = Annotated[int, Field(ge=1, le=MOST_BANDS)]
Rate = Annotated[int, Field(ge=1, le=LARGEST_SIDE_PX)]

VERSION: Literal[3] = 3
"""Version of the form of recipes and of the config.yaml of runs."""


def format_colour(value: object) -> str:
    """Return a colour, a list or its text, as the key of JSON that it is: "[255, 0, 0]".

    Raises:
        ValueError: It is something else.
    """
    text = str(value).strip("()[] ")
    numbers = [part.strip() for part in text.split(",")]
    is_colour = len(numbers) == 3 and all(part.isdecimal() and int(part) < 256 for part in numbers)
    if not is_colour:
        raise ValueError("colours of three numbers from 0 to 255, such as [255, 0, 0], with their ids")
    return f"[{', '.join(str(int(part)) for part in numbers)}]"


def parse_colour(text: str) -> tuple[int, int, int]:
    """Return the numbers of a colour that `format_colour` wrote."""
    red, green, blue = (int(part) for part in text.strip("[]").split(","))
    return red, green, blue


class Section(BaseModel):
    """Base of all sections: frozen, unknown keys refused, strict about types."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, strict=False, allow_inf_nan=False
    )

    def __init__(self, /, **values: Any) -> None:
        """Check the values.

        Raises:
            ConfigError: A field that is unknown, or a value of a wrong type or out of its range.
        """
        try:
            super().__init__(**values)
        except ValidationError as error:
            wrong = error
        else:
            return
        from atrous.config.problems import describe_validation_error, find_section, raise_problems

        raise_problems(describe_validation_error(wrong, {}, within=find_section(type(self))))

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]  # or pydantic would call it for nested sections


class DrawnClass(Section):
    """A class with the colour that it is drawn in."""

    name: str
    """Its name."""
    colour: tuple[Byte, Byte, Byte]
    """Red, green and blue, 0 to 255, in palettes, overlays and reports; masks are not read by it."""


class DataConfig(Section):
    """Which images and masks, and what their ids mean."""

    source: str = ""
    """A registered name (`shapes`), a name with its folder (`camvid=PATH`), a folder, or an atrous.yaml."""
    root: Place | None = None
    """Folder that holds the registered data sets. Default: the environment variable ATROUS_DATA."""
    images: Place | None = None
    """The images of a folder: a folder in it, a glob such as `photos/*.jpg`, or a template. Default: found by name."""
    masks: Place | None = None
    """Their masks: a folder, a glob, or a template such as `labels/{stem}_mask.png`. Default: found by name."""
    pairs: Place | None = None
    """Instead of both: a CSV file with the columns image, mask and, if there are splits, split."""
    classes: Annotated[dict[ClassId, str | DrawnClass] | tuple[str, ...], Field(min_length=1)] | None = None
    """Names by id, or {name, colour}, or names in the order of ids. Default: the ids found. VOC: the subset to keep."""
    ignore: tuple[FileValue, ...] | None = None
    """Values in the masks that are neither trained on nor scored. Default: 255, unless it is a class or mapped."""
    label_map: dict[FileValue, ClassId] = {}
    """The id of each value in the masks that is no id itself, such as {255: 1} of masks with 0 and 255."""
    split: SplitOptions = SplitOptions()
    """Which images are trained on and which scored: {val: 0.2, group: "^(.+?)_"}, or {train: train_aug, val: val}."""
    colours: Annotated[dict[Colour, ClassId], Field(min_length=1)] | Place | None = None
    """Masks in colour: the id of each colour, such as {[255, 0, 0]: 1}, or a file: labelmap.txt, or CSV."""
    channels: Annotated[tuple[Band, ...], Field(min_length=1)] | Literal["rgb", "grey"] | None = None
    """Bands of the images, from 1, such as [3, 2, 1, 4]; or rgb or grey. Default: what the files hold."""
    value_range: tuple[ImageValue, ImageValue] | None = None
    """Stored values that become 0 and 1, such as [0, 4095]. Default: those of the type; photos become 8 bits."""
    page: Annotated[int, Field(ge=1, le=MOST_PAGES)] | None = None
    """Page of image files that hold several, from 1. Default: such files are refused."""
    unlabelled: Literal["error", "background", "ignore"] = "error"
    """What an image of a folder without a mask is: an error, background as a whole, or skipped (ignore)."""
    exclude: tuple[ExcludePattern, ...] = ()
    """Files to skip on purpose: a path, a folder or a glob, such as [broken_017.jpg, "old/*"]."""
    options: dict[str, Any] = {}
    """Options of the data set itself, such as `num_train` of shapes."""

    @property
    def class_names(self) -> dict[int, str] | tuple[str, ...] | None:
        """The names of `classes`, by id or in the order of ids."""
        if not isinstance(self.classes, dict):
            return self.classes
        return {number: each if isinstance(each, str) else each.name for number, each in self.classes.items()}

    @property
    def class_colours(self) -> dict[int, tuple[int, int, int]]:
        """The colours of `classes` by id; none of a class that has a name alone."""
        classes = self.classes.items() if isinstance(self.classes, dict) else ()
        return {number: each.colour for number, each in classes if isinstance(each, DrawnClass)}

    @property
    def ignored_values(self) -> tuple[int, ...]:
        """The values of `ignore`, or its default."""
        if self.ignore is not None:
            return self.ignore
        names = self.classes if isinstance(self.classes, dict) else range(len(self.classes or ()))
        return () if USUAL_VOID_ID in names or USUAL_VOID_ID in self.label_map else (USUAL_VOID_ID,)


class ModelConfig(Section):
    """Which network."""

    name: Place = "deeplabv3-lite0"
    """`<family>-<backbone>`, see `atrous models`."""
    weights: Place = "imagenet"
    """Where the weights start: `imagenet`, `none`, a run folder, a file, `animals`, or torchvision/<name>."""
    output_stride: Rate = 16
    """Input resolution / feature resolution at build time, such as 8 or 16; a loaded model can be switched."""
    convention: Literal["atrous", "torchvision", "tensorflow"] = "atrous"
    """Preset of the three fields below."""
    first_unit_rate: Literal["exact", "uniform"] | None = None
    """Rate of a block's first unit: what keeps the function (exact), or that of the whole block (uniform)."""
    resize: Literal["aligned", "half_pixel"] | None = None
    """Whether sample centres coincide at every stride (aligned) or pixels are areas (half_pixel)."""
    image_pooling: Literal["image", "map", "crop_window"] | None = None
    """Cells that image-level features average: those in the image, padding too, or windows of the crop's size."""
    pooling_window: Annotated[int, Field(ge=1, le=LARGEST_SIDE_PX)] | None = None
    """Side of those windows in pixels, with image_pooling: crop_window; a training takes its crop."""
    multi_grid: tuple[Rate, ...] | None = None
    """Rates of the units in a ResNet's block4 and extra blocks, such as [1, 2, 4]: one for each unit of block4."""
    extra_blocks: Annotated[int, Field(ge=0, le=3)] | None = None
    """Copies of the last block that follow it in a cascade, 0 to 3. Default: 3."""
    auxiliary: bool = False
    """Whether an FCN head on the level before the last is trained beside the main one."""
    head: dict[str, Any] = {}
    """Options of the head, such as `rates: [6, 12, 18]` or `separable: true`; see `atrous models show NAME`."""


class TrainingConfig(Section):
    """How the network is trained. Exactly one of epochs, iterations and max_minutes plans the length."""

    epochs: Annotated[float, Field(gt=0.0, le=1e6)] | None = None
    """Passes over the training images."""
    iterations: Annotated[int, Field(ge=1, le=10**9)] | None = None
    """Optimiser steps."""
    max_minutes: Annotated[float, Field(gt=0.0, le=1e7)] | None = None
    """Wall-clock minutes from start to report; a few steps are timed, then the number of steps is fixed."""
    extended: tuple[tuple[StepNumber, StepNumber], ...] = ()
    """Written by `--extend`: for each time, the steps done by then and those planned until then: [[40, 40]]."""
    batch: Annotated[int, Field(ge=1, le=10**9)] | Literal["auto"] = 8
    """Images in a forward pass, per process; auto: as many as the memory holds with ease, at most 16."""
    accumulate: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Forward passes in an optimiser step."""
    crop: Annotated[int, Field(ge=1, le=LARGEST_SIDE_PX)] = 353
    """Side of the square training crop, in pixels; 32k + 1 wastes nothing under aligned resizing."""
    scale_range: tuple[Scale, Scale] = (0.5, 2.0)
    """Range of the random scale."""
    flip: bool = True
    """Whether images are mirrored left-right at random."""
    flip_vertical: bool = False
    """Whether images are mirrored upside down at random: for images without an up, such as aerial ones."""
    quarter_turns: bool = False
    """Whether images are turned by 0, 90, 180 or 270 degrees at random; likewise."""
    rotation: Annotated[float, Field(ge=0.0, le=180.0)] = 0.0
    """Largest angle of a random rotation to either side, in degrees."""
    jitter: Fraction = 0.0
    """Strength of random brightness, contrast, saturation and hue; 0 in the paper's recipe."""
    optimizer: str = "adamw"
    """What updates the weights: adamw or sgd."""
    optimizer_options: dict[str, Any] = {}
    """Options of the optimizer, such as `betas: [0.9, 0.99]` of adamw."""
    lr: Positive | Literal["auto"] = "auto"
    """Learning rate of the backbone at the start; auto: by optimizer, batch, and whether it starts from weights."""
    head_lr_factor: Positive | Literal["auto"] = "auto"
    """Learning rate of the head / that of the backbone; auto: likewise."""
    power: Positive = 0.9
    """Exponent of the poly schedule: lr * (1 - step / total) ** power."""
    warmup_fraction: Fraction = 0.05
    """Share of the steps over which the learning rate rises from zero."""
    momentum: Fraction = 0.9
    """Momentum of sgd, and of other optimizers that have one."""
    weight_decay: NotNegative | Literal["auto"] = "auto"
    """Weight decay; norms and biases have none; auto: by optimizer."""
    clip_norm: NotNegative = 2.0
    """Largest gradient norm of a step, which lets the learning rate be high; 0 for no clipping."""
    loss: str = "cross_entropy"
    """What is minimised: cross_entropy, or ohem (the hard pixels alone)."""
    loss_options: dict[str, Any] = {}
    """Options of the loss, such as `threshold: 0.7` of ohem."""
    loss_resolution: Literal["full", "cells"] = "full"
    """Where logits meet labels: upsampled at every pixel (full), or with labels shrunk to the network's cells."""
    class_weights: Literal["none", "auto"] | tuple[Positive, ...] = "none"
    """Weight of each class in the loss; auto: 1 / sqrt(share of pixels), capped, mean 1."""
    hard_classes: Literal["none", "auto"] | tuple[str, ...] = "none"
    """Classes whose images are repeated in every epoch; auto, in a later stage: the quarter of the classes that the
    stage before scored lowest."""
    hard_repeats: Annotated[int, Field(ge=2, le=1000)] = 2
    """How often such an image appears in an epoch."""
    rare_crops: Fraction = 0.0
    """Share of the crops that are centred on a pixel of a class, drawn the more often the rarer it is."""
    auxiliary_weight: NotNegative = 0.4
    """Weight of the auxiliary head's loss."""
    norm: Literal["trained", "frozen"] = "trained"
    """Whether batch norm learns, or stays at its statistics and weights."""
    norm_momentum: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1
    """Share of a batch in the running statistics (the paper's decay 0.9997 is 0.0003)."""
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.99
    """Decay of the averaged weights that are validated and kept; warmed up; 0 switches them off."""
    validations: Annotated[int, Field(ge=1, le=100_000)] = 8
    """Number of validations in the training; the last one is at its end."""
    patience: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Validations without a better mIoU after which the training stops. Default: it makes all its steps."""
    seed: Seed = 0
    """Seed of order, augmentation and initial weights."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the training step; auto: bf16 where the machine computes in it."""
    compile: bool = False
    """Whether the network of the step is compiled at the start, which takes minutes; needs a C++ compiler."""
    lean: Literal["auto", "off"] = "auto"
    """Whether training on a CPU uses the project's faster and smaller backward passes; off: plain modules."""
    deterministic: bool = False
    """Whether only deterministic operations are used; slower, and warned about where there is none."""

    @property
    def batch_size(self) -> int:
        """Images in a forward pass.

        Raises:
            ConfigError: `batch` is auto, and no training has chosen it yet.
        """
        if self.batch == "auto":
            raise ConfigError("training.batch is auto, and a number is needed here", "Give one: `batch=8`.")
        return self.batch


@dataclass(frozen=True)
class EvaluationConfig(InferenceOptions):
    """How validations label images, and by default `atrous eval` of the run."""

    precision: Precision = field(
        default="auto", metadata={"description": "Arithmetic of validations: auto, fp32 or bf16; auto is fp32."}
    )
    backend: str = field(
        default="auto",
        metadata={"description": "What computes validations: torch, compile, openvino or onnxruntime; auto is torch."},
    )


class OutputConfig(Section):
    """Where results are written, and the device that computes them."""

    folder: Place | None = None
    """The run folder. Default: runs/<data>-<model>-<number>."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    workers: Annotated[int, Field(ge=0, le=256)] | None = None
    """Processes that read and augment. Default: 0 on a CPU, else the usable cores, at most 8."""
    cache_mib: Annotated[int, Field(ge=0, le=2**30)] | None = None
    """Memory in MiB for decoded training images. Default: an eighth of the machine's; 0 for none."""
    logger: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()
    """Trackers in addition to metrics.csv."""
    log_model: bool = False
    """Whether mlflow and wandb get the best model as an artifact when the training ends."""


class Config(Section):
    """All settings of a run."""

    version: Literal[3] = VERSION
    """Version of this form; the config.yaml of a run names it."""
    data: DataConfig = DataConfig()
    """Images and masks."""
    model: ModelConfig = ModelConfig()
    """The network."""
    training: TrainingConfig = TrainingConfig()
    """The training."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Scoring and prediction."""
    output: OutputConfig = OutputConfig()
    """Results."""
    stages: tuple[dict[str, Any], ...] = ()
    """Trainings one after another, each from the weights of the one before: what each sets over the rest, by dotted
    key, such as `{training.norm: frozen, model.output_stride: 8}`."""
