"""A network with its classes, or an exported file, opened and ready to label images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from atrous.config.check import require_valid
from atrous.config.problems import describe_validation_error, raise_problems
from atrous.config.schema import Config
from atrous.core.errors import ConfigError, UsageError
from atrous.core.labels import LabelSpace
from atrous.core.records import MessageCallback
from atrous.inference.build import build_predictor
from atrous.inference.engine import Engine
from atrous.inference.exported import ExportedFile, is_exported, read_file
from atrous.inference.folders.prediction import Prediction
from atrous.inference.labelling.labeller import Predictor
from atrous.inference.precision import choose_precision
from atrous.networks.model_file import ModelCard, load_model
from atrous.networks.segmenter import Segmenter


class Model:
    """A network with its classes, ready to label images.

    Args:
        source: The network, in evaluation mode, or an exported file.
        card: What its file says of it.
        device: auto, cpu, cuda, cuda:1, mps.
        precision: auto, fp32 or bf16; auto is bf16 where the machine gains by it and the model was seen to bear it.
        backend: torch, compile, openvino or onnxruntime; auto is torch, or an exported file's own.
    """

    def __init__(
        self,
        source: Segmenter | ExportedFile,
        card: ModelCard,
        *,
        device: str = "auto",
        precision: str = "auto",
        backend: str = "auto",
    ) -> None:
        self._source = source
        self.card = card
        self._device = device
        self._precision = precision
        self._backend = backend
        self._engines: dict[str, Engine] = {}

    @property
    def is_exported(self) -> bool:
        """Whether this is an exported file, which cannot be changed, and not a living network."""
        return isinstance(self._source, ExportedFile)

    @property
    def gives_labels_alone(self) -> bool:
        """Whether this is an exported file without logits, whose windows could not be blended."""
        return isinstance(self._source, ExportedFile) and self._source.output == "labels"

    @property
    def network(self) -> Segmenter:
        """The living network.

        Raises:
            UsageError: This is an exported file.
        """
        if isinstance(self._source, ExportedFile):
            raise UsageError(f"{self._source.path} is an exported file, not a network", "Open what it was made from.")
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
        """Input resolution / feature resolution: 4, 8, 16 or 32; set it at any time, but for an exported file.

        Raises:
            ConfigError: On setting, if the network cannot have it; always for an exported file.
        """
        return self._source.output_stride

    @output_stride.setter
    def output_stride(self, output_stride: int) -> None:
        if isinstance(self._source, ExportedFile):
            raise ConfigError(
                f"{self._source.path}: the output stride of an exported file is fixed",
                f"Export the model again: --output-stride {output_stride}.",
            )
        self._source.output_stride = output_stride

    def predict(
        self,
        source: Any,
        *,
        output_stride: int | None = None,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        window: int | None = None,
        crf: bool | Mapping[str, Any] = False,
        probabilities: bool = False,
        min_confidence: float = 0.0,
    ) -> Prediction | list[Prediction] | Iterator[Prediction]:
        """Label images.

        Args:
            source: A path, a PIL image, a uint8 array (H, W, 3), a tensor (3, H, W) of uint8 or of floats in [0, 1]:
                gives one prediction. A list of them: a list. A folder or a glob: an iterator.
            output_stride: For these images alone; the network's where left out.
            scales: Scales whose probabilities are averaged.
            flip: Whether the mirrored image is averaged in.
            window: Side of a sliding window in pixels.
            crf: Whether DenseCRF follows the network, or its options.
            probabilities: Whether to keep the probabilities of every class.
            min_confidence: Pixels below it get the data's ignored id.
        Raises:
            UsageError: The source is something else, or there is no such file.
            DataError: A file cannot be read as an image.
        """
        predictor = self.build_predictor(output_stride=output_stride, scales=scales, flip=flip, window=window, crf=crf)
        return predictor.predict(source, probabilities=probabilities, min_confidence=min_confidence)

    def build_predictor(self, *, on_message: MessageCallback | None = None, **options: Any) -> Predictor:
        """Build what labels images under given evaluation options; see `EvaluationConfig`.

        Precision and backend are those of the model where they are left out or auto.

        Raises:
            ConfigError: An option that is unknown or out of its range.
        """
        try:
            own = {"precision": self._precision, "backend": self._backend}
            given = own | {name: value for name, value in options.items() if name not in own or value != "auto"}
            config = Config.model_validate({"evaluation": given})
        except ValidationError as error:
            raise_problems(describe_validation_error(error, {}))
        require_valid(config)
        evaluation = config.evaluation
        engine = self.find_engine(evaluation.backend)
        if evaluation.precision == "auto" and not self.is_exported:
            precision = choose_precision(self.card, engine.device.type)
            if precision not in engine.precisions:
                precision = "fp32"
            evaluation = evaluation.model_copy(update={"precision": precision})
            if precision == "bf16" and on_message is not None:
                on_message(
                    f"precision bf16: it scored {self.card.score_bf16:.4f} in validation, {self.card.score:.4f} in fp32"
                )
        return build_predictor(engine, self.label_space, evaluation, on_message=on_message)

    def find_engine(self, backend: str = "auto") -> Engine:
        """Return the engine of a backend, made at its first use and kept as long as the model.

        Args:
            backend: A backend; auto is the model's own.
        Raises:
            ConfigError: The backend does not exist, or cannot run the model.
            MachineError: The device does not exist here, or a package that the backend needs is not installed.
        """
        name = self._backend if backend == "auto" else backend
        if name not in self._engines:
            self._engines[name] = Engine(self._source, device=self._device, backend=name)
        return self._engines[name]


def load(
    path: str | Path, *, device: str = "auto", precision: str = "auto", backend: str = "auto", trust: bool = False
) -> Model:
    """Open a model.

    Args:
        path: A run folder, a .safetensors file of atrous, torchvision's DeepLabv3 state dict (.pth), the name of a
            published model, such as torchvision/deeplabv3_resnet50, which is downloaded once, or a file that
            `atrous export` wrote (.onnx, .xml, .pt2).
        device: auto, cpu, cuda, cuda:1, mps.
        precision: auto, fp32 or bf16; auto is bf16 where the machine gains by it and the model was seen to bear it.
        backend: What runs it: torch, compile, openvino or onnxruntime; auto is torch, or an exported file's own.
        trust: Whether to open a .pt2, which can run any code that it holds.
    Raises:
        ModelFileError: No such file, damaged, or of another kind.
        MachineError: The device or the backend is not there, or a published model cannot be fetched.
    """
    source, card = _open(Path(path), backend, trust=trust)
    model = Model(source, card, device=device, precision=precision, backend=backend)
    engine = model.find_engine()  # raises if the device or the backend is not there
    if isinstance(source, ExportedFile):
        model.build_predictor()  # raises if the file cannot be opened
    else:
        source.to(engine.device)
    return model


def _open(path: Path, backend: str, *, trust: bool) -> tuple[Segmenter | ExportedFile, ModelCard]:
    if is_exported(path):
        file = read_file(path, backend=backend, trust=trust)
        return file, file.card
    network, card = load_model(path)
    return network.eval(), card
