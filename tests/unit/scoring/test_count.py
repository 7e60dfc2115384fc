from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import jaccard_score

from atrous.config.schema import ModelConfig
from atrous.core.errors import DataError
from atrous.core.inference_options import InferenceOptions
from atrous.core.labels import IGNORE_INDEX, LabelSpace
from atrous.core.records import ImageScore, Progress, Protocol, Sample
from atrous.images.decode import load_image
from atrous.inference.build import build_labeller
from atrous.inference.contracts import LabelBand
from atrous.inference.engine import Engine
from atrous.inference.folders.writer import save_predictions
from atrous.inference.labelling.labeller import Labeller
from atrous.metrics.boundary import count_boundaries
from atrous.networks.build import build_network
from atrous.networks.contracts import Cells
from atrous.networks.segmenter import Segmenter
from atrous.scoring.count import count
from atrous.scoring.summarise import build_scores, select_examples, summarise
from scored import score

SPACE = LabelSpace(("sky", "road", "car", "pole"), ids=(3, 1, 8, 20))
SIZES = ((61, 83), (40, 97), (33, 33), (70, 51), (1, 29))


@dataclass
class Images:
    """Images on the disk with masks in memory, random blocks of classes and of ignored pixels."""

    folder: Path
    label_space: LabelSpace = SPACE
    name: str = "blocks val"
    numbers: tuple[int, ...] = tuple(range(len(SIZES)))
    sizes: tuple[tuple[int, int], ...] = SIZES
    masks: list[np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        generator = np.random.default_rng(0)
        self.folder.mkdir(exist_ok=True)
        self.masks = []
        for number, (height, width) in enumerate(self.sizes):
            image = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(image).save(self.folder / f"p{number}.png")
            blocks = generator.choice([0, 1, 2, IGNORE_INDEX], (-(-height // 8), -(-width // 8)))
            self.masks.append(np.kron(blocks, np.ones((8, 8), int))[:height, :width].astype(np.uint16))

    def __len__(self) -> int:
        return len(self.numbers)

    def key(self, index: int) -> str:
        return f"p{self.numbers[index]}"

    def get(self, index: int) -> Sample:
        return Sample(self.key(index), load_image(self.image_path(index)), self.mask(index))

    def mask(self, index: int) -> np.ndarray:
        return self.masks[self.numbers[index]]

    def image_path(self, index: int) -> Path:
        return self.folder / f"{self.key(index)}.png"

    def mask_path(self, index: int) -> None:
        return None


@pytest.fixture
def dataset(tmp_path: Path) -> Images:
    return Images(tmp_path / "images")


@pytest.fixture(scope="module")
def network() -> Segmenter:
    torch.manual_seed(0)
    network = build_network(ModelConfig(name="fcn-resnet18", weights="none"), 4)
    with torch.no_grad():
        network.head.classifier.bias[3] -= 100  # the last class is never predicted
    return network


def wrap(network: Segmenter, **evaluation: object) -> Labeller:
    return build_labeller(Engine(network, device="cpu"), SPACE, InferenceOptions(**evaluation))


def test_scores_equal_scikit_learn_on_full_size_predictions(network: Segmenter, dataset: Images) -> None:
    labeller = wrap(network)
    scores = score(labeller, dataset)
    truth = np.concatenate([mask.ravel() for mask in dataset.masks])
    labels = [labeller.label_image(dataset.get(index).image)[0] for index in range(len(dataset))]
    given = np.concatenate([label.ravel() for label in labels])
    valid = truth != IGNORE_INDEX
    expected = jaccard_score(truth[valid], given[valid], labels=[0, 1, 2], average=None)
    assert [row.iou for row in scores.classes[:3]] == pytest.approx(expected.tolist())
    assert scores.classes[3].iou is None
    assert scores.miou == pytest.approx(expected.mean())
    assert scores.pixel_accuracy == pytest.approx((truth == given)[valid].mean())
    assert [row.id for row in scores.classes] == [3, 1, 8, 20]
    assert scores.data == "blocks val"
    for row, mask, label in zip(scores.images, dataset.masks, labels, strict=True):
        inside = mask != IGNORE_INDEX
        true, answer = mask[inside].tolist(), label[inside].tolist()
        present = sorted({*true, *answer})
        ious = [
            sum(t == c == a for t, a in zip(true, answer, strict=True))
            / sum(c in (t, a) for t, a in zip(true, answer, strict=True))
            for c in present
        ]
        assert row.miou == pytest.approx(np.mean(ious))


def test_every_pixel_is_scored_at_the_masks_own_size(network: Segmenter, dataset: Images) -> None:
    scores = score(wrap(network), dataset)
    assert [(row.height, row.width) for row in scores.images] == list(SIZES)
    valid = sum(int((mask != IGNORE_INDEX).sum()) for mask in dataset.masks)
    assert sum(map(sum, scores.confusion)) == valid  # no crop, no shrinking, no padding


def test_counts_of_single_images_add_up_and_their_mean_is_another_number(network: Segmenter, dataset: Images) -> None:
    scores = score(wrap(network), dataset)
    singles = [score(wrap(network), replace(dataset, numbers=(number,))) for number in range(len(dataset))]
    np.testing.assert_array_equal(scores.confusion, sum(np.array(single.confusion) for single in singles))
    assert [single.images[0] for single in singles] == list(scores.images)
    mean_of_images = np.mean([row.miou for row in scores.images if row.miou is not None])
    assert scores.miou is not None
    assert abs(mean_of_images - scores.miou) > 1e-3


@pytest.mark.parametrize("evaluation", [{}, {"output_stride": 8, "scales": (0.75, 1.0), "flip": True, "window": 65}])
def test_files_of_predict_compared_by_other_code_give_the_same_miou(
    network: Segmenter, dataset: Images, tmp_path: Path, evaluation: dict[str, object]
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


def test_scoring_twice_and_in_training_mode_gives_the_same_scores(network: Segmenter, dataset: Images) -> None:
    labeller = wrap(network)
    first = score(labeller, dataset)
    network.train()
    assert score(labeller, dataset) == first
    assert score(wrap(network), dataset) == first


def test_score_holds_bands_and_not_images_of_probabilities(
    network: Segmenter, dataset: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = score(wrap(network), dataset)
    heights: list[int] = []

    class Watching(Labeller):
        def iter_labels(self, image: np.ndarray, cells: Cells | None = None) -> Iterator[LabelBand]:
            for band in super().iter_labels(image, cells):
                heights.append(band.band.scores.shape[1])
                yield band

    monkeypatch.setattr("atrous.networks.layers.resize.CPU_BAND_BYTES", 4 * 4 * 83 * 10)
    plain = wrap(network)
    found = score(Watching(plain.backend, SPACE, plain.protocol), dataset)
    assert found == expected
    assert max(heights) <= 28  # ten rows of the widest image, 28 of the narrowest
    assert sum(heights) == sum(height for height, _ in SIZES)


def test_baseline_and_never_predicted_stand_beside_the_miou(network: Segmenter, dataset: Images) -> None:
    dataset.masks[0][:20] = 3
    dataset.masks[1][:] = 1
    form = score(wrap(network), dataset).to_json()
    truth = np.concatenate([mask[mask != IGNORE_INDEX] for mask in dataset.masks])
    shares = np.bincount(truth, minlength=4) / truth.size
    assert form["baseline"]["class"] == SPACE.names[int(shares.argmax())]
    assert form["baseline"]["miou"] == pytest.approx(shares.max() / 4)
    assert form["never_predicted"] == ["pole"]
    assert form["miou_over"] == "4 of 4 classes"


def test_progress_tells_each_image(network: Segmenter, dataset: Images) -> None:
    steps: list[Progress] = []
    scores = score(wrap(network), dataset, progress=steps.append)
    assert [(step.done, step.total) for step in steps] == [(number, 5) for number in range(1, 6)]
    assert steps[-1].note == f"mIoU {scores.miou:.3f}"


def test_an_unreadable_image_stops_the_score_and_is_named(network: Segmenter, dataset: Images) -> None:
    dataset.image_path(2).write_bytes(b"no image")
    with pytest.raises(DataError, match=r"p2\.png"):
        score(wrap(network), dataset)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda dataset: setattr(dataset, "numbers", ()), "no images"),
        (lambda dataset: setattr(dataset, "label_space", LabelSpace(SPACE.names)), "the model's classes are 3 sky"),
        (
            lambda dataset: dataset.masks.__setitem__(1, np.zeros((5, 5), np.uint16)),
            "'p1'): the image is 40x97",
        ),
    ],
)
def test_data_that_does_not_fit_is_refused(
    network: Segmenter, dataset: Images, change: Callable[[Images], None], words: str
) -> None:
    change(dataset)
    with pytest.raises(DataError, match=re.escape(words)):
        score(wrap(network), dataset)


def test_windows_chosen_for_lack_of_memory_stand_in_the_notes(
    network: Segmenter, dataset: Images, tmp_path: Path
) -> None:
    assert score(wrap(network, window=65), dataset).notes == ()
    engine = Engine(network, device="cpu")
    needed = engine.open_backend(16, "fp32").measure_bytes_per_pixel()
    engine.budget_mib = math.ceil(needed * 170**2 / 2**20)  # a machine whose memory holds 170 x 170 pixels
    larger = Images(tmp_path / "larger", numbers=(0, 1, 2), sizes=((150, 300), (40, 50), (160, 200)))
    assert score(build_labeller(engine, SPACE, InferenceOptions()), larger).notes == (
        "2 of 3 images did not fit in memory as a whole and were labelled in windows of 161 pixels",
    )


def test_best_and_worst_images_are_distinct_and_in_order() -> None:
    def build(*mious: float | None):
        images = [ImageScore(f"p{number}", miou, 10, 10) for number, miou in enumerate(mious)]
        return build_scores(np.eye(4, dtype=np.int64), SPACE, Protocol(), images)

    best, worst = select_examples(build(0.5, None, 0.9, 0.1, 0.7, 0.3), count=2)
    assert (best, worst) == (("p2", "p4"), ("p3", "p5"))
    best, worst = select_examples(build(0.5, 0.9, 0.1), count=4)
    assert (best, worst) == (("p1", "p0"), ("p2",))
    assert select_examples(build(None)) == ((), ())


def test_a_data_set_that_is_not_thread_safe_is_read_in_the_callers_thread(network: Segmenter, dataset: Images) -> None:
    threads = set()

    class Watched(Images):
        def get(self, index: int) -> Sample:
            threads.add(threading.get_ident())
            return super().get(index)

    watched = Watched(dataset.folder, numbers=(2, 4))
    expected = score(wrap(network), watched)
    assert threads == {threading.get_ident()}
    watched.thread_safe = True
    assert score(wrap(network), watched).confusion == expected.confusion
    assert len(threads) > 1


def test_labels_out_of_range_stop_with_the_key(network: Segmenter, dataset: Images) -> None:
    dataset.masks[3][5, 5] = 4
    with pytest.raises(DataError, match=r"blocks val: sample 3 \('p3'\): the labels hold 4 \(1 pixel\)"):
        score(wrap(network), dataset)


def test_counts_in_pieces_merge_to_those_of_the_whole(network: Segmenter, dataset: Images) -> None:
    labeller = wrap(network)
    pieces = count(labeller, dataset, [2, 0])
    pieces.merge(count(labeller, dataset, [1]))
    pieces.merge(count(labeller, dataset, range(3, len(dataset))))
    pieces.merge(count(labeller, dataset, []))  # the share of a process may be empty
    assert summarise(pieces, labeller, data=dataset.name) == score(labeller, dataset)
    with pytest.raises(DataError, match="no images to score"):
        count(labeller, replace(dataset, numbers=()))


def test_without_details_there_is_what_the_confusion_matrix_tells(network: Segmenter, dataset: Images) -> None:
    whole, plain = score(wrap(network), dataset), score(wrap(network), dataset, detailed=False)
    classes = tuple(replace(row, iou_interval=None) for row in whole.classes)
    assert plain == replace(whole, classes=classes, intervals=None, bands=(), parts=(), calibration=None)


def test_intervals_are_over_images_or_over_the_groups_that_the_data_name(network: Segmenter, dataset: Images) -> None:
    few = score(wrap(network), dataset).intervals
    assert (few.unit, few.count, few.miou) == ("image", 5, None)
    many = replace(dataset, numbers=tuple(range(len(SIZES))) * 4)
    scores = score(wrap(network), many)
    assert (scores.intervals.unit, scores.intervals.count) == ("image", 20)
    for (low, high), value in (
        (scores.intervals.miou, scores.miou),
        (scores.intervals.pixel_accuracy, scores.pixel_accuracy),
        *((row.iou_interval, row.iou) for row in scores.classes[:3]),
    ):
        assert 0 < low < value < high < 1
    assert scores.classes[3].iou_interval is None

    class Clips(Images):
        def group(self, index: int) -> str | None:
            return f"clip {self.numbers[index]}" if self.numbers[index] else None

    clips = score(wrap(network), Clips(dataset.folder, numbers=many.numbers))
    assert (clips.intervals.unit, clips.intervals.count) == ("group", 8)  # four clips, and four images alone
    assert clips.intervals.miou is None
    assert "8 groups of images" in clips.intervals.describe()


def test_scores_near_boundaries_and_of_parts_are_those_of_the_same_labels(network: Segmenter, dataset: Images) -> None:
    many = replace(dataset, numbers=tuple(range(len(SIZES))) * 3)
    labeller = wrap(network)
    scores = score(labeller, many)
    tallies = sum(
        count_boundaries(sample.labels, labeller.label_image(sample.image)[0].astype(np.uint16), 4)
        for sample in map(many.get, range(len(many)))
    )
    for number, row in enumerate(scores.bands):
        for kind, (value, interval) in enumerate(
            ((row.boundary_iou, row.boundary_interval), (row.trimap_iou, row.trimap_interval))
        ):
            hits, true, given = tallies[number, kind]
            union = true + given - hits
            assert value == pytest.approx((hits[union > 0] / union[union > 0]).mean())
            assert 0 < interval[0] < value < interval[1] < 1
    assert [row.width for row in scores.bands] == ["2 % of the diagonal", "5 px"]
    assert sum(row.pixels for row in scores.parts) == sum(map(sum, scores.confusion))
    hits = sum(row.recall * row.pixels for row in scores.parts if row.recall is not None)
    assert hits == pytest.approx(np.trace(scores.confusion))
