from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import jaccard_score

from atrous.config.schema import EvaluationConfig, ModelConfig
from atrous.core.errors import DataError
from atrous.core.labels import IGNORE_INDEX, LabelSpace
from atrous.core.records import PictureScore, Progress, Protocol, Sample
from atrous.data.reading import load_picture
from atrous.inference.build import build_predictor
from atrous.inference.predictions import save_predictions
from atrous.inference.predictor import Predictor
from atrous.networks.build import build_network
from atrous.networks.segmenter import Segmenter
from atrous.scoring.score import build_scores, score, select_examples

SPACE = LabelSpace(("sky", "road", "car", "pole"), ids=(3, 1, 8, 20))
SIZES = ((61, 83), (40, 97), (33, 33), (70, 51), (1, 29))


@dataclass
class Pictures:
    """Pictures on the disk with masks in memory, random blocks of classes and of ignored pixels."""

    folder: Path
    label_space: LabelSpace = SPACE
    name: str = "blocks val"
    masks: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        generator = np.random.default_rng(0)
        self.folder.mkdir()
        for number, (height, width) in enumerate(SIZES):
            picture = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(picture).save(self.picture_path(number))
            blocks = generator.choice([0, 1, 2, IGNORE_INDEX], (-(-height // 8), -(-width // 8)))
            self.masks.append(np.kron(blocks, np.ones((8, 8), int))[:height, :width].astype(np.uint16))

    def __len__(self) -> int:
        return len(self.masks)

    def key(self, index: int) -> str:
        return f"p{index}"

    def get(self, index: int) -> Sample:
        return Sample(self.key(index), load_picture(self.picture_path(index)), self.masks[index])

    def mask(self, index: int) -> np.ndarray:
        return self.masks[index]

    def picture_path(self, index: int) -> Path:
        return self.folder / f"p{index}.png"

    def mask_path(self, index: int) -> None:
        return None


@pytest.fixture
def dataset(tmp_path: Path) -> Pictures:
    return Pictures(tmp_path / "pictures")


@pytest.fixture(scope="module")
def network() -> Segmenter:
    torch.manual_seed(0)
    network = build_network(ModelConfig(name="fcn-resnet18", weights="none"), 4)
    with torch.no_grad():
        network.head.classifier.bias[3] -= 100  # the last class is never predicted
    return network


def wrap(network: Segmenter, **evaluation: object) -> Predictor:
    return build_predictor(network, SPACE, EvaluationConfig(**evaluation), "cpu")


def test_scores_equal_scikit_learn_on_full_size_predictions(network: Segmenter, dataset: Pictures) -> None:
    predictor = wrap(network)
    scores = score(predictor, dataset)
    truth = np.concatenate([mask.ravel() for mask in dataset.masks])
    labels = [predictor.label_picture(dataset.get(index).picture)[0] for index in range(len(dataset))]
    given = np.concatenate([label.ravel() for label in labels])
    valid = truth != IGNORE_INDEX
    expected = jaccard_score(truth[valid], given[valid], labels=[0, 1, 2], average=None)
    assert [row.iou for row in scores.classes[:3]] == pytest.approx(expected.tolist())
    assert scores.classes[3].iou is None
    assert scores.miou == pytest.approx(expected.mean())
    assert scores.pixel_accuracy == pytest.approx((truth == given)[valid].mean())
    assert [row.id for row in scores.classes] == [3, 1, 8, 20]
    assert scores.data == "blocks val"
    for index, row in enumerate(scores.pictures):
        mask, label = dataset.masks[index], labels[index]
        inside = mask != IGNORE_INDEX
        own = [np.mean(mask[inside] == label[inside])]
        if len(np.unique(mask[inside])) > 1:
            present = np.union1d(mask[inside], label[inside])
            own = jaccard_score(mask[inside], label[inside], labels=present, average=None)
        assert row.miou == pytest.approx(np.mean(own)) or len(np.unique(mask[inside])) == 1


def test_row_26_every_pixel_is_scored_at_the_masks_own_size(network: Segmenter, dataset: Pictures) -> None:
    scores = score(wrap(network), dataset)
    assert [(row.height, row.width) for row in scores.pictures] == list(SIZES)
    valid = sum(int((mask != IGNORE_INDEX).sum()) for mask in dataset.masks)
    assert sum(map(sum, scores.confusion)) == valid  # no crop, no shrinking, no padding


def test_row_23_the_order_of_pictures_does_not_matter_and_the_mean_of_pictures_is_another_number(
    network: Segmenter, dataset: Pictures
) -> None:
    scores = score(wrap(network), dataset)
    parts = [np.array(scores.confusion)]
    for index in range(len(dataset)):
        one = Pictures.__new__(Pictures)
        one.__dict__.update(dataset.__dict__, masks=[dataset.masks[index]])
        one.picture_path = lambda _, index=index: dataset.picture_path(index)  # type: ignore[method-assign]
        parts.append(np.array(score(wrap(network), one).confusion))
    np.testing.assert_array_equal(parts[0], sum(parts[1:]))
    mean_of_pictures = np.mean([row.miou for row in scores.pictures if row.miou is not None])
    assert scores.miou is not None
    assert abs(mean_of_pictures - scores.miou) > 1e-3


@pytest.mark.parametrize("evaluation", [{}, {"output_stride": 8, "scales": (0.75, 1.0), "flip": True, "window": 65}])
def test_row_25_files_of_predict_compared_by_other_code_give_the_same_miou(
    network: Segmenter, dataset: Pictures, tmp_path: Path, evaluation: dict[str, object]
) -> None:
    scores = score(wrap(network, **evaluation), dataset)
    save_predictions(wrap(network, **evaluation), [dataset.folder], tmp_path / "out")
    truth, given = [], []
    for index, mask in enumerate(dataset.masks):
        with Image.open(tmp_path / "out" / f"p{index}.png") as image:
            ids = np.asarray(image)
        valid = mask != IGNORE_INDEX
        truth.append(np.asarray(SPACE.ids)[mask[valid]])
        given.append(ids[valid])
    expected = jaccard_score(np.concatenate(truth), np.concatenate(given), labels=[3, 1, 8], average="macro")
    assert scores.miou == pytest.approx(expected, abs=1e-12)


def test_row_25_scoring_twice_and_in_training_mode_gives_the_same_scores(network: Segmenter, dataset: Pictures) -> None:
    predictor = wrap(network)
    first = score(predictor, dataset)
    network.train()
    assert score(predictor, dataset) == first
    assert score(wrap(network), dataset) == first


def test_row_34_score_holds_bands_and_not_pictures_of_probabilities(
    network: Segmenter, dataset: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = wrap(network)
    expected = score(predictor, dataset)
    whole = Predictor.iter_labels
    heights: list[int] = []

    def watch(self: Predictor, picture: np.ndarray):
        for band in whole(self, picture):
            heights.append(band.probs.shape[1])
            yield band

    monkeypatch.setattr(Predictor, "iter_labels", watch)
    monkeypatch.setattr(Predictor, "label_picture", None)
    monkeypatch.setattr("atrous.inference.probabilities.iter_bands.__kwdefaults__", None, raising=False)
    assert score(predictor, dataset) == expected
    assert sum(heights) == sum(height for height, _ in SIZES)


def test_row_16_baseline_and_never_predicted_stand_beside_the_miou(network: Segmenter, dataset: Pictures) -> None:
    dataset.masks[0][:20] = 3
    dataset.masks[1][:] = 1
    form = score(wrap(network), dataset).to_json()
    truth = np.concatenate([mask[mask != IGNORE_INDEX] for mask in dataset.masks])
    shares = np.bincount(truth, minlength=4) / truth.size
    assert form["baseline"]["class"] == SPACE.names[int(shares.argmax())]
    assert form["baseline"]["miou"] == pytest.approx(shares.max() / 4)
    assert form["never_predicted"] == ["pole"]
    assert form["miou_over"] == "4 of 4 classes"


def test_progress_tells_each_picture(network: Segmenter, dataset: Pictures) -> None:
    steps: list[Progress] = []
    scores = score(wrap(network), dataset, progress=steps.append)
    assert [(step.done, step.total) for step in steps] == [(number, 5) for number in range(1, 6)]
    assert steps[-1].note == f"mIoU {scores.miou:.3f}"


def test_an_unreadable_picture_stops_the_score_and_is_named(network: Segmenter, dataset: Pictures) -> None:
    dataset.picture_path(2).write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"p2\.png"):
        score(wrap(network), dataset)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda dataset: dataset.masks.clear(), "no pictures"),
        (lambda dataset: setattr(dataset, "label_space", LabelSpace(SPACE.names)), "the model's classes are 3 sky"),
        (lambda dataset: dataset.masks.__setitem__(1, np.zeros((5, 5), np.uint16)), "p1: picture"),
    ],
)
def test_data_that_does_not_fit_is_refused(
    network: Segmenter, dataset: Pictures, change: Callable[[Pictures], None], words: str
) -> None:
    change(dataset)
    with pytest.raises(DataError, match=words):
        score(wrap(network), dataset)


