from __future__ import annotations

import json

from atrous.core.records import ClassScore, ImageScore, Protocol, Scores


def test_a_protocol_says_all_that_can_change_a_score():
    assert Protocol().describe() == "output stride 16, one scale, no flip, whole image, fp32"
    wide = Protocol(output_stride=8, scales=(0.75, 1.0, 1.25), flip=True, window=513, precision="bf16")
    assert wide.describe() == "output stride 8, scales 0.75 1 1.25, flip, window 513, bf16"
    assert wide.to_json()["scales"] == [0.75, 1.0, 1.25]


def test_scores_are_strict_json_and_count_the_classes_they_are_a_mean_of():
    scores = Scores(
        miou=0.5,
        pixel_accuracy=0.75,
        classes=(ClassScore("road", 0, 0.5, 0.5, 1.0, 10, 5), ClassScore("car", 1, None, None, None, 0, 0)),
        confusion=((5, 5), (0, 0)),
        images=(ImageScore("a", None, 3, 4),),
        protocol=Protocol(),
        baseline_class="road",
        baseline_miou=1.0,
        never_predicted=(),
        data="shapes val",
    )
    value = json.loads(json.dumps(scores.to_json(), allow_nan=False))
    assert value["miou_over"] == "1 of 2 classes"
    assert value["classes"][1]["iou"] is None
    assert value["baseline"] == {"class": "road", "miou": 1.0}
