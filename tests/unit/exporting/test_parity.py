from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from atrous.core.errors import ModelFileError
from atrous.exporting.parity import SHAPES, Parity, draw_images, measure_parity, require_parity
from atrous.inference.engine import Engine
from atrous.networks.contracts import Geometry
from atrous.networks.segmenter import Segmenter


def wrap(network: Segmenter, change: float = 0.0, *, labels_only: bool = False) -> object:
    """What stands for a runtime: the network itself, with the least logit of one pixel changed."""

    class Runtime:
        def __call__(self, images: Tensor) -> SimpleNamespace:
            logits = network(images)
            logits[0, logits[0, :, 0, 0].argmin(), 0, 0] += change
            height, width = images.shape[2:]
            geometry = Geometry(height, width, height, width, stride=1, aligned=network.aligned)
            return SimpleNamespace(logits=logits, geometry=geometry)

        def label(self, images: Tensor) -> Tensor:
            return self(images).logits.argmax(dim=1)

    runtime = Runtime()
    runtime.labels_only = labels_only
    return runtime


def test_the_network_equals_itself(tiny_network: Segmenter) -> None:
    parity = measure_parity(tiny_network, wrap(tiny_network), draw_images())
    assert (parity.logits, parity.labels) == (0.0, 0.0)
    assert parity.pixels == sum(batch * height * width for batch, height, width in SHAPES)
    require_parity(parity, "file")


def test_the_largest_difference_counts_in_shares_of_the_spread(tiny_network: Segmenter) -> None:
    [image, *_] = draw_images()
    with torch.inference_mode():
        logits = tiny_network(image)
    spread = float(logits.max() - logits.min())
    parity = measure_parity(tiny_network, wrap(tiny_network, 10 * spread), [image])
    assert parity.logits == pytest.approx(10, rel=1e-4)
    assert parity.labels == pytest.approx(1 / (32 * 32))


def test_labels_alone_have_no_logits_to_compare(tiny_network: Segmenter) -> None:
    parity = measure_parity(tiny_network, wrap(tiny_network, 1e6, labels_only=True), draw_images())
    assert parity.logits is None
    assert parity.labels > 0
    assert parity.describe().endswith("have a different label")


def test_images_make_logits_differ(tiny_network: Segmenter) -> None:
    with torch.inference_mode():
        labels = torch.cat([tiny_network(image).argmax(dim=1).flatten() for image in draw_images()])
    assert len(labels.unique()) > 1


@pytest.mark.parametrize("parity", [(2e-3, 0.0), (0.0, 2e-3), (float("nan"), 0.0), (None, 0.5)])
def test_a_file_that_answers_otherwise_is_refused(parity: tuple[float | None, float]) -> None:
    with pytest.raises(ModelFileError, match=r"m\.onnx: its results differ from the network.s: .*different label"):
        require_parity(Parity(*parity, pixels=100, images=()), "m.onnx")


def test_rounded_weights_may_differ_more_than_another_runtime_and_not_without_limit() -> None:
    allowed, refused = (Parity(share, share, 100, ((10, 10),)) for share in (0.009, 0.011))
    require_parity(allowed, "file", "fp16")
    with pytest.raises(ModelFileError, match=r"1\.0% of the labels and 0\.01 of the logits"):
        require_parity(refused, "file", "fp16")
    with pytest.raises(ModelFileError, match="differ"):
        require_parity(allowed, "file")


def test_cells_of_a_network_are_compared_at_the_pixels(tiny_network: Segmenter) -> None:
    backend = Engine(tiny_network, device="cpu").open_backend(tiny_network.output_stride, "fp32")
    parity = measure_parity(tiny_network, backend, draw_images())
    assert parity.logits == pytest.approx(0, abs=1e-5)
    assert parity.pixels == sum(batch * height * width for batch, height, width in SHAPES)
