"""What every backbone of the table, and every timm network that is listed as measured, must keep."""

from __future__ import annotations

import copy
import functools
import itertools

import pytest
import torch
from torch import Tensor, nn

from atrous.core.errors import ConfigError
from atrous.networks import BACKBONES
from atrous.networks.backbones.from_timm import build_timm
from atrous.networks.build import describe_network, find_backbone
from atrous.networks.contracts import Backbone
from atrous.networks.names import VERIFIED
from atrous.networks.stride import StridePlanner

LARGER = ("lite1", "lite2", "resnet34", "resnet50", "resnet101", "resnet152")
QUICK_TIMM = ("mobilenetv3_small_100",)
OUTPUT_STRIDES = (4, 8, 16, 32)
TOLERANCE = 1e-12

EVERY = tuple(
    pytest.param(name, marks=[pytest.mark.slow] if name in LARGER else [])
    for name in (*BACKBONES, *(f"timm/{name}" for name in QUICK_TIMM))
)


def build(name: str, *, seed: int = 0) -> Backbone:
    """Return a backbone in float64 whose norms are drawn at random, so that no branch is silent."""
    return copy.deepcopy(build_once(name, seed))


@functools.lru_cache(maxsize=4)
def build_once(name: str, seed: int) -> Backbone:
    torch.manual_seed(seed)
    backbone = find_backbone(name)()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.3, generator=generator)
    return backbone.double().eval()


