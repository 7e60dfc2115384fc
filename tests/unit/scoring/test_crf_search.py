"""DenseCRF after the network: what is scored, what is shown beside it, and what a search finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score

from atrous.config.schema import ModelConfig
from atrous.core.errors import ConfigError, DataError, MachineError
from atrous.core.inference_options import InferenceOptions
from atrous.core.labels import LabelSpace
from atrous.core.records import Protocol
from atrous.crf import dense as crf_module
from atrous.crf.dense import DenseCRF
from atrous.data.datasets.shapes import build_shapes
from atrous.inference.build import build_labeller, read_crf_options
from atrous.inference.engine import Engine
from atrous.inference.labelling.labeller import Labeller
from atrous.networks.build import build_network
from atrous.scoring.crf_search import GRID, search_crf
from scored import score

SHAPES = build_shapes(num_train=1, num_val=2, size=65).val


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = build_network(ModelConfig(name="fcn-lite0", weights="none"), SHAPES.label_space.num_classes)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    images = torch.stack([torch.from_numpy(SHAPES.get(index).image) for index in range(len(SHAPES))])
    with torch.no_grad():
        network(images.permute(0, 3, 1, 2))  # norms take their statistics, else hardly a feature differs from 0
    torch.nn.init.normal_(network.head.classifier.weight, std=0.1)
    return network.eval()


def build(network, **options) -> Labeller:
    return build_labeller(Engine(network, device="cpu"), SHAPES.label_space, InferenceOptions(**options))


def test_the_field_follows_the_network_and_the_score_without_it_stands_beside(network) -> None:
    options = {"bilateral_xy_px": 20.0, "num_iterations": 3}
    plain, refined = build(network), build(network, crf=options)
    truth, labels = [], []
    for index in range(len(SHAPES)):
        sample = SHAPES.get(index)
        pixels = torch.from_numpy(sample.image).permute(2, 0, 1)
        probs = torch.cat([found.band.compute_probs() for found in plain.iter_labels(sample.image)], dim=1)
        with torch.no_grad():
            marginals = DenseCRF(**options)(probs.clamp_min(1e-5).log(), pixels)
        indices, confidence, kept = refined.label_image(sample.image, probabilities=True)
        np.testing.assert_array_equal(indices, marginals.argmax(0).numpy())
        np.testing.assert_allclose(confidence, marginals.max(0).values.numpy(), atol=1e-6)
        np.testing.assert_allclose(kept, marginals.numpy(), atol=1e-3)
        truth.append(sample.labels.ravel())
        labels.append(indices.ravel())
    scores, before = score(refined, SHAPES), score(plain, SHAPES)
    assert scores.miou == pytest.approx(jaccard_score(np.concatenate(truth), np.concatenate(labels), average="macro"))
    assert scores.miou_before_crf == before.miou != scores.miou
    assert before.miou_before_crf is None
    assert "DenseCRF with" in scores.protocol.describe()
    assert "bilateral_xy_px=20.0" in scores.protocol.describe()
    assert type(scores).from_json(scores.to_json()) == scores


def test_windows_are_blended_before_the_field(network) -> None:
    image = SHAPES.get(0).image
    refined = build(network, window=33, crf=True)
    probs = torch.cat([found.band.compute_probs() for found in build(network, window=33).iter_labels(image)], dim=1)
    with torch.no_grad():
        marginals = DenseCRF()(probs.clamp_min(1e-5).log(), torch.from_numpy(image).permute(2, 0, 1))
    np.testing.assert_array_equal(refined.label_image(image)[0], marginals.argmax(0).numpy())


def test_every_setting_is_searched_and_scores_as_in_an_evaluation(network) -> None:
    trials = search_crf(build(network), SHAPES)
    assert len(trials) == 1 + np.prod([len(values) for values in GRID.values()])
    assert [trial.miou for trial in trials] == sorted((trial.miou for trial in trials), reverse=True)
    for trial in (trials[0], trials[-1]):
        assert score(build(network, crf=trial.options or False), SHAPES).miou == pytest.approx(trial.miou)
    assert score(build(network), SHAPES).miou in [trial.miou for trial in trials if trial.options is None]


def test_options_are_checked_by_name_and_type() -> None:
    assert read_crf_options(False) is None
    assert read_crf_options(True)["bilateral_weight"] == 4.0
    assert read_crf_options({"num_iterations": 5.0})["num_iterations"] == 5
    with pytest.raises(ConfigError, match=r"evaluation\.crf\.bilateral: unknown option"):
        read_crf_options({"bilateral": 3})
    with pytest.raises(ConfigError, match=r"evaluation\.crf\.bilateral_rgb"):
        read_crf_options({"bilateral_rgb": "wide"})


def test_a_field_that_does_not_fit_in_memory_is_refused_before_it_is_tried(network, monkeypatch) -> None:
    monkeypatch.setattr(crf_module, "compute_available_bytes", lambda _: 2**20)
    with pytest.raises(MachineError, match=r"DenseCRF on 65 x 65 pixels and 6 classes takes about \d+ MiB; 1 MiB are"):
        build(network, crf=True).label_image(SHAPES.get(0).image)
    with pytest.raises(MachineError, match="DenseCRF on 65 x 65 pixels"):
        search_crf(build(network), SHAPES)


def test_a_search_needs_data_of_the_same_classes(network) -> None:
    names = SHAPES.label_space.names[::-1]
    labeller = build_labeller(Engine(network, device="cpu"), LabelSpace(names), InferenceOptions())
    with pytest.raises(DataError, match="the model's classes are"):
        search_crf(labeller, SHAPES)


def test_protocols_written_before_there_was_a_field_are_read() -> None:
    old = {name: value for name, value in Protocol().to_json().items() if name != "crf"}
    assert Protocol.from_json(old) == Protocol()
