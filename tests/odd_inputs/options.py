"""Odd command lines: options at and beyond their limits, unknown names, places that cannot be written to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from odd_inputs.case import Case, Place

USAGE = 2
MACHINE = 5


def training(name: str, *words: str, code: int = USAGE, says: Sequence[str] = (), **rest: object) -> Case:
    """A training with odd options, refused before the first step."""

    def lay_out(place: Place) -> list[str]:
        place.copy_data()
        return [*place.train(), *words]

    return Case(f"train {name}", lay_out, code, says=says, never_makes=("new/config.yaml",), **rest)


def predicting(name: str, *words: str, code: int = USAGE, says: Sequence[str] = (), **rest: object) -> Case:
    """A prediction with odd options, which writes nothing."""

    def lay_out(place: Place) -> list[str]:
        place.image("in/a.png")
        return [*place.predict(), *words]

    return Case(f"predict {name}", lay_out, code, says=says, never_makes=("out/*.png",), **rest)


def command(name: str, *words: str, code: int = USAGE, says: Sequence[str] = (), **rest: object) -> Case:
    """A whole command line; RUN, DATA and IN stand for a run, its data and a folder with an image."""

    def lay_out(place: Place) -> list[str]:
        known = {"RUN": place.run, "DATA": place.data, "IN": "in"}
        place.image("in/a.png")
        return [str(known.get(word, word)) for word in words]

    return Case(name, lay_out, code, says=says, **rest)


TRAIN = [
    training("no epochs", "--iterations", "0", says=("iterations",), quick=True),
    training("fewer than no steps", "--iterations", "-5", says=("iterations",)),
    training("half a step", "--iterations", "0.5", says=("iterations",)),
    training("two lengths", "--epochs", "3", says=("training.epochs|training.iterations",), quick=True),
    training("a crop of nothing", "--crop", "0", says=("crop",)),
    training("a crop below the rates", "--crop", "17", says=("crop",), quick=True),
    training("a crop of 100,001 pixels", "--crop", "100001", code=MACHINE, says=("100,?001", "(?i)memory"), quick=True),
    training("a batch of none", "--batch", "0", says=("batch",)),
    training("a batch of a billion", "--batch", "1000000000", code=MACHINE, says=("(?i)memory",)),
    training("a learning rate of none", "--lr", "0", says=("lr",)),
    training("a negative learning rate", "--lr", "-1", says=("lr",), quick=True),
    training("a learning rate that is no number", "--lr", "nan", says=("lr",), quick=True),
    training("an endless learning rate", "--lr", "inf", says=("lr",)),
    training("a learning rate in words", "--lr", "high", says=("lr",)),
    training("a negative seed", "--seed", "-1", says=("seed",)),
    training("a seed of 63 bits", "--seed", "9223372036854775807", says=("seed", "4294967295"), quick=True),
    training("a seed of 67 bits", "--seed", "99999999999999999999", says=("seed",)),
    training("a split of 67 bits", "--set", "data.split.seed=99999999999999999999", says=("split.seed",)),
    training("endless epochs", "--epochs", "1e300", says=("epochs",)),
    training("endless steps", "--iterations", "1" + "0" * 30, says=("iterations",)),
    training("endless minutes", "--max-minutes", "1e300", says=("max_minutes",)),
    training("more workers than any machine", "--workers", "300", says=("workers",)),
    training("a number of 5,000 digits", "--set", f"training.seed={'9' * 5000}", says=("seed",)),
    training("endless channels", "--set", f"model.head={{channels: 1{'0' * 30}}}", says=("model.head.channels",)),
    training("fewer than no workers", "--workers", "-1", says=("workers",)),
    training("a model that does not exist", "--model", "deeplabv3-tinny", says=("tiny",), quick=True),
    training("a family that does not exist", "--model", "deeplab-tiny", says=("deeplabv3",)),
    training("no model", "--model", "", says=("model",)),
    training("weights that do not exist", "--weights", "nowhere.pth", code=4, says=("nowhere.pth",), quick=True),
    command(
        *("train from the weights of an image, in a dry run", "train", "DATA", "--weights", "in/a.png", "--dry-run"),
        code=4,
        says=("a.png",),
    ),
    training("a tracker that does not exist", "--logger", "tensorbord", says=("tensorboard",)),
    training("a precision that does not exist", "--precision", "fp8", says=("precision",)),
    training("an assignment without a value", "--set", "training.jitter", says=("training.jitter",)),
    training("an assignment without a key", "--set", "=3"),
    training("a setting that does not exist", "--set", "training.jiter=1", says=("jitter",), quick=True),
    training("a setting of the wrong kind", "--set", "training.jitter=much", says=("jitter",)),
    training("a stride of 7", "--set", "model.output_stride=7", says=("7",)),
    training("a loss that does not exist", "--set", "training.loss=dise", says=("dise",)),
    training("weights for too many classes", "--class-weights", "1,2,3,4,5,6,7,8,9,10,11,12", says=("weights",)),
    training("class weights in words", "--class-weights", "many", says=("class-weights",)),
    training("a hard class that does not exist", "--set", "training.hard_classes=[unicorn]", says=("unicorn",)),
    training("a model to store without a tracker", "--set", "output.log_model=true", says=("log_model",), quick=True),
    training("a recipe that does not exist", "--recipe", "nowhere", says=("nowhere",)),
    training("a GPU that is not there", "--device", "cuda:9", code=MACHINE, says=("cuda",)),
    training("a device that does not exist", "--device", "tpu", says=("tpu",)),
    command("train without data", "train", says=("(?i)data",), quick=True),
    command("train two data sets", "train", "DATA", "DATA"),
    command("train into a run", "train", "DATA", "--iterations", "1", "--out", "RUN", says=("already holds a run",)),
    command("train into a file", "train", "DATA", "--out", "in/a.png", says=("a.png",), quick=True),
    command("train below a file", "train", "DATA", "--out", "in/a.png/new", says=("a.png",)),
    command("train into /proc", "train", "DATA", "--out", "/proc/new", says=("/proc",)),
    command("resume what is no run", "train", "--resume", "in", says=("no run",), quick=True),
    command("resume a finished run with another rate", "train", "--resume", "RUN", "--lr", "9", says=("training.lr",)),
    command("train with an option that does not exist", "train", "DATA", "--epoch", "3", says=("--epoch",)),
]

PREDICT = [
    predicting("at no scale", "--scales", "", says=("scales",)),
    predicting("at scale 0", "--scales", "0", says=("scales",), quick=True),
    predicting("at a scale that is no number", "--scales", "nan", says=("scales",)),
    predicting("at scales in words", "--scales", "big", says=("scales",)),
    predicting("at scale 1,000", "--scales", "1000", code=MACHINE, says=("scales",)),
    predicting("at stride 7", "--output-stride", "7", says=("7",), quick=True),
    predicting("at stride 0", "--output-stride", "0", says=("stride",)),
    predicting("in windows of nothing", "--window", "0", says=("window",)),
    predicting("in negative windows", "--window", "-65", says=("window",)),
    predicting("in windows of the wrong kind", "--window", "large", says=("window",)),
    predicting("with more than all confidence", "--min-confidence", "2", says=("min-confidence",), quick=True),
    predicting("with confidence that is no number", "--min-confidence", "nan", says=("min-confidence",)),
    predicting("in a form that does not exist", "--format", "label", says=("labels",), quick=True),
    predicting("in no form", "--format", "", says=("format",)),
    predicting("on a GPU that is not there", "--device", "cuda:9", code=MACHINE, says=("cuda",)),
    predicting("on a device that does not exist", "--device", "tpu", says=("tpu",)),
    predicting("in a precision that does not exist", "--precision", "fp8", says=("precision",)),
    predicting("with a backend that does not exist", "--backend", "tensorrt", says=("tensorrt",)),
    predicting("with DenseCRF of odd options", "--crf-steps", "3", says=("--crf-steps",)),
    command("predict without input", "predict", "--model", "RUN", says=("INPUT",), quick=True),
    command("predict without a model", "predict", "IN", says=("--model",)),
    command("predict a file that is not there", "predict", "no.png", "--model", "RUN", says=("no.png",), quick=True),
    command("predict a folder that is not there", "predict", "no/", "--model", "RUN", says=("no",)),
    command("predict a pattern without files", "predict", "in/*.bmp", "--model", "RUN", says=("bmp",)),
    command("predict an address", "predict", "https://example.org/a.png", "--model", "RUN", says=("example.org",)),
    command("predict nothing", "predict", "", "--model", "RUN"),
    command("predict into the folder of the images", "predict", "IN", "--model", "RUN", "--out", "in", quick=True),
    command("predict into a file", "predict", "IN", "--model", "RUN", "--out", "in/a.png", says=("a.png",)),
    command("predict into /proc", "predict", "IN", "--model", "RUN", "--out", "/proc/new", says=("/proc",), quick=True),
    command(
        *("predict one file twice", "predict", "in/a.png", "in", "--model", "RUN", "--out", "out"),
        code=0,
        says=("1 labelled, 0 skipped",),
    ),
]

OTHERS = [
    command("eval what is no model", "eval", "nowhere", code=4, says=("nowhere",), quick=True),
    command("eval two runs", "eval", "RUN", "RUN", says=("DATA",), quick=True),
    command("eval data that are not there", "eval", "RUN", "nowhere", code=3, says=("nowhere",)),
    command("eval an empty argument", "eval", "", says=("empty",)),
    command("train on a data set in an empty folder", "train", "voc=", says=("'voc='",)),
    command("train into an empty setting", "train", "DATA", "--set", "output.folder=''", says=("not empty",)),
    command("export to a form that does not exist", "export", "RUN", "--format", "tflite", says=("onnx",), quick=True),
    command("export to a folder", "export", "RUN", "--format", "onnx", "--out", "in", says=("in",)),
    command("export to /proc", "export", "RUN", "--format", "onnx", "--out", "/proc/new.onnx", says=("/proc",)),
    command("export what is no model", "export", "in/a.png", "--format", "onnx", code=4, says=("a.png",)),
    command("export with another suffix", "export", "RUN", "--format", "onnx", "--out", "m.xml", says=("onnx",)),
    command("bench nothing", "bench"),
    command("bench images of no size", "bench", "RUN", "--sizes", "0", says=("sizes",)),
    command("bench images of an endless size", "bench", "RUN", "--sizes", "1" + "0" * 30, says=("sizes",)),
    command("bench images of a million pixels a side", "bench", "RUN", "--sizes", "1000000", says=("100,000",)),
    command("bench endless rounds", "bench", "RUN", "--rounds", "1" + "0" * 30, says=("100,000",)),
    command("a study of an endless seed", "reproduce", "table10", "--seeds", "9" * 20, says=("4294967295",)),
    command("bench sizes in words", "bench", "RUN", "--sizes", "big", says=("sizes",), quick=True),
    command("models of a name that does not exist", "models", "show", "deeplabv3-resnet5", says=("resnet50",)),
    command(
        "data sets of a name that does not exist", "datasets", "show", "camvit", code=3, says=("camvid",), quick=True
    ),
    command("settings that do not exist", "config", "show", "--set", "a.b=1", says=("a",)),
    command("a table that does not exist", "reproduce", "table99", says=("table9",)),
    command("a command that does not exist", "trian", says=("train",), quick=True),
    command("an option without a command", "--verbose", says=("--verbose",)),
    command("help", "train", "--help", code=0, says=("Example",), quick=True),
    command("the version", "--version", code=0, says=(r"\d+\.\d+",)),
]


def from_another_folder(place: Place) -> list[str | Path]:
    return ["eval", place.run]


ELSEWHERE = [Case("eval a run from another folder", from_another_folder, 0, says=("mIoU|IoU",), quick=True)]

CASES = [*TRAIN, *PREDICT, *OTHERS, *ELSEWHERE]