def draw_image(height: int, width: int) -> Tensor:
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def measure_identity(backbone: Backbone) -> float:
    """Return the largest difference between features at 32 and subsampled features at 16, 8 and 4, relative."""
    planner = StridePlanner(backbone, build_stride=32)
    images = [draw_image(65, 97), draw_image(50, 1)]
    worst = 0.0
    with torch.inference_mode():
        references = [backbone(image) for image in images]
        for output_stride, number in itertools.product((16, 8, 4), range(len(images))):
            planner.set_output_stride(output_stride)
            levels = zip(planner.shapes.levels, references[number], backbone(images[number]), strict=True)
            for level, reference, features in levels:
                step = max(level.native_stride // output_stride, 1)
                assert features[:, :, ::step, ::step].shape == reference.shape
                assert reference.std() > 0
                difference = (features[:, :, ::step, ::step] - reference).abs().max() / reference.abs().max()
                worst = max(worst, difference.item())
    return worst


def replace_gates(backbone: Backbone) -> int:
    """Replace the innermost modules that read the whole map (squeeze and excitation, ...); return how many."""
    modules = dict(backbone.named_modules())
    channels: dict[str, int] = {}

    def note(name: str):
        def hook(_, inputs, output) -> None:
            if isinstance(output, Tensor) and output.dim() == 4 and output.shape == inputs[0].shape:
                channels[name] = output.shape[1]

        return hook

    hooks = [module.register_forward_hook(note(name)) for name, module in modules.items()]
    with torch.inference_mode():
        backbone(draw_image(65, 65))
        for hook in hooks:
            hook.remove()
        reading = [name for name, count in channels.items() if reads_whole_map(modules[name], count)]
    innermost = [name for name in reading if not any(other.startswith(f"{name}.") for other in reading)]
    for name in innermost:
        backbone.set_submodule(name, nn.Identity())
    return len(innermost)


def reads_whole_map(module: nn.Module, channels: int) -> bool:
    """Return whether one corner of a large map changes what the module gives at the opposite corner."""
    features = draw_image(33, 33)[:, :1].repeat(1, channels, 1, 1)
    changed = features.clone()
    changed[..., 0, 0] += 10
    corners = [module(values.clone())[..., -1, -1] for values in (features, changed)]
    return not torch.equal(*corners)


@pytest.mark.parametrize("name", EVERY)
def test_levels_have_the_promised_channels_and_sizes(name: str) -> None:
    backbone = build(name)
    planner = StridePlanner(backbone, build_stride=32)
    assert planner.shapes == backbone.feature_shapes
    for output_stride, size in itertools.product(OUTPUT_STRIDES, [(33, 47), (1, 1)]):
        planner.set_output_stride(output_stride)
        with torch.inference_mode():
            levels = backbone(draw_image(*size))
        for level, features in zip(backbone.feature_shapes.levels, levels, strict=True):
            stride = min(level.native_stride, output_stride)
            assert features.shape == (1, level.channels, -(-size[0] // stride), -(-size[1] // stride))


@pytest.mark.parametrize("name", EVERY)
def test_a_switched_backbone_equals_a_fresh_one_and_comes_back_bit_equal(name: str) -> None:
    switched = build(name)
    planner = StridePlanner(switched, build_stride=32)
    image = draw_image(33, 65)
    with torch.inference_mode():
        before = switched(image)
        for output_stride in (16, 4, 8):
            planner.set_output_stride(output_stride)
        fresh = build(name)
        StridePlanner(fresh, build_stride=8)
        for ours, theirs in zip(switched(image), fresh(image), strict=True):
            assert torch.equal(ours, theirs)
        planner.set_output_stride(32)
        for first, last in zip(before, switched(image), strict=True):
            assert torch.equal(first, last)


@pytest.mark.parametrize("name", EVERY)
def test_features_at_smaller_strides_subsampled_are_those_at_32(name: str) -> None:
    backbone = build(name)
    identity = backbone.strides.identity
    if identity == "pooled":
        assert measure_identity(backbone) > TOLERANCE, "its global average changes nothing: declare it exact"
        backbone = build(name)
        assert replace_gates(backbone) > 0
    if identity != "not verified":
        assert measure_identity(backbone) < TOLERANCE


def test_the_identity_is_not_true_of_just_anything() -> None:
    """The usual mistake: the new rate on the block's first unit too."""
    backbone = build("resnet18")
    planner = StridePlanner(backbone, build_stride=32)
    image = draw_image(97, 97)
    with torch.inference_mode():
        reference = backbone(image)[-1]
        planner.set_output_stride(16)
        for site in planner.sites:
            if site.native_out > site.native_in and site.native_out == 32 and max(site.kernel) > 1:
                site.module.dilation = (2, 2)
                site.module.padding = (2 * site.built_padding[0], 2 * site.built_padding[1])
        wrong = backbone(image)[-1][:, :, ::2, ::2]
    assert (wrong - reference).abs().max() / reference.abs().max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in VERIFIED if name not in QUICK_TIMM])
def test_listed_timm_networks_keep_what_their_entry_says(name: str) -> None:
    test_features_at_smaller_strides_subsampled_are_those_at_32(f"timm/{name}")


@pytest.mark.parametrize("name", EVERY)
def test_gradients_reach_every_weight_at_every_stride(name: str) -> None:
    backbone = build(name).train()
    planner = StridePlanner(backbone, build_stride=32)
    image = torch.cat([draw_image(65, 65), draw_image(65, 65).flip(3)])
    for output_stride in (32, 8):
        planner.set_output_stride(output_stride)
        backbone.zero_grad()
        backbone(image)[-1].square().mean().backward()
        for weight_name, weight in backbone.named_parameters():
            assert weight.grad is not None, weight_name
            assert weight.grad.isfinite().all()
        assert sum(weight.grad.abs().sum() for weight in backbone.parameters()) > 0


@pytest.mark.parametrize("name", EVERY)
def test_every_parameter_is_in_one_group(name: str) -> None:
    """A parameter in no group would never learn, and in two would learn twice."""
    with torch.device("meta"):
        backbone = find_backbone(name)()
    given = [id(parameter) for group in backbone.group_parameters() for parameter in group.parameters]
    assert sorted(given) == sorted(id(parameter) for parameter in backbone.parameters())


@pytest.mark.parametrize(
    ("name", "output_stride", "module", "why"),
    [
        ("resnet50d", 16, "layer4.0.downsample.0 (AvgPool2d)", "no atrous form"),
        ("densenet121", 16, "transition3.pool (AvgPool2d)", "no atrous form"),
        ("convnext_tiny", 16, "stages_3.downsample.1 (Conv2d)", "even kernel"),
        ("resnetblur18", 16, "layer4.0.aa (BlurPool2d)", "no atrous form"),
        ("vit_tiny_patch16_224", 32, "patch_embed (PatchEmbed)", "does not take a 512x512 image"),
        ("swin_tiny_patch4_window7_224", 32, "patch_embed (PatchEmbed)", "does not take a 512x512 image"),
        ("mobilevit_xxs", 32, "norm1 (LayerNorm)", "not a convolutional network"),
        ("inception_v3", 32, "Conv2d_1a_3x3.conv (Conv2d)", "not a whole number of times smaller"),
        ("ese_vovnet19b_dw", 16, "stages_3.pool (MaxPool2d)", "even kernel or padding"),
        ("hrnet_w18_small", 32, "stage2.0 (HighResolutionModule)", "does not take a 513x513 image"),
        ("dla34", 32, "level2.tree1 (DlaBasic)", "does not take a 513x513 image"),
    ],
)
def test_what_the_rule_cannot_do_is_refused_by_module_name(
    name: str, output_stride: int, module: str, why: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        StridePlanner(build_timm(name), build_stride=output_stride)
    assert module in str(caught.value)
    assert why in str(caught.value)


def test_an_unknown_timm_network_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no network 'mobilenetv2_10'(.|\n)*Did you mean 'mobilenetv2_1"):
        build_timm("mobilenetv2_10")


def test_networks_that_were_not_measured_say_so() -> None:
    names = ("fcn-lite0", "fcn-timm/mobilenetv2_100", "fcn-timm/mobilenetv3_small_100.lamb_in1k", "fcn-timm/skresnet18")
    described = [describe_network(name)["atrous_identity"] for name in names]
    assert described == ["exact", "exact", "pooled", "not verified"]


def test_large_resnets_are_built_as_published() -> None:
    sizes = {"resnet18": 11_176_512, "resnet50": 23_508_032, "resnet101": 42_500_160, "resnet152": 58_143_808}
    with torch.device("meta"):
        for name, expected in sizes.items():
            assert sum(weight.numel() for weight in BACKBONES.load(name)().parameters()) == expected


def test_every_pair_of_strides_is_one_switch() -> None:
    backbone = build("resnet18")
    planner = StridePlanner(backbone, build_stride=32)
    rates = {}
    for before, after in itertools.permutations(OUTPUT_STRIDES, 2):
        planner.set_output_stride(before)
        planner.set_output_stride(after)
        now = [(site.stride, site.rate) for site in planner.sites]
        assert rates.setdefault(after, now) == now


CONTRACT = (
    test_levels_have_the_promised_channels_and_sizes,
    test_a_switched_backbone_equals_a_fresh_one_and_comes_back_bit_equal,
    test_features_at_smaller_strides_subsampled_are_those_at_32,
    test_gradients_reach_every_weight_at_every_stride,
    test_every_parameter_is_in_one_group,
)
"""What `test_extension.py` asks of a part from outside the package."""
