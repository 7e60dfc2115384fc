"""A network with its classes, or an exported file, opened and ready to label images."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch

from atrous.config.options import update_options
from atrous.core.arguments import refuse_wrong_types
from atrous.core.errors import ConfigError, DataError, UsageError
from atrous.core.findings import shorten_list
from atrous.core.inference_options import InferenceOptions, Opening
from atrous.core.labels import LabelSpace
from atrous.core.records import MessageCallback, Note, Protocol, send_message
from atrous.core.run_folder import RunFolder
from atrous.core.shipped import describe_shadowed
from atrous.core.words import describe_count
from atrous.data.classes import name_classes
from atrous.inference import BACKENDS
from atrous.inference.build import build_labeller
from atrous.inference.convolutions import ConvolutionWays, list_convolutions
from atrous.inference.engine import Engine
from atrous.inference.exported import ExportedFile, is_exported, read_file
from atrous.inference.fastest import FastestBackend, name_architecture
from atrous.inference.figures import FigureTable, describe_conditions
from atrous.inference.folders.predict import predict
from atrous.inference.folders.prediction import Prediction
from atrous.inference.labelling.labeller import Labeller
from atrous.inference.precision import choose_precision, describe_slow_precision
from atrous.networks.device import count_threads
from atrous.networks.model_card import ModelCard
from atrous.networks.model_file import describe_network_card, load_model
from atrous.networks.model_source import find_model
from atrous.networks.segmenter import Segmenter


class Model:
    """A network with its classes, or an exported file, ready to label images.

    `Model(network, classes=["road", "car"])` makes one of a network of `atrous.build`, which it uses as it is at each
    call; `load` opens files.

    Args:
        source: The network or the exported file.
        card: What is known of it: classes, scores, data. Default: the network's settings and `classes`.
        opening: Device, precision and backend.
        classes: Class names in the order of the network's outputs, or by the ids that they have in files, in ascending
            order. Default: those that the network was built with.
        run: The training that it came from, if known.
    Raises:
        UsageError: The classes are not known, or not as many as the network has.
    """

    @refuse_wrong_types
    def __init__(
        self,
        source: Segmenter | ExportedFile,
        card: ModelCard | None = None,
        opening: Opening | None = None,
        *,
        classes: Sequence[str] | Mapping[int, str] | None = None,
        run: RunFolder | None = None,
    ) -> None:
        self._source = source
        self.card = card or describe_network_card(self.network, read_classes(self.network, classes))
        self.opening = opening or Opening()
        self.run = run
        self._engine: Engine | None = None
        self._sibling: Engine | None = None
        """The engine of the model that this one was reopened from: on a CPU both use one conversion."""
        self._lock = threading.Lock()

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied: what is prepared for a device belongs to one object in one process."""
        raise UsageError("a Model cannot be pickled or copied", "Load it again, in the other process if need be.")

    def __repr__(self) -> str:
        """Say in one line what it is."""
        name = self.card.model.get("name", "network")
        source = f"{self._source.path}, {name}" if isinstance(self._source, ExportedFile) else name
        score = "" if self.card.score is None else f", mIoU {self.card.score:.4f} in validation"
        data = f", trained on {self.card.data}" if self.card.data else ""
        count = describe_classes(self.classes)
        return f"Model({source}, {count}, output stride {self.output_stride}{data}{score})"

    @property
    def engine(self) -> Engine:
        """What runs the model; it keeps what it has prepared as long as the model lives.

        Raises:
            ConfigError: The backend does not exist, or cannot run the model.
            MachineError: The device does not exist here, or a package that the backend needs is not installed.
        """
        with self._lock:  # two threads share one engine, which converts the network once
            if self._engine is None and self._sibling is not None and self._sibling.device.type == "cpu":
                self._engine = self._sibling.share(self.opening.backend)
            elif self._engine is None:
                self._engine = Engine(self._source, device=self.opening.device, backend=self.opening.backend)
            return self._engine

    @property
    def is_exported(self) -> bool:
        """Whether this is an exported file, which cannot be changed, and not a network."""
        return isinstance(self._source, ExportedFile)

    @property
    def gives_labels_alone(self) -> bool:
        """Whether this is an exported file without logits, whose windows could not be blended."""
        return isinstance(self._source, ExportedFile) and self._source.output == "labels"

    @property
    def network(self) -> Segmenter:
        """The network.

        Raises:
            UsageError: This is an exported file.
        """
        if isinstance(self._source, ExportedFile):
            raise UsageError(f"{self._source.path} is an exported file, not a network", "Load the model it came from.")
        return self._source

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names by index."""
        return self.card.label_space.names

    @property
    def label_space(self) -> LabelSpace:
        """Names, ids and colours of the classes."""
        return self.card.label_space

    @property
    def output_stride(self) -> int:
        """Input resolution / feature resolution: 4, 8, 16 or 32. It can be set, except on an exported file."""
        return self._source.output_stride

    @output_stride.setter
    def output_stride(self, output_stride: int) -> None:
        """Set the output stride.

        Raises:
            ConfigError: The network cannot have the value, or the model is an exported file.
        """
        if isinstance(self._source, ExportedFile):
            raise ConfigError(
                f"{self._source.path}: the output stride of an exported file is fixed",
                f"Export the model again: `output_stride={output_stride}`.",
            )
        self._source.output_stride = output_stride

    def compute_digest(self) -> str:
        """Return what tells the model in its present state from others: a digest of its weights and settings."""
        parts: list[Any] = [self.engine.compute_digest(), self.card.model]
        if self.card.chosen.temperature != 1.0:  # as before for models without one
            parts.append(self.card.chosen.temperature)
        content = json.dumps(parts, sort_keys=True, default=str)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def validation_options(self) -> InferenceOptions:
        """How validations labelled images, as far as this model can do the same; the defaults if that is not known.

        An output stride set on the network, or fixed in an exported file, stays.
        """
        protocol = self._read_protocol()
        if protocol is None or self.gives_labels_alone:
            return InferenceOptions()
        is_as_built = isinstance(self._source, Segmenter) and self._source.output_stride == self._source.build_stride
        given = {
            "output_stride": protocol.output_stride if is_as_built else None,
            "scales": protocol.scales,
            "flip": protocol.flip,
            "window": protocol.window,
            "crf": protocol.crf,
        }
        return update_options(InferenceOptions(), given)

    def as_validated(self, on_message: MessageCallback | None = None) -> Model:
        """Return this model with the backend and the precision of its validations where its opening says auto.

        Args:
            on_message: Receives a message if the device was chosen, and that backend does not run on it.
        """
        protocol = self._read_protocol()
        if protocol is None or self.is_exported:
            return self
        model, device = self, self.opening.device
        if self.opening.backend == "auto":
            if device == "auto" or torch.device(device).type in BACKENDS.load(protocol.backend).list_devices():
                model = self.reopen(backend=protocol.backend)
            else:
                message = f"validations were computed by {protocol.backend}, which does not run on {device}: torch does"
                send_message(on_message, Note("other-backend", message))
        can_follow = self.opening.precision == "auto" and protocol.precision in model.engine.precisions
        return model.reopen(precision=protocol.precision) if can_follow else model

    def reopen(self, *, backend: str | None = None, precision: str | None = None) -> Model:
        """Return the same network or file with another backend or precision; an engine that fits is shared.

        Args:
            backend: Name of a backend, or auto. Default: the model's.
            precision: auto, fp32 or bf16. Default: the model's.
        Raises:
            ConfigError: The backend does not exist or cannot run the model, or there is no such precision.
        """
        opening = update_options(self.opening, {"backend": backend, "precision": precision})
        model = Model(self._source, self.card, opening, run=self.run)
        if opening.backend in (self.opening.backend, self.engine.backend):
            model._engine = self.engine
        model._sibling = self.engine
        return model

    def _read_protocol(self) -> Protocol | None:
        return Protocol.from_json(self.card.protocol) if self.card.protocol else None

    @refuse_wrong_types
    def predict(
        self,
        source: Any,
        *,
        output_stride: int | None = None,
        scales: Sequence[float] | None = None,
        flip: bool | None = None,
        window: int | Literal["none"] | None = None,
        crf: bool | Mapping[str, Any] | None = None,
        probabilities: bool = False,
        min_confidence: float = 0.0,
    ) -> Prediction | list[Prediction] | Iterator[Prediction]:
        """Label images.

        Args:
            source: A path, a PIL image, a uint8 array (H, W, 3), a tensor (3, H, W) of uint8 or of floats in [0, 1]:
                gives one prediction. A list of them: a list. A folder or a glob: an iterator that labels each image
                when it is asked for it; `atrous.predict` writes the files of all of them.
            output_stride: For these images alone. Default: the model's.
            scales: Scales whose probabilities are averaged. Default: (1.0,).
            flip: Whether the mirrored image is averaged in.
            window: Side of a sliding window in pixels, at least 33. Default: whole images, unless one does not fit in
                memory.
            crf: Whether DenseCRF refines the labels, or its options.
            probabilities: Whether to keep the probabilities of every class.
            min_confidence: Pixels below it, in [0, 1], get the id of void.
        Raises:
            ConfigError: An option is out of its range.
            UsageError: The source is something else, there is no such file, or `min_confidence` is not in [0, 1].
            DataError: A file cannot be read as an image.
        """
        given = {"output_stride": output_stride, "scales": scales, "flip": flip, "window": window, "crf": crf}
        labeller = self.build_labeller(update_options(InferenceOptions(), given))
        return predict(labeller, source, probabilities=probabilities, min_confidence=min_confidence)

    def build_labeller(
        self,
        options: InferenceOptions | None = None,
        *,
        keep_backend: bool = True,
        on_message: MessageCallback | None = None,
    ) -> Labeller:
        """Build what labels images, with the device, the backend and the precision that the model was opened with.

        Args:
            options: How images become labels. Default: see `InferenceOptions`.
            keep_backend: Whether every image is labelled with the model's backend. Otherwise, if it was not chosen by
                name, another one may label many images, see `FastestBackend`; the model itself never changes its own.
            on_message: Receives messages about automatic choices.
        Raises:
            ConfigError: The model cannot follow an option.
        """
        precision = self.opening.precision
        if precision == "auto" and not self.is_exported:
            precision = self._choose_precision(on_message)
        slow = describe_slow_precision(precision, self.engine.device.type)
        if slow is not None:
            send_message(on_message, slow)
        labeller = build_labeller(
            self.engine,
            self.label_space,
            options or InferenceOptions(),
            precision=precision,
            chosen=self.card.chosen,
            on_message=on_message,
        )
        if not keep_backend and not self.is_exported and self.opening.backend == "auto":
            labeller.backend = self._find_fastest(labeller.protocol, on_message)
        return labeller

    def _find_fastest(self, protocol: Protocol, on_message: MessageCallback | None) -> FastestBackend:
        return FastestBackend(
            self.engine,
            protocol.output_stride,
            protocol.precision,
            network=name_architecture(self.network, str(self.card.model.get("name", "network"))),
            table=FigureTable(describe_conditions(count_threads())),
            on_message=on_message,
        )

    def list_convolutions(
        self, size: tuple[int, int], *, output_stride: int | None = None
    ) -> tuple[ConvolutionWays, ...]:
        """Return which way each atrous convolution is computed here, and its gradients in a training, and why.

        Args:
            size: Height and width of an image in pixels.
            output_stride: Input resolution / feature resolution. Default: the model's.
        Raises:
            ConfigError: The network cannot have the output stride, or the backend not the precision.
            UsageError: The model is an exported file.
        """
        precision = self._choose_precision(None) if self.opening.precision == "auto" else self.opening.precision
        network = self.network
        self.engine.require_precision(precision)
        return list_convolutions(
            network,
            size,
            precision=precision,
            device=self.engine.device,
            output_stride=output_stride,
            is_plain=self.engine.backend != "torch",
            rewriting=self.engine.find_rewriting(precision),
        )

    def _choose_precision(self, on_message: MessageCallback | None) -> Literal["fp32", "bf16"]:
        """Return bf16 if the backend has it, the hardware accelerates it and validations lost nothing, else fp32."""
        precision = choose_precision(self.card, self.engine.device.type)
        if precision != "bf16" or "bf16" not in self.engine.precisions:
            return "fp32"
        message = f"precision bf16: it scored {self.card.score_bf16:.4f} in validation, {self.card.score:.4f} in fp32"
        send_message(on_message, Note("precision-bf16", message))
        return "bf16"


def read_classes(network: Segmenter, classes: Sequence[str] | Mapping[int, str] | None) -> LabelSpace:
    """Return the classes of a network.

    Args:
        network: The network.
        classes: Their names in the order of its outputs, or by id. Default: those that it was built with.
    Raises:
        UsageError: They are not known, are not as many as the network has, or are not distinct names and ids.
    """
    if classes is None:
        if network.label_space is None:
            raise UsageError(
                "the network's classes are not known",
                'Name them: atrous.Model(network, classes=["background", "cat"]), or in atrous.build or atrous.save.',
            )
        return network.label_space
    space = name_network_classes(classes)
    if space.num_classes != network.num_classes:
        raise UsageError(
            f"classes: {space.num_classes} names, and the network has {describe_count(network.num_classes, 'class')}",
            "Name each of them once.",
        )
    return space


def name_network_classes(classes: Sequence[str] | Mapping[int, str]) -> LabelSpace:
    """Build a label space of names in the order of a network's outputs, or by id in ascending order.

    Raises:
        UsageError: They are not distinct names and ids.
    """
    named = dict(classes) if isinstance(classes, Mapping) else dict(enumerate(classes))
    has_names = all(isinstance(name, str) and name.strip() for name in named.values())
    if not named or not has_names or not all(type(number) is int for number in named):
        raise UsageError(
            f"classes is {classes!r}", 'Allowed: names such as ["background", "cat"], or ids and names: {0: "cat"}.'
        )
    try:
        return name_classes(named, [255] if 255 not in named else [])
    except (ConfigError, DataError) as error:
        raise UsageError(f"classes: {error.message}", error.hint) from error


def describe_classes(names: Sequence[str]) -> str:
    """Return the number of classes with the names of a few."""
    return f"{describe_count(len(names), 'class')}: {shorten_list(names)}"


@refuse_wrong_types
def load(
    path: str | Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    backend: str = "auto",
    trust: bool = False,
    on_message: MessageCallback | None = None,
) -> Model:
    """Open a model.

    Args:
        path: A run folder, a .safetensors file of atrous, torchvision's DeepLabv3 state dict (.pth), the name of a
            published model, such as torchvision/deeplabv3_resnet50, which is downloaded once, a file that
            `atrous export` wrote (.onnx, .xml, .pt2), or the name of a model that is part of atrous: "animals". A
            path of that name is "./animals" or a `Path`.
        device: auto, cpu, cuda, cuda:1 or mps.
        precision: auto, fp32 or bf16; auto is bf16 where it is faster and cost no accuracy in validation, else fp32.
        backend: What computes the network: torch, compile, openvino or onnxruntime; auto is torch, or an exported
            file's own.
        trust: Whether to open a .pt2, which can run any code that it holds.
        on_message: Receives the terms of use of the data that the model was trained on, if they are known.
    Raises:
        UsageError: An argument has another type.
        ConfigError: There is no such precision or backend.
        ModelFileError: No such file, damaged, or of another kind.
        MachineError: The device or the backend is missing, or a published model cannot be fetched.
    """
    given = {"device": device, "precision": precision, "backend": backend, "trust": trust}
    return load_opened(path, update_options(Opening(), given), on_message)


def load_opened(path: str | Path, opening: Opening, on_message: MessageCallback | None = None) -> Model:
    """Open a model.

    Args:
        path: See `load`.
        opening: Device, precision and backend, and whether the file is trusted.
        on_message: Receives the terms of use of the data that the model was trained on, if they are known.
    Raises:
        ModelFileError: No such file, damaged, or of another kind.
        MachineError: The device or the backend is missing, or a published model cannot be fetched.
    """
    file = find_model(path)
    source, card = _read_source(file, opening)
    if shadowed := describe_shadowed(path):
        send_message(on_message, Note("shipped-model", shadowed))
    if card.data_terms:
        message = f"{path}: terms of use of the training data: {'; '.join(card.data_terms)}"
        send_message(on_message, Note("data-terms", message))
    folder = RunFolder(file.parent)
    model = Model(source, card, opening, run=folder if folder.is_run else None)
    if isinstance(source, ExportedFile):
        model.build_labeller()  # fails now if the file cannot be opened
    else:
        source.to(model.engine.device)
    return model


def _read_source(path: Path, opening: Opening) -> tuple[Segmenter | ExportedFile, ModelCard]:
    if is_exported(path):
        file = read_file(path, backend=opening.backend, trust=opening.trust)
        return file, file.card
    network, card = load_model(path)
    return network.eval(), card
