from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from atrous.core.errors import ConfigError
from atrous.networks.build import build_network_from
from atrous.networks.segmenter import Segmenter
from atrous.studies import figures
from atrous.studies.figures import compute_side, measure_gradient, measure_theoretical, run_figures


@pytest.fixture(autouse=True)
def _short_strip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than what these networks see, and quicker."""
    monkeypatch.setattr(figures, "STRIP_PX", 2049)


def build(name: str, **model: object) -> Segmenter:
    torch.manual_seed(0)
    return build_network_from({"name": name, **model}, 2).eval()


def add_up(network: Segmenter, widest_rate: int = 0) -> int:
    """Return what windows one after another see: 1 + the sum of (kernel - 1) * rate * stride before.

    Atrous convolution leaves it as it is at native strides.
    """
    below = sum((max(site.kernel) - 1) * site.unit_rate * site.native_in for site in network.sites)
    return 1 + below + 2 * widest_rate * 16


@pytest.mark.parametrize("output_stride", [8, 32])
@pytest.mark.parametrize("name", ["fcn-resnet18", "fcn-lite0"])
def test_the_theoretical_field_is_the_sum_over_windows(name: str, output_stride: int) -> None:
    network = build(name, output_stride=output_stride)
    assert measure_theoretical(network) == add_up(network)


def test_the_widest_rate_of_the_head_adds_to_it() -> None:
    network = build("deeplabv3-resnet18", head={"image_features": False, "rates": [6, 12, 18]})
    assert measure_theoretical(network) == add_up(network, widest_rate=18)


def test_image_pooling_sees_the_whole_image() -> None:
    assert measure_theoretical(build("deeplabv3-resnet18")) is None


def test_measuring_leaves_the_network_as_it_was() -> None:
    network = build("fcn-resnet18")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    measure_theoretical(network)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert any(isinstance(module, nn.MaxPool2d) for module in network.modules())


def test_the_gradient_lies_within_the_theoretical_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "IMAGE_PX", 449)
    monkeypatch.setattr(figures, "NUM_IMAGES", 1)
    network = build("fcn-resnet18")
    side = measure_theoretical(network)
    assert side < 449
    gradient = measure_gradient(network)
    rows, columns = np.nonzero(gradient)
    assert max(abs(rows - 224).max(), abs(columns - 224).max()) <= side // 2
    assert 1 < compute_side(gradient) < side


def test_the_side_is_that_of_the_area_that_counts() -> None:
    gradient = np.zeros((20, 20))
    gradient[5:14, 3:7] = 0.05
    gradient[6, 4] = 1.0
    gradient[0] = 0.045  # below 4.55 % of the largest
    assert compute_side(gradient) == pytest.approx(6.0)


def test_the_figures_are_written(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "IMAGE_PX", 65)
    monkeypatch.setattr(figures, "NUM_IMAGES", 1)
    monkeypatch.setattr(figures, "FAMILIES", ("fcn", "deeplabv3"))
    random = torch.random.get_rng_state()
    written = run_figures("resnet18", tmp_path)
    assert torch.equal(torch.random.get_rng_state(), random)
    folder = tmp_path / "figures"
    assert json.loads((folder / "figures.json").read_text()) == json.loads(json.dumps(written))
    assert [field["network"] for field in written["fields"]] == ["fcn", "deeplabv3", figures.ASPP_ALONE]
    page = (folder / "figures.md").read_text()
    assert "| deeplabv3 | the whole image |" in page
    assert "| 65 | 0.0% | 0.0% | 100.0% |" in page
    for name in ("taps.png", "fields.png"):
        with Image.open(folder / name) as image:
            assert min(image.size) > 300


def test_a_backbone_that_is_not_there_is_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match="unknown backbone 'resnet19'"):
        run_figures("resnet19", tmp_path)
    assert not (tmp_path / "figures").exists()
