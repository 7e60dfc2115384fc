from __future__ import annotations

import pytest
import torch
from torch import nn

from atrous.inference.backends.torch_eager import NARROW_PX, TorchEager, _WideConvolutions
from atrous.inference.precision import computes_bf16
from atrous.networks.heads.imagepyramid import ImagePyramidHead
from atrous.networks.segmenter import Segmenter
from tiny import TinyBackbone, build_tiny

CONVOLUTIONS = [
    {"kernel_size": 1},
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": 3, "padding": 6, "dilation": 6},
    {"kernel_size": 5, "padding": 2, "stride": 2, "groups": 4, "bias": False},
]


@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("size", [(9, 1), (1, 1), (1, 9), (9, 2)])
def test_a_second_column_of_zeros_changes_no_result(options: dict[str, int], size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    conv, features = nn.Conv2d(4, 8, **options), torch.randn(2, 4, *size)
    with torch.inference_mode():
        expected = conv(features)
        with _WideConvolutions():
            found = conv(features)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"padding": "valid"}, {"padding": "same"}], ids=str)
@pytest.mark.parametrize("size", [(9, 3), (9, 4), (33, 5)])
def test_other_paddings_are_widened_too(options: dict[str, object], size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    conv, features = nn.Conv2d(4, 8, 3, **options), torch.randn(2, 4, *size)
    with torch.inference_mode():
        expected = conv(features)
        with _WideConvolutions():
            found = conv(features)
    torch.testing.assert_close(found, expected)


@pytest.mark.skipif(not computes_bf16("cpu"), reason="this CPU does not multiply bf16")
@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("width", [1, 2, 3])
def test_narrow_maps_in_bf16_read_no_memory_that_was_not_written(options: dict[str, int], width: int) -> None:
    torch.manual_seed(0)
    conv, features = nn.Conv2d(4, 8, **options), torch.randn(1, 4, 65, width)
    with torch.inference_mode():
        expected = conv(features)
        for _ in range(6):
            for elements in (64, 256, 1024, 4096, 16384):  # what is freed here is what a convolution gets next
                for _ in range(8):
                    torch.full((elements,), torch.nan, dtype=torch.bfloat16)
            with _WideConvolutions(), torch.autocast("cpu", torch.bfloat16):
                found = conv(features.contiguous(memory_format=torch.channels_last))
            torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(("width", "widened"), [(1, True), (NARROW_PX, True), (NARROW_PX + 1, False)])
def test_only_narrow_images_in_bf16_are_widened(width: int, widened: bool) -> None:
    for precision in ("fp32", "bf16"):
        network = build_tiny()
        modes: list[int] = []
        network.backbone.register_forward_pre_hook(lambda *_: modes.append(torch._C._len_torch_function_stack()))  # noqa: B023
        backend = TorchEager(network, device=torch.device("cpu"), precision=precision)
        backend(torch.zeros(1, 3, 40, width, dtype=torch.uint8))
        assert modes == [int(widened and precision == "bf16")]


@pytest.mark.parametrize("resize", ["aligned", "half_pixel"])
@pytest.mark.parametrize(("width", "widened"), [(NARROW_PX + 1, True), (2 * NARROW_PX, True), (4 * NARROW_PX, False)])
def test_images_that_a_head_sees_narrower_are_widened_too(resize: str, width: int, widened: bool) -> None:
    backbone = TinyBackbone()
    head = ImagePyramidHead(backbone.feature_shapes, 3, scales=(0.5, 0.75, 1.0))
    network = Segmenter(backbone, head, num_classes=3, resize=resize).eval()
    modes: list[int] = []
    backbone.register_forward_pre_hook(lambda *_: modes.append(torch._C._len_torch_function_stack()))
    TorchEager(network, device=torch.device("cpu"), precision="bf16")(torch.zeros(1, 3, 40, width, dtype=torch.uint8))
    assert modes == [int(widened)] * 3
