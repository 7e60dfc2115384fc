from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import gloo
from atrous.config.schema import EvaluationConfig, ModelConfig
from atrous.data.datasets.shapes import build_shapes
from atrous.networks.build import build_network
from atrous.networks.segmenter import Segmenter
from atrous.training import validation
from atrous.training.validation import Validator
from atrous.training.world import World
from scored import score

VAL = build_shapes(num_train=1, num_val=2, size=129).val


def build(pooling_window: int | None) -> Segmenter:
    """A network whose answer hangs on the image-level features."""
    torch.manual_seed(0)
    how = {} if pooling_window is None else {"image_pooling": "crop_window", "pooling_window": pooling_window}
    head = {"rates": [1, 2], "channels": 8}
    config = ModelConfig(name="deeplabv3-resnet18", weights="none", head=head, **how)
    network = build_network(config, VAL.label_space.num_classes).eval()
    nn.init.normal_(network.head.aspp.projection.conv.weight, std=2.0)
    nn.init.normal_(network.head.classifier.weight, std=3.0)
    return network


def build_validator(network: Segmenter, evaluation: EvaluationConfig) -> Validator:
    return Validator(network, VAL, evaluation, device="cpu", world=World.alone(), on_message=lambda _: None)


def validate(network: Segmenter) -> tuple[Validator, float]:
    validator = Validator(
        network, VAL, EvaluationConfig(), device="cpu", world=World.alone(), on_message=lambda _: None
    )
    return validator, validator.run().miou


def test_a_network_with_windows_is_scored_without_them_too() -> None:
    """The images are larger than the crop, so what is averaged over windows is not what is averaged over all."""
    network = build(33)
    validator, miou = validate(network)
    _, whole = validate(build(None))
    assert miou != whole
    [sentence] = validator.compare_pooling(validator.run())
    assert f"mIoU {miou:.4f} averaged over windows of 33 pixels, {whole:.4f} over the whole image" in sentence
    assert network.pooling_window == 33


@pytest.mark.parametrize("window", [None, 129])
def test_where_windows_change_nothing_nothing_is_said(window: int | None) -> None:
    validator, _ = validate(build(window))
    assert validator.compare_pooling(validator.run()) == ()


def test_the_score_in_bf16_is_found_where_validations_are_not_in_it_and_the_machine_gains(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    validator, miou = validate(build(None))
    scores = validator.run()
    monkeypatch.setattr(validation, "computes_bf16", lambda kind: True)
    found = validator.score_bf16(scores)
    assert found is not None
    assert found != miou  # random weights do not bear it to the last digit
    assert found == pytest.approx(miou, abs=0.1)
    monkeypatch.setattr(validation, "computes_bf16", lambda kind: False)
    assert validator.score_bf16(scores) is None
    monkeypatch.setattr(validation, "computes_bf16", lambda kind: True)
    named = build_validator(build(None), EvaluationConfig(precision="fp32"))
    assert named.score_bf16(named.run()) is None


def test_at_the_end_a_temperature_is_chosen_on_the_validation_images() -> None:
    network = build(None)
    with torch.no_grad():
        network.head.classifier.weight.mul_(0.05)  # sure and wrong, but not of all pixels
    images = build_shapes(num_train=1, num_val=10, size=65).val
    validator = Validator(
        network, images, EvaluationConfig(), device="cpu", world=World.alone(), on_message=lambda _: None
    )
    scores = validator.conclude()
    plain = validator.run()
    assert scores.calibration is not None
    chosen = scores.calibration.chosen
    assert (chosen.data, chosen.reason) == ("shapes val", "")
    assert chosen.temperature > 1.5
    assert scores.calibration.error < scores.calibration.error_before - 0.05
    assert scores.confusion == plain.confusion
    # What `atrous eval` finds with this temperature is the same, but for the grid of pixels.
    validator.labeller.chosen = chosen
    again = score(validator.labeller, images)
    assert again.confusion == plain.confusion
    assert again.calibration.error == pytest.approx(scores.calibration.error, abs=0.02)
    assert again.calibration.error_before == pytest.approx(scores.calibration.error_before, abs=0.02)


def test_two_processes_count_every_image_once_and_exactly(two_processes) -> None:
    """Sets of 1, 3 and 101 images: the second process has none of the first set, and ignored ones of the others."""
    alone = gloo.count_sets(World.alone())
    for found in (each["counts"] for each in two_processes):
        for own, expected, size in zip(found, alone, gloo.SET_SIZES, strict=True):
            assert own.total.counts.dtype == np.int64
            assert np.array_equal(own.total.counts, expected.total.counts)
            assert own.total.counts.sum() == 65 * 65 * ((size + 1) // 2)
            assert sorted(own.images) == list(range(size))
            assert own.images == expected.images
