from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import atrous
from atrous.config.schema import ModelConfig
from atrous.core.calibration import Chosen
from atrous.core.errors import ConfigError, DataError, MachineError, OutputError, UsageError
from atrous.core.inference_options import InferenceOptions
from atrous.core.inputs import ImageForm, InputSpec
from atrous.core.labels import VOID_COLOUR, LabelSpace
from atrous.core.records import Progress, Sample
from atrous.crf.dense import refine
from atrous.data.datasets.shapes import build_shapes
from atrous.images.bands import show_bands
from atrous.inference.build import build_labeller
from atrous.inference.engine import Engine
from atrous.inference.folders.predict import predict, predict_image
from atrous.inference.folders.writer import save_predictions
from atrous.inference.labelling.labeller import Labeller
from atrous.inference.labelling.source import ArrayImage
from atrous.networks.build import build_network
from atrous.networks.device import find_device
from atrous.networks.model_card import ModelCard
from atrous.networks.model_file import load_model, save_model
from atrous.networks.segmenter import Segmenter
from atrous.scoring.count import count

SPACE = LabelSpace(("a", "b", "c", "d", "e"), ids=(0, 10, 20, 30, 40))


@pytest.fixture
def network() -> Segmenter:
    torch.manual_seed(0)
    return build_network(ModelConfig(name="fcn-resnet18", weights="none"), 5).eval()


def wrap(network: Segmenter, space: LabelSpace = SPACE, **evaluation: object) -> Labeller:
    return build_labeller(Engine(network, device="cpu"), space, InferenceOptions(**evaluation))


