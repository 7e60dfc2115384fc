"""Atrous convolution by tap and by phase is the library's, with both gradients; and the rule that chooses."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn import functional as F

from atrous.networks.layers import atrous, ways
from atrous.networks.layers import conv as conv_module
from atrous.networks.layers.atrous import LIBRARY, Taps, Ways, convolve
from atrous.networks.layers.conv import Conv
from atrous.networks.layers.ways import choose_ways, explain_ways, find_taps
from tiny import FEWEST_CHANNELS

TABLE = Path(__file__).parents[3] / "results" / "performance" / "atrous_ways.csv"
COLUMNS = ("kind", "dtype", "batch", "channels", "filters", "cells", "kernel", "rate", "is_depthwise", "part")
SLOWER = {
    # Rate 1, where mirroring is the output's time, and a millisecond or three is all there is to gain.
    ("avx2", "float32", "1", "256", "256", "33", "3", "1", "True", "of_features"),
    ("avx512", "float32", "8", "1152", "1152", "23", "5", "1", "True", "of_features"),
    # One image: eight take 2 to 5 times as long in the library as by phase.
    ("avx2", "float32", "1", "256", "256", "33", "3", "12", "True", "output"),
    ("avx2", "float32", "1", "256", "256", "33", "3", "12", "True", "of_features"),
    # Eight images with phases of 3 x 3 cells: of one, the library takes less than half the time.
    ("avx512", "float32", "8", "256", "256", "33", "3", "12", "True", "of_weight"),
    ("amx", "bfloat16", "8", "256", "256", "33", "3", "12", "True", "output"),
    # Rows of 1.4 MiB in a busy hour, which leaves less of the cache: in a quiet one they fit.
    ("amx", "bfloat16", "1", "320", "256", "65", "3", "12", "False", "output"),
}
"""Cases that the rule, which has few limits, takes more than 1.5 times as long for as the fastest way."""
KINDS = ("amx", "avx512", "avx2", "other")


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def require_equal_to_library(taps: Taps, chosen: Ways, size: tuple[int, int], channels: int = 4) -> None:
    """Compare output, both gradients and the gradient of a gradient with PyTorch's, in float64."""
    filters = channels if taps.groups > 1 else 5
    inputs = draw(3, channels, *size), draw(filters, channels // taps.groups, *taps.kernel), draw(filters)
    expected = F.conv2d(*inputs, padding=taps.reach, dilation=taps.rate, groups=taps.groups)
    found = convolve(*inputs, taps, chosen)
    torch.testing.assert_close(found, expected)
    towards = draw(*expected.shape, seed=1).detach()
    ours, theirs = (torch.autograd.grad(out, inputs, towards, retain_graph=True) for out in (found, expected))
    torch.testing.assert_close(ours, theirs)
    twice = []
    for out in (found, expected):
        (first,) = torch.autograd.grad(out.square().sum(), inputs[:1], create_graph=True)
        twice.append(torch.autograd.grad(first.square().sum(), inputs))
    torch.testing.assert_close(*twice)


@pytest.mark.parametrize(
    ("kernel", "rate", "size"),
    [
        ((3, 3), (3, 3), (7, 9)),
        ((3, 3), (7, 8), (7, 9)),  # vertical side taps reach beyond every cell
        ((3, 3), (20, 20), (7, 9)),
        ((5, 3), (2, 4), (9, 5)),
        ((3, 3), (2, 2), (1, 4)),
        ((3, 3), (2, 1), (6, 6)),
    ],
)
@pytest.mark.parametrize("way", ["library", "taps", "phases", "mirroring"])
def test_each_way_is_exact(
    way: atrous.Way, kernel: tuple[int, int], rate: tuple[int, int], size: tuple[int, int]
) -> None:
    ways_of_parts = Ways(of_features=way) if way == "mirroring" else Ways(way, way, way)
    for groups in (1,) if way == "taps" else (1, 2, 4):
        require_equal_to_library(Taps(kernel, rate, groups), ways_of_parts, size)


def test_ways_can_be_mixed() -> None:
    plain = ("library", "taps", "phases")
    for each in itertools.product(plain, (*plain, "mirroring"), plain):
        require_equal_to_library(Taps((3, 3), (2, 3)), Ways(*each), (8, 7))


def test_weight_gradient_is_the_same_in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atrous, "BUFFER_BYTES", 1)
    require_equal_to_library(Taps((3, 3), (3, 3)), Ways(of_weight="taps"), (7, 9))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_depthwise", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_layer_is_a_plain_convolution_on_every_cpu(
    kind: str, is_depthwise: bool, layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "KIND", kind)
    torch.manual_seed(0)
    shape = {"in_channels": 4, "out_channels": 4, "groups": 4 if is_depthwise else 1}
    for rate, bias in itertools.product((1, 2, 9), (False, True)):
        layer = Conv(**shape, kernel_size=3, padding=rate, dilation=rate, bias=bias)
        plain = nn.Conv2d(**shape, kernel_size=3, padding=rate, dilation=rate, bias=bias)
        plain.load_state_dict(layer.state_dict())
        images = [torch.randn(2, 4, 13, 13).contiguous(memory_format=layout) for _ in range(2)]
        images[1] = images[0].clone(memory_format=torch.preserve_format)
        for each, image in zip((layer, plain), images, strict=True):
            each(image.requires_grad_()).square().sum().backward()
        for ours, theirs in zip(layer.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad)
        torch.testing.assert_close(images[0].grad, images[1].grad)
        with torch.inference_mode():
            torch.testing.assert_close(layer(images[0]), plain(images[0]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("groups", [1, 16])
def test_autocast_is_as_exact_as_bf16(kind: str, groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "KIND", kind)
    torch.manual_seed(0)
    layer = Conv(16, 16, 3, padding=12, dilation=12, bias=False, groups=groups)
    features = torch.randn(2, 16, 17, 17, requires_grad=True)
    towards = torch.randn(2, 16, 17, 17)
    wanted = torch.autograd.grad(layer(features), (features, layer.weight), towards)
    with torch.autocast("cpu", torch.bfloat16):
        narrow = features.bfloat16().detach().requires_grad_()
        out = layer(narrow)
    assert out.dtype == torch.bfloat16
    found = torch.autograd.grad(out, (narrow, layer.weight), towards.bfloat16())
    assert [each.dtype for each in found] == [torch.bfloat16, torch.float32]
    for ours, exact in zip(found, wanted, strict=True):
        assert float((ours.float() - exact).abs().max() / exact.abs().max()) < 0.01


def test_outputs_by_tap_in_bf16_err_at_most_twice_as_much_as_the_librarys() -> None:
    """Their sum is rounded after each tap."""
    taps, weight = Taps((3, 3), (12, 12)), draw(64, 256, 3, 3).detach().bfloat16()
    features = draw(1, 256, 33, 33).detach().bfloat16()
    exact = atrous.compute_output(features.double(), weight.double(), taps, "library")
    errors = {}
    for way in ("library", "taps", "phases"):
        found = atrous.compute_output(features, weight, taps, way)
        errors[way] = float((found.double() - exact).norm() / exact.norm())
    assert errors["taps"] < 2 * errors["library"], errors
    assert errors["phases"] < 1.1 * errors["library"], errors


WIDE = Ways("taps", "taps", "taps")


@pytest.mark.parametrize(("groups", "chosen"), [(1, WIDE), (4, Ways(of_features="mirroring", of_weight="phases"))])
def test_gradients_keep_the_dtype_of_the_forward_pass_where_autocast_is_on(groups: int, chosen: Ways) -> None:
    """As the library's do: backward() may be called inside autocast."""
    taps = Taps((3, 3), (2, 2), groups)
    inputs = [each.detach().float().requires_grad_() for each in (draw(2, 4, 9, 9), draw(4, 4 // groups, 3, 3))]
    out = convolve(*inputs, None, taps, chosen)
    expected = torch.autograd.grad(out, inputs, torch.ones_like(out), retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = torch.autograd.grad(out, inputs, torch.ones_like(out))
    assert all(map(torch.equal, found, expected))


def test_weight_gradient_in_bf16_is_summed_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many pieces, as of many images."""
    monkeypatch.setattr(atrous, "BUFFER_BYTES", 1)
    taps, weight = Taps((3, 3), (3, 3)), torch.zeros(5, 4, 3, 3, dtype=torch.bfloat16)
    features, gradient = (draw(64, channels, 9, 9).detach().bfloat16() for channels in (4, 5))
    exact = atrous.differentiate_weight(gradient.double(), features.double(), weight.double(), taps, "library")
    found = atrous.differentiate_weight(gradient, features, weight, taps, "taps")
    assert found.dtype == torch.bfloat16
    assert float((found.double() - exact).norm() / exact.norm()) < 2.5e-3  # bf16 rounds by 1.7e-3


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")  # PyTorch's own, of its own code
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("groups", [1, 4])
def test_forward_mode_differentiation_works_as_on_a_plain_convolution(
    kind: str, groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "KIND", kind)
    layer = Conv(4, 4, 3, padding=9, dilation=9, groups=groups)
    plain = nn.Conv2d(4, 4, 3, padding=9, dilation=9, groups=groups)
    plain.load_state_dict(layer.state_dict())
    features, tangent = torch.randn(2, 4, 13, 13, requires_grad=True), torch.randn(2, 4, 13, 13)
    moved = []
    for each in (layer, plain):
        with forward_ad.dual_level():
            moved.append(forward_ad.unpack_dual(each(forward_ad.make_dual(features, tangent))).tangent)
    torch.testing.assert_close(*moved)


def differentiate_at_once(layer: nn.Module, features: torch.Tensor, how: str) -> tuple[torch.Tensor, ...]:
    """Return several gradients that are computed at a time."""
    if how == "jacobian":
        return (torch.autograd.functional.jacobian(lambda each: layer(each).sum((2, 3)), features, vectorize=True),)
    if how == "hessian":
        some = features[:1, :, :3, :3]
        return (torch.autograd.functional.hessian(lambda each: layer(each).square().sum(), some, vectorize=True),)
    out, inputs = layer(features), (features, *layer.parameters())
    towards = torch.randn(3, *out.shape, generator=torch.Generator().manual_seed(1))
    if how == "is_grads_batched":
        return torch.autograd.grad(out, inputs, towards, is_grads_batched=True)
    return torch.func.vmap(lambda each: torch.autograd.grad(out, inputs, each, retain_graph=True))(towards)


@pytest.mark.filterwarnings("ignore:.*performance drop:UserWarning")  # PyTorch's own, where it divides one by one
@pytest.mark.parametrize("how", ["is_grads_batched", "jacobian", "hessian", "vmap"])
@pytest.mark.parametrize(("rate", "groups"), [(9, 1), (2, 4), (2, 1)])
@pytest.mark.parametrize("kind", KINDS)
def test_several_gradients_at_a_time_are_those_of_a_plain_convolution(
    kind: str, rate: int, groups: int, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "KIND", kind)
    torch.manual_seed(0)
    layer = Conv(4, 4, 3, padding=rate, dilation=rate, groups=groups)
    plain = nn.Conv2d(4, 4, 3, padding=rate, dilation=rate, groups=groups)
    plain.load_state_dict(layer.state_dict())
    features = torch.randn(2, 4, 13, 13, requires_grad=True)
    ours, theirs = (differentiate_at_once(each, features, how) for each in (layer, plain))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("is_cast", [False, True])
def test_complex_numbers_are_convolved_by_pytorch_alone(
    groups: int, is_cast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "KIND", "amx")
    monkeypatch.setattr(conv_module, "convolve", None)
    layer = Conv(4, 4, 3, padding=9, dilation=9, groups=groups, dtype=torch.complex64)
    features = torch.randn(2, 4, 40, 40, dtype=torch.complex64)
    for has_grad in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=is_cast), torch.set_grad_enabled(has_grad):
            assert torch.equal(layer(features), nn.Conv2d.forward(layer, features))


@pytest.mark.parametrize("groups", [1, 4])
def test_dtypes_are_those_of_a_plain_convolution(groups: int) -> None:
    """In training and in evaluation, under autocast and without: the same result, or a refusal of the same kind."""
    dtypes = (torch.float32, torch.bfloat16, torch.float64)
    for rate, bias, of_features, of_weight, is_cast, has_grad in itertools.product(
        (1, 9), (False, True), dtypes, dtypes, (False, True), (False, True)
    ):
        shape = {"padding": rate, "dilation": rate, "groups": groups, "bias": bias, "dtype": of_weight}
        layer, plain = Conv(4, 4, 3, **shape), nn.Conv2d(4, 4, 3, **shape)
        plain.load_state_dict(layer.state_dict())
        features, found = torch.randn(2, 4, 13, 13, dtype=of_features), []
        for each in (layer, plain):
            with torch.autocast("cpu", torch.bfloat16, enabled=is_cast), torch.set_grad_enabled(has_grad):
                try:
                    found.append(each(features).dtype)
                except RuntimeError as error:
                    found.append(type(error))
        own = found[1]
        if groups > 1 and is_cast and has_grad and of_weight == torch.float32 and of_features != torch.float64:
            own = of_features  # computed in fp32, see `Conv`
        assert found[0] == own, (shape, of_features, is_cast, has_grad, found)


def test_filters_laid_out_by_tap_are_the_same_and_need_no_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    taps, features = Taps((3, 3), (2, 4)), draw(2, 4, 9, 9).detach()
    weight = draw(5, 4, 3, 3).detach()
    stored = atrous.lay_out_by_tap(weight)
    assert torch.equal(stored, weight)
    by_tap = stored.permute(2, 3, 1, 0)
    assert by_tap.contiguous().data_ptr() == by_tap.data_ptr() == stored.data_ptr()
    for way in ("library", "taps", "phases"):
        found = atrous.compute_output(features, stored, taps, way)
        torch.testing.assert_close(found, atrous.compute_output(features, weight, taps, way))
    monkeypatch.setattr(ways, "KIND", "amx")
    monkeypatch.setattr(ways, "MANY_CHANNELS", 4)
    wide = nn.Conv2d(4, 5, 3, padding=2, dilation=2)
    assert ways.is_always_by_tap(wide, torch.bfloat16)
    assert not ways.is_always_by_tap(wide, torch.float32)
    assert not ways.is_always_by_tap(nn.Conv2d(4, 5, 3, padding=1), torch.bfloat16)
    assert not ways.is_always_by_tap(nn.Conv2d(3, 5, 3, padding=2, dilation=2), torch.bfloat16)


def test_only_centred_convolutions_of_stride_1_have_other_ways() -> None:
    def find(kernel: int, padding: int | str, **more: object) -> Taps | None:
        return find_taps(nn.Conv2d(4, 4, kernel, padding=padding, **more))

    assert find(3, 12, dilation=12) == Taps((3, 3), (12, 12))
    assert find(3, 2, dilation=2, groups=4) == Taps((3, 3), (2, 2), groups=4)
    assert find(3, 1) == Taps((3, 3), (1, 1))
    assert find(1, 0) is None
    assert find(1, 0, dilation=4) is None
    assert find(4, 6, dilation=4) is None
    assert find(3, 36, dilation=36, stride=2) is None
    assert find(3, 0, dilation=24) is None  # its output is smaller
    assert find(3, "same", dilation=36) is None
    assert find(3, 36, dilation=36, padding_mode="reflect") is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_grouped_and_unknown_cpus_keep_the_library(kind: str, dtype: torch.dtype) -> None:
    features = torch.zeros(1, 8, 65, 65)
    assert choose_ways(Taps((3, 3), (12, 12), groups=4), features, dtype=dtype, kind=kind) == LIBRARY
    assert "taps" not in vars(choose_ways(Taps((3, 3), (12, 12), 8), features, dtype=dtype, kind=kind)).values()
    for groups in (1, 8):
        assert choose_ways(Taps((3, 3), (12, 12), groups), features, dtype=dtype, kind="other") == LIBRARY


def test_rule_chooses_what_the_table_measured_as_fastest() -> None:
    """The whole table in hardly more time than with the fastest ways, and no part of it much slower."""
    parts: dict[tuple[str, ...], dict[str, float]] = {}
    marked: dict[tuple[str, ...], list[str]] = {}
    with TABLE.open(newline="") as file:
        for row in csv.DictReader(file):
            context = tuple(row[key] for key in COLUMNS)
            parts.setdefault(context, {})[row["side"]] = float(row["least_ms"])
            marked.setdefault(context, []).extend([row["side"]] if row["chosen"] == "yes" else [])
    totals = {kind: [0.0, 0.0] for kind, *_ in parts}
    slower = set()
    for context, times in parts.items():
        kind, dtype, batch, channels, _, cells, kernel, rate, is_depthwise, part = context
        groups = int(channels) if is_depthwise == "True" else 1
        taps = Taps((int(kernel), int(kernel)), (int(rate), int(rate)), groups)
        features = torch.empty(int(batch), int(channels), int(cells), int(cells), device="meta")
        chosen = getattr(choose_ways(taps, features, dtype=getattr(torch, dtype), kind=kind), part)
        assert set(marked[context]) == {chosen} & times.keys(), context
        if part == "of_features" and is_depthwise == "True" and "mirroring" not in times:  # it is that very convolution
            times["mirroring"] = parts[*context[:-1], "output"]["library"]
        best = min(times.values())
        slower |= {context} if times[chosen] >= max(1.5 * best, best + 1) else set()
        totals[kind][0] += times[chosen]
        totals[kind][1] += best
    assert slower == SLOWER
    for kind, (chosen_ms, best_ms) in totals.items():
        assert chosen_ms < 1.05 * best_ms, (kind, chosen_ms, best_ms)


def test_the_library_is_called_fastest_where_it_is_for_most_of_the_table() -> None:
    parts: dict[tuple[str, ...], dict[str, float]] = {}
    with TABLE.open(newline="") as file:
        for row in csv.DictReader(file):
            parts.setdefault(tuple(row[key] for key in COLUMNS), {})[row["side"]] = float(row["least_ms"])
    fast: dict[tuple[str, ...], list[bool]] = {}
    for (kind, dtype, batch, channels, _, cells, kernel, rate, is_depthwise, part), times in parts.items():
        taps = Taps((int(kernel),) * 2, (int(rate),) * 2, int(channels) if is_depthwise == "True" else 1)
        features = torch.empty(int(batch), int(channels), int(cells), int(cells), device="meta")
        reasoned = explain_ways(taps, features, dtype=getattr(torch, dtype), kind=kind)
        _, why = reasoned[("output", "of_features", "of_weight").index(part)]
        if why == ways.FASTEST and len(times) > 1:
            is_fast = times["library"] <= 1.1 * min(times.values())
            fast.setdefault((kind, dtype, is_depthwise, part), []).append(is_fast)
    assert fast
    for group, found in fast.items():
        assert sum(found) > len(found) / 2, (group, found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.float16])
@pytest.mark.parametrize("part", ["output", "of_features", "of_weight"])
def test_what_was_not_measured_keeps_the_library(
    kind: str, dtype: torch.dtype, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "FEWEST_CHANNELS", FEWEST_CHANNELS)
    with TABLE.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["kind"], row["part"]) == (kind, part)]
    rows = [row for row in rows if getattr(torch, row["dtype"]) == dtype]
    measured = {(row["is_depthwise"] == "True", int(row["channels"])) for row in rows}
    for channels, groups, cells, rate in itertools.product((3, 16, 64, 256, 2048), (1, 0), (33, 65), (1, 12, 24)):
        taps = Taps((3, 3), (rate, rate), groups or channels)
        chosen = choose_ways(taps, torch.zeros(1, channels, cells, cells), dtype=dtype, kind=kind)
        least = min((count for is_depthwise, count in measured if is_depthwise == (groups == 0)), default=None)
        if least is None or (channels < least and groups):
            assert getattr(chosen, part) == "library"
