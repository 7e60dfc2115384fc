from __future__ import annotations

import copy
import json
import pickle
from dataclasses import fields, replace

import pytest

from atrous.core.records import (
    BandScore,
    ClassScore,
    ImageScore,
    Intervals,
    Note,
    NoteCollector,
    PartScore,
    Protocol,
    Scores,
    list_notes,
)


def test_a_protocol_says_all_that_can_change_a_score():
    assert Protocol().describe() == "output stride 16, one scale, no flip, whole image, fp32"
    wide = Protocol(output_stride=8, scales=(0.75, 1.0, 1.25), flip=True, window=513, precision="bf16")
    assert wide.describe() == "output stride 8, scales 0.75 1 1.25, flip, window 513, bf16"
    assert wide.to_json()["scales"] == [0.75, 1.0, 1.25]
    changes = {"output_stride": 8, "scales": (0.5,), "flip": True, "window": 65, "precision": "bf16"}
    changes |= {"crf": {"num_iterations": 3}, "backend": "openvino"}
    assert {field.name for field in fields(Protocol)} == {*changes, "budget_mib"}  # windows are said where they occur
    described = {replace(Protocol(), **{name: value}).describe() for name, value in changes.items()}
    assert len(described - {Protocol().describe()}) == len(changes)


def test_scores_are_strict_json_and_count_the_classes_they_are_a_mean_of():
    scores = Scores(
        miou=0.5,
        pixel_accuracy=0.75,
        classes=(ClassScore("road", 0, 0.5, 0.5, 1.0, 10, 5, (0.4, 0.6)), ClassScore("car", 1, None, None, None, 0, 0)),
        confusion=((5, 5), (0, 0)),
        images=(ImageScore("a", None, 3, 4),),
        protocol=Protocol(),
        baseline_class="road",
        baseline_miou=1.0,
        never_predicted=(),
        data="shapes val",
        notes=(Note("labelled-in-windows", "1 of 1 images"),),
        intervals=Intervals("image", 40, (0.45, 0.55), None),
        bands=(BandScore("5 px", 0.25, (0.125, 0.375), None, None),),
        parts=(PartScore("larger", 2, 900, 0.5, (0.25, 0.75)),),
    )
    value = json.loads(json.dumps(scores.to_json(), allow_nan=False))
    assert value["miou_over"] == "1 of 2 classes"
    assert value["classes"][1]["iou"] is None
    assert value["notes"] == [{"code": "labelled-in-windows", "message": "1 of 1 images"}]
    assert Scores.from_json(value) == scores
    assert value["intervals"] == {"unit": "image", "count": 40, "miou": [0.45, 0.55], "pixel_accuracy": None}
    older = {name: part for name, part in value.items() if name not in ("intervals", "bands", "parts")}
    older["classes"] = [
        {name: part for name, part in row.items() if name != "iou_interval"} for row in older["classes"]
    ]
    assert Scores.from_json(older).intervals is Scores.from_json(older).classes[0].iou_interval is None
    assert value["baseline"] == {"class": "road", "miou": 1.0}


def test_a_note_is_a_message_with_a_code_wherever_it_goes():
    note = Note("held-out", "3 of 10 pairs held out")
    assert note == "3 of 10 pairs held out"
    for copied in (pickle.loads(pickle.dumps(note)), copy.copy(note), copy.deepcopy(note), Note(**note.to_json())):
        assert (copied, copied.code) == (note, "held-out")
    assert json.loads(json.dumps({"plan": [note]})) == {"plan": [note]}
    assert list_notes(["loading", note, note]) == [{"code": "held-out", "message": note}]


def test_a_collector_passes_messages_on_and_keeps_each_note_once():
    said: list[str] = []
    collector = NoteCollector(said.append)
    for message in ("loading", Note("held-out", "3 of 10"), Note("held-out", "3 of 10")):
        collector(message)
    assert said == ["loading", "3 of 10", "3 of 10"]
    assert [(note.code, note) for note in collector.notes] == [("held-out", "3 of 10")]
    NoteCollector()("nobody listens")


@pytest.mark.parametrize(
    ("count", "reason"),
    [
        (9, "no intervals: 9 images are too few to say"),
        (10, "no intervals over 10 images: each has the same score, or fewer than 10 have labelled pixels"),
    ],
)
def test_the_reason_for_no_intervals_is_the_true_one(count: int, reason: str) -> None:
    assert Intervals("image", count, None, None).describe() == reason