def draw_image(height: int = 40, width: int = 50, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_images(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_image(33 + number, 47, seed=number)).save(path)


def test_labels_confidence_and_probabilities_belong_together(network: Segmenter) -> None:
    image = draw_image()
    labeller = wrap(network)
    indices, confidence, probs = labeller.label_image(image, probabilities=True)
    with torch.no_grad():
        expected = network(torch.from_numpy(image).permute(2, 0, 1)[None]).softmax(dim=1)[0].numpy()
    given = np.take_along_axis(expected, indices[None].astype(np.int64), axis=0)[0]
    np.testing.assert_allclose(given, expected.max(axis=0), rtol=1e-4)  # equal classes may change places
    np.testing.assert_allclose(confidence, expected.max(axis=0), rtol=1e-4)
    assert probs is not None
    np.testing.assert_allclose(probs, expected, atol=1e-3)
    assert len(np.unique(indices)) > 1
    assert labeller.label_image(image)[2] is None


@pytest.mark.parametrize("temperature", [0.25, 1.7, 8.0])
@pytest.mark.parametrize("options", [{}, {"scales": (1.0, 1.5), "flip": True}, {"window": 33}, {"crf": True}])
def test_a_temperature_changes_confidences_and_never_a_label(
    network: Segmenter, options: dict[str, object], temperature: float
) -> None:
    image = draw_image()
    plain, warm = wrap(network, **options), wrap(network, **options)
    warm.chosen = Chosen(temperature, "some images")
    before = plain.label_image(image, probabilities=True)
    after = warm.label_image(image, probabilities=True)
    np.testing.assert_array_equal(after.indices, before.indices)
    [band] = list(plain.iter_labels(image))
    logs = band.band.compute_probs().clamp(min=1e-30).double().log() / temperature
    expected = logs.softmax(dim=0).numpy()
    assert before.confidence is not None
    np.testing.assert_allclose(after.confidence, expected.max(axis=0), rtol=1e-4)
    np.testing.assert_allclose(after.probabilities, expected, atol=1e-3)
    change = after.confidence - before.confidence
    assert np.all(change < 1e-6) if temperature > 1 else np.all(change > -1e-6)
    assert np.abs(change).max() > 1e-3
    streamed = [
        np.concatenate(list(each.iter_ids(ArrayImage(torch.from_numpy(image.transpose(2, 0, 1))), 33)))
        for each in (plain, warm)
    ]
    np.testing.assert_array_equal(*streamed)


def test_the_temperature_of_a_model_file_is_that_of_predictions_and_of_exported_files(
    network: Segmenter, tmp_path: Path
) -> None:
    image = draw_image()
    paths = [tmp_path / f"{name}.safetensors" for name in ("plain", "warm")]
    card = atrous.Model(network, classes=list("abcde")).card
    for path, chosen in zip(paths, (Chosen(), Chosen(2.0, "some images")), strict=True):
        save_model(path, network, dataclasses.replace(card, chosen=chosen))
    plain, warm = (atrous.load(path, device="cpu") for path in paths)
    before, after = (model.predict(image) for model in (plain, warm))
    np.testing.assert_array_equal(after.labels, before.labels)
    assert after.confidence.mean() < before.confidence.mean() - 0.01
    assert plain.compute_digest() != warm.compute_digest()  # the files of a folder differ
    streamed = warm.predict(image, min_confidence=0.3)
    np.testing.assert_array_equal(streamed.labels == 255, after.confidence < 0.3)
    pytest.importorskip("onnxruntime")
    exported, _ = atrous.export(warm, tmp_path / "warm.onnx")
    found = atrous.load(exported, device="cpu").predict(image)
    np.testing.assert_allclose(found.confidence, after.confidence, atol=1e-3)


def test_another_output_stride_takes_the_rates_with_it_and_says_so() -> None:
    network = build_network(ModelConfig(name="deeplabv3-resnet18", weights="none"), 5)
    said: list[str] = []
    labeller = build_labeller(
        Engine(network, device="cpu"), SPACE, InferenceOptions(output_stride=8), on_message=said.append
    )
    assert said == ["output stride 8: rates 12, 24, 36"]
    seen: list[tuple[int, ...]] = []
    network.head.register_forward_hook(
        lambda head, *_: seen.append(tuple(branch.spatial.conv.dilation[0] for branch in head.aspp.atrous))
    )
    labeller.label_image(draw_image())
    assert seen[-1] == (12, 24, 36)
    build_labeller(Engine(network, device="cpu"), SPACE, InferenceOptions(), on_message=said.append)
    assert len(said) == 1


def test_predictions_carry_the_ids_of_the_data(network: Segmenter) -> None:
    prediction = predict_image(wrap(network), draw_image())
    indices, _, _ = wrap(network).label_image(draw_image())
    np.testing.assert_array_equal(prediction.labels, indices * 10)
    assert prediction.labels.dtype == np.uint8
    assert prediction.classes == SPACE.names
    assert prediction.labels.shape == prediction.confidence.shape == (40, 50)


def test_pixels_below_the_least_confidence_are_void(network: Segmenter) -> None:
    labeller = wrap(network)
    sure = predict_image(labeller, draw_image())
    least = float(np.median(sure.confidence))
    unsure = predict_image(labeller, draw_image(), min_confidence=least)
    below = sure.confidence < least
    assert 0.3 < below.mean() < 0.7
    assert (unsure.labels[below] == 255).all()
    np.testing.assert_array_equal(unsure.labels[~below], sure.labels[~below])


def test_void_is_never_a_class_or_an_ignored_id_and_another_one_than_255_is_said_once(network: Segmenter) -> None:
    classes = ("background", "cat", "dog", "horse", "sheep")
    subset = LabelSpace(classes, ids=(0, 8, 12, 13, 17), ignored_ids=(1, 2, 3, 255))
    assert (predict_image(wrap(network, subset), draw_image(), min_confidence=1.0).labels == 255).all()
    binary = LabelSpace(classes, ids=(0, 1, 2, 254, 255), ignored_ids=(253,))
    said: list[str] = []
    labeller = build_labeller(Engine(network, device="cpu"), binary, InferenceOptions(), on_message=said.append)
    for _ in range(2):
        labels = predict_image(labeller, draw_image(), min_confidence=1.0).labels
        assert labels.dtype == np.uint8
        assert (labels == 252).all()
    assert said == ["pixels below min_confidence get the id 252, since 255 is a class"]


@pytest.mark.parametrize("least", [-0.1, 1.1, math.nan])
def test_a_least_confidence_is_a_probability(network: Segmenter, tmp_path: Path, least: float) -> None:
    labeller = wrap(network)
    with pytest.raises(UsageError, match="min_confidence is"):
        predict_image(labeller, draw_image(), min_confidence=least)
    write_images(tmp_path / "in", "a.png")
    with pytest.raises(UsageError, match="min_confidence is"):
        save_predictions(labeller, [tmp_path / "in"], tmp_path / "out", min_confidence=least)
    assert not (tmp_path / "out").exists()


def test_the_id_of_void_is_recorded_and_drawn_as_void(network: Segmenter, tmp_path: Path) -> None:
    space = LabelSpace(SPACE.names, ids=(0, 1, 2, 3, 255), ignored_ids=())
    write_images(tmp_path / "in", "a.png")
    save_predictions(wrap(network, space), [tmp_path / "in"], tmp_path / "out", formats=["labels"], min_confidence=1.0)
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["void_id"] == 254
    with Image.open(tmp_path / "out" / "a.png") as image:
        assert set(np.asarray(image)[:, :].flat) <= {0, 1, 2, 3, 254, 255}
        assert (np.asarray(image) == 254).any()
        assert tuple(image.getpalette()[3 * 254 :][:3]) == VOID_COLOUR


def test_all_kinds_of_input_give_the_same_labels(network: Segmenter, tmp_path: Path) -> None:
    image = draw_image()
    Image.fromarray(image).save(tmp_path / "photo.png")
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    labeller = wrap(network)
    expected = predict_image(labeller, image).labels
    sources = [
        image,
        Image.fromarray(image),
        tensor,
        tensor / 255,
        tmp_path / "photo.png",
        str(tmp_path / "photo.png"),
    ]
    for source in sources:
        np.testing.assert_array_equal(predict(labeller, source).labels, expected)
    predictions = predict(labeller, sources)
    assert isinstance(predictions, list)
    assert [prediction.key for prediction in predictions][3:] == ["image-3", "photo", "photo"]
    for source in (tmp_path, f"{tmp_path}/*.png"):
        found = predict(labeller, source)
        assert isinstance(found, Iterator)
        assert len(found) == 1
        assert "0 of 1 image labelled so far" in repr(found)
        assert [prediction.key for prediction in found] == ["photo"]
    with pytest.raises(UsageError, match="Give it by itself"):
        predict(labeller, [tmp_path])


def test_an_unreadable_file_is_named(network: Segmenter, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"bad\.jpg"):
        predict(wrap(network), tmp_path / "bad.jpg")
    with pytest.raises(DataError, match=r"bad\.jpg"):
        list(predict(wrap(network), tmp_path))


def test_a_folder_in_masks_out(network: Segmenter, tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    write_images(source, "a.jpg", "sub/b.png", "sub/deep/c.jpg")
    (source / "broken.jpg").write_bytes(b"no image")
    (source / "readme.txt").write_text("no image either")
    steps: list[Progress] = []
    record = save_predictions(wrap(network), [source], output, progress=steps.append)
    written = sorted(path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file())
    assert written == [
        "a.png",
        "a_overlay.jpg",
        "predictions.json",
        "sub/b.png",
        "sub/b_overlay.jpg",
        "sub/deep/c.png",
        "sub/deep/c_overlay.jpg",
    ]
    assert [Path(row["input"]).name for row in record.done] == ["a.jpg", "b.png", "c.jpg"]
    assert [Path(row["input"]).name for row in record.skipped] == ["broken.jpg"]
    saved = json.loads((output / "predictions.json").read_text())
    assert saved["done"][1]["files"] == ["sub/b.png", "sub/b_overlay.jpg"]
    assert (saved["done"][1]["height"], saved["done"][1]["width"], saved["done"][1]["window"]) == (34, 47, None)
    assert "broken.jpg" in saved["skipped"][0]["reason"]
    assert saved["protocol"]["output_stride"] == 16
    assert saved["classes"][1] == {"name": "b", "id": 10, "colour": list(SPACE.colours[1])}
    assert (steps[-1].done, steps[-1].total) == (4, 4)
    with Image.open(source / "sub" / "b.png") as image, Image.open(output / "sub" / "b.png") as labels:
        expected = predict(wrap(network), np.asarray(image)).labels
        np.testing.assert_array_equal(np.asarray(labels), expected)


def test_an_interruption_keeps_and_records_what_is_finished(network: Segmenter, tmp_path: Path) -> None:
    write_images(tmp_path / "in", "a.png", "b.png", "c.png", "d.png")

    def stop(progress: Progress) -> None:
        if progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_predictions(wrap(network), [tmp_path / "in"], tmp_path / "out", formats=["labels"], progress=stop)
    done = json.loads((tmp_path / "out" / "predictions.json").read_text())["done"]
    assert [row["files"] for row in done] == [["a.png"], ["b.png"]]
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_images_of_equal_size_go_through_the_network_together(network: Segmenter, tmp_path: Path) -> None:
    source, sizes = tmp_path / "in", [(33, 47), (47, 33), (33, 47), (33, 47), (20, 20), (33, 47)]
    source.mkdir()
    for number, size in enumerate(sizes):
        Image.fromarray(draw_image(*size, seed=number)).save(source / f"{number}.png")
    (source / "3b.png").write_bytes(b"no image")
    alone, together = wrap(network), wrap(network)
    assert alone.batch_size == 1  # on a CPU
    together.batch_size = 4
    batches: list[int] = []
    backend = together.backend
    together.backend = Noting(backend, batches)
    record = save_predictions(together, [source], tmp_path / "together", formats=["labels"])
    assert batches == [3, 1, 1, 1]
    save_predictions(alone, [source], tmp_path / "alone", formats=["labels"])
    assert [row["files"] for row in record.done] == [[f"{number}.png"] for number in range(6)]
    assert [Path(row["input"]).name for row in record.skipped] == ["3b.png"]
    for number, size in enumerate(sizes):
        found, expected = (np.asarray(Image.open(tmp_path / way / f"{number}.png")) for way in ("together", "alone"))
        assert found.shape == size
        assert (found == expected).mean() > 0.999


class Noting:
    """A backend that notes how many images it is given."""

    def __init__(self, backend, batches: list[int]) -> None:
        self._backend, self._batches = backend, batches

    def __getattr__(self, name: str):
        return getattr(self._backend, name)

    def hold(self) -> Noting:
        return self

    def __call__(self, images: torch.Tensor):
        self._batches.append(len(images))
        return self._backend(images)


def test_what_is_being_saved_at_an_interruption_is_recorded(network: Segmenter, tmp_path: Path) -> None:
    write_images(tmp_path / "in", "a.png", "b.png", "c.png", "d.png")
    labeller = wrap(network)

    class Stopping(Noting):
        def __call__(self, images: torch.Tensor):
            if len(self._batches) == 2:
                raise KeyboardInterrupt
            return super().__call__(images)

    labeller.backend = Stopping(labeller.backend, [])
    with pytest.raises(KeyboardInterrupt):
        save_predictions(labeller, [tmp_path / "in"], tmp_path / "out", formats=["labels"])
    done = json.loads((tmp_path / "out" / "predictions.json").read_text())["done"]
    assert [row["files"] for row in done] == [["a.png"], ["b.png"]]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["a.png", "b.png"]


def test_a_folder_that_cannot_be_written_says_so(network: Segmenter, tmp_path: Path) -> None:
    write_images(tmp_path / "in", "sub/a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").write_text("a file where a folder must be")
    with pytest.raises(UsageError, match=r"a file of this name exists"):
        save_predictions(wrap(network), [tmp_path / "in"], tmp_path / "out", formats=["labels"])


def test_a_labellers_stride_leaves_the_networks_own_alone(network: Segmenter) -> None:
    own, finer = wrap(network), wrap(network, output_stride=8)
    image = draw_image(97, 97)
    before = own.label_image(image, probabilities=True)[2]
    fine = finer.label_image(image, probabilities=True)[2]
    assert network.output_stride == 16
    assert (own.protocol.output_stride, finer.protocol.output_stride) == (16, 8)
    np.testing.assert_array_equal(own.label_image(image, probabilities=True)[2], before)
    assert not np.array_equal(fine, before)
    with torch.no_grad():
        fresh = build_network(ModelConfig(name="fcn-resnet18", weights="none", output_stride=8), 5).eval()
        fresh.load_state_dict(network.state_dict())
        expected = fresh(torch.from_numpy(image).permute(2, 0, 1)[None]).softmax(dim=1)[0].numpy()
    np.testing.assert_allclose(fine, expected, atol=1e-3)


def test_a_living_models_stride_is_the_default(network: Segmenter) -> None:
    network.output_stride = 8
    assert wrap(network).protocol.output_stride == 8


def test_a_network_in_training_is_evaluated_and_not_changed(network: Segmenter) -> None:
    labeller = wrap(network)
    image = draw_image()
    expected = labeller.label_image(image)[1]
    state = {key: value.clone() for key, value in network.state_dict().items()}
    network.train()  # as between two validations
    np.testing.assert_array_equal(labeller.label_image(image)[1], expected)
    for key, value in network.state_dict().items():
        torch.testing.assert_close(value, state[key], atol=0, rtol=0)


def test_predicting_leaves_parameters_trainable(network: Segmenter) -> None:
    wrap(network).label_image(draw_image())
    network.train()
    network(torch.rand(2, 3, 65, 65)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_image_that_does_not_fit_in_memory_is_labelled_in_windows_and_this_is_said(
    network: Segmenter,
) -> None:
    said: list[str] = []
    engine = Engine(network, device="cpu")
    needed = engine.open_backend(16, "fp32").measure_bytes_per_pixel()
    engine.budget_mib = math.ceil(needed * 170**2 / 2**20)  # a machine whose memory holds 170 x 170 pixels
    labeller = build_labeller(engine, SPACE, InferenceOptions(), on_message=said.append)
    image = draw_image(150, 300)
    prediction = predict_image(labeller, image)
    assert prediction.window == 161
    assert said == [
        "images of 150 x 300 pixels are labelled in windows of 161, since a whole one does not fit in memory"
    ]
    np.testing.assert_array_equal(prediction.labels, predict_image(wrap(network, window=161), image).labels)
    predict_image(labeller, image)
    assert len(said) == 1
    assert predict_image(labeller, draw_image(150, 160)).window is None


def test_out_of_memory_says_what_to_do(network: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(network: Segmenter, images: torch.Tensor) -> None:
        torch.empty(2**62, dtype=torch.uint8)  # the allocator's own error

    labeller = wrap(network)
    labeller.label_image(draw_image())
    monkeypatch.setattr(Segmenter, "forward_cells", fail)
    with pytest.raises(MachineError, match="window") as caught:
        labeller.label_image(draw_image())
    assert "40 x 50" in caught.value.message


def limit_pixels(network: Segmenter, most: int) -> None:
    """Let the memory run out where a batch has more pixels than that, as it does beside another program on a GPU."""

    def fail(backbone: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        if inputs[0].shape[0] * inputs[0].shape[2] * inputs[0].shape[3] > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    network.backbone.register_forward_pre_hook(fail)


def test_less_memory_than_the_budget_halves_the_window_and_says_so(network: Segmenter) -> None:
    image = draw_image(300, 340)
    expected = predict_image(wrap(network, window=129), image).labels
    limit_pixels(network, 200**2)
    said: list[str] = []
    labeller = build_labeller(Engine(network, device="cpu"), SPACE, InferenceOptions(), on_message=said.append)
    for _ in range(2):
        prediction = predict_image(labeller, image)
        assert prediction.window == 129  # after 225, half of the image, which failed too
        np.testing.assert_array_equal(prediction.labels, expected)
    assert [note.code for note in said] == ["labelled-in-windows"] * 2
    assert "in windows of 129" in said[1]
    assert predict_image(labeller, draw_image(150, 160)).window is None


def test_a_window_that_was_chosen_or_is_the_smallest_is_not_halved(network: Segmenter) -> None:
    limit_pixels(network, 100**2)
    with pytest.raises(MachineError, match="513 x 513 pixels does not fit") as caught:
        wrap(network, window=513).label_image(draw_image(520, 520))
    assert caught.value.exit_code == 5
    with pytest.raises(MachineError, match="does not fit"):
        wrap(network).label_image(draw_image(300, 300))


@pytest.mark.parametrize(("fitting", "batch_size"), [(3, 2), (1, 1), (0, 1)])
def test_less_memory_than_the_budget_halves_the_batch(network: Segmenter, fitting: int, batch_size: int) -> None:
    images = [draw_image(190, 190, seed) for seed in range(5)]
    expected = [wrap(network, **({} if fitting else {"window": 129})).label_image(image)[0] for image in images]
    limit_pixels(network, fitting * 193**2 or 170**2)
    labeller = wrap(network)
    labeller.batch_size = 5  # as on a GPU
    found = labeller.label(images)
    assert labeller.batch_size == batch_size
    for labels, right in zip(found, expected, strict=True):
        assert (labels.indices != right).mean() < 1e-3  # a batch is computed in another order
    assert (labeller.find_window(190, 190) is None) == bool(fitting)


def test_a_last_layer_for_other_classes_is_noticed_at_once(network: Segmenter) -> None:
    model = atrous.Model(network, ModelCard(model={}, label_space=SPACE))
    model.predict(draw_image())
    labeller = model.build_labeller()
    network.head.classifier = torch.nn.Conv2d(network.head.classifier.in_channels, 7, 1)
    network.num_classes = 7
    calls = (
        lambda: model.predict(draw_image()),
        lambda: labeller.label_image(draw_image()),
        lambda: labeller.label([draw_image()]),
    )
    for call in calls:
        with pytest.raises(ConfigError, match="the network has 7 classes, the data 5"):
            call()


def break_bright_images(network: Segmenter, number: float) -> None:
    network.backbone.register_forward_pre_hook(
        lambda _, inputs: (inputs[0] * number,) if inputs[0].min() >= 0 else None
    )


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_an_image_whose_output_is_not_finite_is_named_and_others_are_labelled(
    network: Segmenter, tmp_path: Path, number: float
) -> None:
    break_bright_images(network, number)
    labeller = wrap(network)
    write_images(tmp_path / "in", "a.png", "sub/c.png")
    bright = np.full((40, 50, 3), 255, dtype=np.uint8)
    Image.fromarray(bright).save(tmp_path / "in" / "b.png")
    record = save_predictions(labeller, [tmp_path / "in"], tmp_path / "out")
    assert [Path(row["input"]).name for row in record.done] == ["a.png", "c.png"]
    assert [Path(row["input"]).name for row in record.skipped] == ["b.png"]
    assert "output is not finite" in record.skipped[0]["reason"]
    assert not (tmp_path / "out" / "b.png").exists()
    for source, name in ((tmp_path / "in" / "b.png", "b"), (bright, "image"), ([draw_image(), bright], "image-1")):
        with pytest.raises(OutputError, match=f"^{name}: the network's output is not finite"):
            predict(labeller, source)
    dataset = dataclasses.replace(build_shapes(num_train=1, num_val=2, size=65).val, label_space=SPACE)
    sample = Sample(dataset.key(0), bright, np.zeros(bright.shape[:2], np.uint16))
    object.__setattr__(dataset, "get", lambda index: sample)
    with pytest.raises(OutputError, match=r"^val/00000: the network's output is not finite") as caught:
        count(labeller, dataset)
    assert caught.value.exit_code == 3


def test_one_file_is_enough_to_predict_as_before(network: Segmenter, tmp_path: Path) -> None:
    model = ModelConfig(name="fcn-resnet18", weights="none")
    with torch.no_grad():
        network.get_buffer("mean").fill_(0.2)  # statistics that no code knows, only the file
        network.get_buffer("std").fill_(0.7)
    card = ModelCard(model.model_dump(), SPACE, normalisation={"mean": [0.2] * 3, "std": [0.7] * 3})
    save_model(tmp_path / "model.safetensors", network, card)
    before = predict_image(wrap(network), draw_image())
    loaded, read = load_model(tmp_path / "model.safetensors")
    after = predict_image(wrap(loaded, read.label_space), draw_image())
    np.testing.assert_array_equal(after.labels, before.labels)
    np.testing.assert_array_equal(after.confidence, before.confidence)
    assert after.label_space == SPACE


def test_classes_of_network_and_data_must_be_as_many(network: Segmenter) -> None:
    with pytest.raises(ConfigError, match="5 classes, the data 2"):
        wrap(network, LabelSpace(("a", "b")))


def test_auto_is_fp32_on_the_device_that_is_there(network: Segmenter) -> None:
    assert wrap(network).protocol.precision == "fp32"
    assert find_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_densecrf_sees_levels_that_8_bits_join() -> None:
    form = ImageForm((0,), "uint16", (0, 4095))
    torch.manual_seed(0)
    config = ModelConfig(name="fcn-resnet18", weights="none")
    network = build_network(config, 5, input_spec=InputSpec((0.5,), (0.25,), form)).eval()
    labeller = wrap(network, crf={"bilateral_rgb": 0.05})
    image = np.full((40, 50, 1), 1000, np.uint16)
    image[:, 25:] += 3
    assert len(np.unique(show_bands(image, form))) == 1
    found = labeller.label_image(image, probabilities=True).probabilities
    plain = wrap(network).label_image(image, probabilities=True).probabilities
    assert labeller.crf is not None
    shown = torch.from_numpy((image.astype(np.float64) / 4095 * 65535).round().astype(np.uint16))
    shown = shown.permute(2, 0, 1).expand(3, 40, 50)
    expected = refine(labeller.crf, torch.from_numpy(plain.astype(np.float32)), shown)
    np.testing.assert_allclose(found, expected.detach().numpy(), atol=0.01)
    flat = refine(labeller.crf, torch.from_numpy(plain.astype(np.float32)), shown[:, :1, :1].expand(3, 40, 50))
    assert np.abs(flat.detach().numpy() - found).max() > 0.05