def test_windows_chosen_for_lack_of_memory_stand_in_the_notes(
    network: Segmenter, dataset: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert score(wrap(network, window=65), dataset).notes == ()
    monkeypatch.setattr("atrous.inference.predictor.MOST_BYTES_PER_PIXEL", 1e12)
    predictor = wrap(network)
    monkeypatch.setattr(predictor.backend, "measure_bytes_per_pixel", lambda: 1.0)
    monkeypatch.setattr("atrous.inference.memory.SMALLEST_WINDOW", 33)
    monkeypatch.setattr("atrous.inference.predictor.compute_available_bytes", lambda device: int(4000 / 0.6))
    (note,) = score(predictor, dataset).notes
    assert (
        note == "1 pictures did not fit in memory as a whole and were labelled in windows of 33 pixels" or "33" in note
    )


def test_best_and_worst_pictures_are_distinct_and_in_order() -> None:
    def build(*mious: float | None):
        pictures = [PictureScore(f"p{number}", miou, 10, 10) for number, miou in enumerate(mious)]
        return build_scores(np.eye(4, dtype=np.int64), SPACE, Protocol(), pictures)

    best, worst = select_examples(build(0.5, None, 0.9, 0.1, 0.7, 0.3), count=2)
    assert (best, worst) == (("p2", "p4"), ("p3", "p5"))
    best, worst = select_examples(build(0.5, 0.9, 0.1), count=4)
    assert (best, worst) == (("p1", "p0"), ("p2",))
    assert select_examples(build(None)) == ((), ())
