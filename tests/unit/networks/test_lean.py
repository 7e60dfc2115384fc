from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from atrous.losses.contracts import count_weight
from atrous.losses.cross_entropy import CrossEntropy
from atrous.networks.backbones.efficientnet_lite import InvertedUnit
from atrous.networks.contracts import Backbone, FeatureLevel, FeatureShapes
from atrous.networks.heads.deeplabv3 import DeepLabV3Head
from atrous.networks.layers.conv import DepthwiseConv
from atrous.networks.layers.lean import set_lean
from atrous.networks.segmenter import Segmenter
from atrous.training.task import TrainingTask


class Inverted(Backbone):
    """A stem and a depthwise unit."""

    feature_shapes = FeatureShapes((FeatureLevel(8, 4),))

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.unit = InvertedUnit(8, 8, kernel=3, stride=2, expansion=2)

    def forward(self, image):
        return [self.unit(self.stem(image))]


def build() -> Segmenter:
    """Small, with every layer that the switch is about; its rates miss most of the map."""
    torch.manual_seed(0)
    backbone = Inverted()
    head = DeepLabV3Head(backbone.feature_shapes, 3, rates=(1, 2), channels=8, dropout=0.0)
    return Segmenter(backbone, head, num_classes=3, output_stride=4).train()


def list_nodes(node, found: set[str]) -> set[str]:
    """Return the names of all operations of a graph."""
    if node is not None and node not in found:
        found.add(node)
        for following, _ in node.next_functions:
            list_nodes(following, found)
    return found


def run_step(network: Segmenter, lean: bool):
    set_lean(network, lean)
    images = torch.randint(256, (2, 3, 33, 33), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    labels = torch.randint(3, (2, 33, 33), generator=torch.Generator().manual_seed(2))
    loss = TrainingTask(network, CrossEntropy(), lean=lean)(images, labels, count_weight(labels))
    names = {node.name() for node in list_nodes(loss.grad_fn, set())}
    loss.backward()
    return loss.detach(), [parameter.grad for parameter in network.parameters()], names


def test_a_step_is_the_same_with_and_without() -> None:
    lean, plain = build(), build()
    loss, gradients, names = run_step(lean, True)
    expected, expected_gradients, plain_names = run_step(plain, False)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(lean.state_dict(), plain.state_dict())
    own = {"_NormActBackward", "_ConvolveBackward"}
    assert own <= names
    assert not own & plain_names
    assert "NativeBatchNormBackward0" in plain_names


def test_off_leaves_depthwise_convolutions_to_autocast() -> None:
    torch.manual_seed(0)
    conv, features = DepthwiseConv(8, 3), torch.randn(1, 8, 9, 9).bfloat16()
    found = {}
    for lean in (True, False):
        set_lean(conv, lean)
        with torch.autocast("cpu", torch.bfloat16):
            found[lean] = conv(features)
    precise = F.conv2d(features.float(), conv.weight, padding=1, groups=8)
    torch.testing.assert_close(found[True], precise.bfloat16(), rtol=0, atol=0)
    narrow = F.conv2d(features, conv.weight.bfloat16(), padding=1, groups=8)
    torch.testing.assert_close(found[False], narrow, rtol=0, atol=0)
    assert not torch.equal(found[True], found[False])


@pytest.mark.parametrize("lean", [True, False])
def test_a_copy_keeps_the_setting_and_tensors_are_untouched(lean: bool) -> None:
    network = build()
    names = list(network.state_dict())
    set_lean(network, lean)
    again = copy.deepcopy(network)
    assert again.backbone.unit.layers[3].lean is lean
    assert list(again.state_dict()) == names
