from __future__ import annotations

import math

import numpy as np
import pytest

from atrous.core.records import Protocol
from atrous.reports import tables


def build_metrics(confusion: np.ndarray) -> dict[str, object]:
    """Metrics of a confusion matrix, by naive loops."""
    classes = []
    for index in range(len(confusion)):
        hit, truth, said = confusion[index, index], confusion[index].sum(), confusion[:, index].sum()
        union = truth + said - hit
        classes.append(
            {
                "name": f"class {index}",
                "id": index,
                "iou": float(hit / union) if union else None,
                "recall": float(hit / truth) if truth else None,
                "precision": float(hit / said) if said else None,
                "pixels": int(truth),
                "predicted_pixels": int(said),
            }
        )
    return {"classes": classes, "confusion": confusion.tolist(), "protocol": Protocol().to_json()}


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (tables.format_ratio, 0.7134, "0.713"),
        (tables.format_ratio, None, "—"),
        (tables.format_percent, 0.1234, "12.3 %"),
        (tables.format_percent, 0.0001, "< 0.1 %"),
        (tables.format_percent, 0.0, "0.0 %"),
        (tables.format_percent, None, "—"),
        (tables.format_count, 1408, "1,408"),
        (tables.format_count, None, "—"),
        (tables.format_difference, 0.0121, "+0.012"),
        (tables.format_difference, -0.0041, "−0.004"),
        (tables.format_difference, None, "—"),
        (tables.format_duration, 45.2, "45 s"),
        (tables.format_duration, 2391.0, "40 min"),
        (tables.format_duration, 7500.0, "2 h 05 min"),
        (tables.format_duration, None, "—"),
        (tables.format_parameters, 5_632_011, "5.6 M"),
        (tables.format_parameters, 12_345, "12,345"),
        (tables.format_value, True, "yes"),
        (tables.format_value, [1, 2.5], "1, 2.5"),
        (tables.format_value, "", "—"),
    ],
)
def test_numbers_become_words(function: object, value: object, text: str) -> None:
    assert function(value) == text


def test_a_saved_protocol_reads_like_the_protocol() -> None:
    protocol = Protocol(8, (0.75, 1.0, 1.25), True, 513, "bf16")
    assert tables.describe_protocol(protocol.to_json()) == protocol.describe()
    assert tables.describe_protocol(None) == "protocol not recorded"


def test_class_rows_are_sorted_by_iou_and_keep_their_colours() -> None:
    metrics = build_metrics(np.array([[10, 90, 0], [0, 800, 0], [0, 0, 0]]))
    metrics["label_space"] = {"colours": [[1, 2, 3], [4, 5, 6], [7, 8, 9]]}
    rows = tables.build_class_rows(metrics)
    assert [row.name for row in rows] == ["class 1", "class 0", "class 2"]
    assert [row.colour for row in rows] == ["rgb(4 5 6)", "rgb(1 2 3)", "rgb(7 8 9)"]
    assert [row.iou_text for row in rows] == ["0.899", "0.100", "—"]
    assert [row.pixel_share for row in rows] == ["88.9 %", "11.1 %", "0.0 %"]


def test_the_ladder_starts_with_the_headline_and_shows_differences_to_it() -> None:
    dear = Protocol(8)
    metrics = {
        "miou": 0.7,
        "protocol": Protocol().to_json(),
        "ladder": [{"protocol": dear.to_json(), "describe": dear.describe(), "miou": 0.712}],
    }
    rows = tables.build_ladder_rows(metrics)
    assert [row.protocol for row in rows] == [Protocol().describe(), dear.describe()]
    assert [row.difference for row in rows] == ["", "+0.012"]
    metrics["ladder"].insert(0, {"protocol": Protocol().to_json(), "miou": None})
    assert [row.difference for row in tables.build_ladder_rows(metrics)] == ["", "—"]
    assert tables.build_ladder_rows({"miou": 0.7}) == ()


def test_matrix_rows_are_shares_of_the_truth() -> None:
    generator = np.random.default_rng(0)
    confusion = generator.integers(0, 100, (5, 5))
    confusion[3] = 0
    rows = tables.build_matrix(build_metrics(confusion))
    for truth, row in enumerate(rows):
        for prediction, cell in enumerate(row.cells):
            if truth == 3:
                assert cell.share is None
                assert cell.text == "—"
            else:
                assert cell.share == confusion[truth, prediction] / confusion[truth].sum()
                assert math.isclose(cell.tint**2, cell.share, abs_tol=1e-12)
            assert cell.is_diagonal == (truth == prediction)


@pytest.mark.parametrize(("count", "numbered"), [(2, True), (12, True), (13, False), (40, False)])
def test_cells_have_numbers_up_to_twelve_classes(count: int, numbered: bool) -> None:
    rows = tables.build_matrix(build_metrics(np.eye(count, dtype=np.int64) * 7))
    assert all(bool(cell.text) == numbered for row in rows for cell in row.cells)


def test_confused_pairs_are_ordered_by_their_share_of_the_true_class() -> None:
    confusion = np.array([[9000, 900, 100], [1, 3, 6], [0, 0, 0]])
    pairs = tables.list_confused(build_metrics(confusion))
    assert [(pair.truth, pair.prediction, pair.share) for pair in pairs] == [
        ("class 1", "class 2", "60.0 %"),
        ("class 1", "class 0", "10.0 %"),
        ("class 0", "class 1", "9.0 %"),
        ("class 0", "class 2", "1.0 %"),
    ]


def test_warnings_name_what_makes_a_score_worthless() -> None:
    metrics = {
        "miou": 0.4998,
        "never_predicted": ["cat"],
        "baseline": {"class": "background", "miou": 0.4998},
        "training": {"steps": 30, "planned_steps": 100, "interrupted": True},
    }
    interrupted, never, floor = (finding for finding, _ in tables.list_warnings(metrics, ()))
    assert interrupted == "The training was interrupted at step 30 of 100."
    assert never == "1 class with pixels was never predicted: cat."
    assert "not above the baseline" in floor
    assert "background" in floor
    good = {"miou": 0.7, "never_predicted": [], "baseline": {"class": "background", "miou": 0.05}}
    assert tables.list_warnings(good, ()) == ()


def test_validations_survive_missing_numbers_and_a_cut_last_row() -> None:
    text = (
        "step,epoch,seconds,lr,loss,miou,pixel_accuracy,never_predicted\n"
        '100,0.5,30,0.01,nan,,0.7,"pole sign"\n'
        "200,1.0,60,0.005,0.9,0.41,0.8,\n"
        "300,1.5,9"
    )
    rows = tables.read_validations(text)
    assert [row.step for row in rows] == [100, 200]
    assert rows[0].loss is None
    assert rows[0].miou is None
    assert rows[0].never_predicted == "pole sign"
    assert tables.pair_curve(rows, "miou") == ((200, 0.41),)


def test_facts_are_flattened() -> None:
    facts = tables.build_facts({"python": "3.11", "git": {"commit": "abc", "is_clean": True}})
    assert facts == (("python", "3.11"), ("git commit", "abc"), ("git is clean", "yes"))
    assert tables.build_facts("one line") == (("", "one line"),)
    assert tables.build_facts(None) == ()


def test_a_image_is_ranked_among_those_with_a_score() -> None:
    metrics = {"images": [{"miou": 0.9}, {"miou": None}, {"miou": 0.5}, {"miou": 0.7}]}
    assert tables.rank_image(metrics, 0.7) == "rank 2 of 3"
    assert tables.rank_image(metrics, None) == ""
    assert tables.rank_image({}, 0.7) == ""
