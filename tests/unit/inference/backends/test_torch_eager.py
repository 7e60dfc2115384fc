from __future__ import annotations

import pytest
import torch
from torch import nn

from atrous.inference.backends.torch_eager import NARROW_PX, TorchEager, _WideConvolutions
from tiny import build_tiny

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


@pytest.mark.parametrize(("width", "widened"), [(1, True), (NARROW_PX, True), (NARROW_PX + 1, False)])
def test_only_narrow_images_in_bf16_are_widened(width: int, widened: bool) -> None:
    for precision in ("fp32", "bf16"):
        network = build_tiny()
        modes: list[int] = []
        network.backbone.register_forward_pre_hook(lambda *_: modes.append(torch._C._len_torch_function_stack()))  # noqa: B023
        backend = TorchEager(network, device=torch.device("cpu"), precision=precision)
        backend(torch.zeros(1, 3, 40, width, dtype=torch.uint8))
        assert modes == [int(widened and precision == "bf16")]
