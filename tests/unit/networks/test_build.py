from __future__ import annotations

import pytest
import torch

from atrous.config.schema import ModelConfig
from atrous.core.errors import ConfigError
from atrous.networks import BACKBONES, FAMILIES
from atrous.networks.build import build_network, build_network_from, describe_network, split_name


def build(name: str = "deeplabv3-lite0", num_classes: int = 3, **options: object):
    return build_network_from({"name": name, **options}, num_classes)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("deeplabv3-lite9", ["unknown backbone 'lite9'", "Did you mean 'lite"]),
        ("deeplabv3-resnet5", ["unknown backbone 'resnet5'", "Did you mean 'resnet50'"]),
        ("deeplab3-lite0", ["unknown model 'deeplab3-lite0'", "Did you mean 'deeplabv3-lite0' or", "`atrous models`"]),
        ("lite0", ["unknown model 'lite0'"]),
        ("", ["model.name is ''"]),
        ("fcn-", ["unknown backbone ''"]),
        ("fcn-timm/resnet1888", ["timm has no network 'resnet1888'", "Did you mean 'resnet18'"]),
        ("fcn-timm/", ["timm has no network ''"]),
    ],
)
def test_unknown_names_get_the_nearest_one(name: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        build(name)
    for word in words:
        assert word in str(caught.value)


def test_every_name_of_the_tables_splits() -> None:
    for family in FAMILIES:
        for backbone in (*BACKBONES, "timm/resnet18"):
            assert split_name(f"{family}-{backbone}") == (family, backbone)


def test_all_wrong_options_of_a_head_are_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        build(head={"rate": [6], "channels": "many", "dropout": "0.5x", "separable": True})
    message = str(caught.value)
    assert "model.head.rate: unknown option. Did you mean 'rates'?" in message
    assert "model.head.channels" in message
    assert "'many'" in message
    assert "model.head.dropout" in message
    assert "separable" not in message.split("unknown option")[0]


def test_options_reach_the_head_in_their_types() -> None:
    head = build(head={"rates": [2, 4], "channels": 32, "separable": True, "image_features": False}).head
    assert head.rates == (2, 4)
    assert head.aspp.pooling is None
    assert head.classifier.in_channels == 32


@pytest.mark.parametrize(
    "options",
    [
        {"level": 9},
        {"hidden": -1},
        {"dropout": 2.0},
    ],
)
def test_options_of_fcn_out_of_range_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="out of range"):
        build("fcn-lite0", head=options)


def test_wrong_settings_are_said_with_their_key() -> None:
    with pytest.raises(ConfigError, match="output stride 12"):
        build(output_stride=12)
    with pytest.raises(ConfigError, match=r"model\.colour"):
        build(colour="red")
    with pytest.raises(ConfigError, match="classes: got 0"):
        build(num_classes=0)


@pytest.mark.parametrize(
    ("name", "multi_grid", "words"),
    [
        ("fcn-lite0", [1, 2, 4], r"model\.multi_grid: lite0 has no multi-grid(.|\n)*These have: resnet18, resnet34"),
        ("fcn-timm/resnet18", [1, 2], r"model\.multi_grid: timm/resnet18 has no multi-grid"),
        ("fcn-resnet18", [1, 2, 4], r"model\.multi_grid: \[1, 2, 4\] does not fit(.|\n)*Block4 has 2 units"),
        ("fcn-resnet34", [1, 0, 4], r"model.multi_grid is 0(.|\n)*greater than or equal to 1"),
    ],
)
def test_a_multi_grid_must_fit_the_backbone(name: str, multi_grid: list[int], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(name, multi_grid=multi_grid)


@pytest.mark.parametrize(
    ("convention", "rates", "aligned", "pooling"),
    [
        ("atrous", [1, 2, 4, 4], True, "image"),
        ("torchvision", [1, 2, 4, 4], False, "image"),
        ("tensorflow", [2, 2, 4, 4], True, "map"),
    ],
)
def test_a_preset_sets_three_fields_and_each_can_be_set_alone(
    convention: str, rates: list[int], aligned: bool, pooling: str
) -> None:
    def find_fields(**options: object) -> tuple[list[int], bool, str]:
        with torch.device("meta"):
            network = build("fcn-resnet18", convention=convention, multi_grid=[1, 2], **options)
        block4 = [site.rate for site in network.sites if site.name.startswith("layer4.") and max(site.kernel) == 3]
        return block4, network.aligned, network.image_pooling

    assert find_fields() == (rates, aligned, pooling)
    assert find_fields(first_unit_rate="exact") == ([1, 2, 4, 4], aligned, pooling)
    assert find_fields(first_unit_rate="uniform") == ([2, 2, 4, 4], aligned, pooling)
    assert find_fields(resize="aligned" if not aligned else "half_pixel") == (rates, not aligned, pooling)
    assert find_fields(image_pooling="map") == (rates, aligned, "map")


def test_the_auxiliary_head_reads_the_level_before_the_last() -> None:
    network = build("fcn-resnet18", auxiliary=True)
    assert network.auxiliary_head.hidden.conv.in_channels == 256
    assert network.auxiliary_head.hidden.conv.out_channels == 64
    assert build("fcn-resnet18").auxiliary_head is None


def test_a_seed_gives_the_same_network() -> None:
    networks = []
    for _ in range(2):
        torch.manual_seed(3)
        networks.append(build_network(ModelConfig(name="fcn-lite0"), 2).state_dict())
    assert all(torch.equal(value, networks[1][name]) for name, value in networks[0].items())


def test_a_description_has_what_people_ask_for() -> None:
    described = describe_network("deeplabv3-lite0", 8, head={"separable": True})
    assert described["atrous_identity"] == "exact"
    assert described["head_rates"] == [12, 24, 36]
    assert described["head_options"]["separable"] is True
    assert described["head_options"]["rates"] == (6, 12, 18)
    assert described["levels"][-1] == {"channels": 320, "stride": 8}
    assert described["parameters"] == sum(
        weight.numel() for weight in build(num_classes=21, head={"separable": True}).parameters()
    )
    assert describe_network("fcn-lite0")["head_rates"] == []


@pytest.mark.parametrize("count", [0, -1, 65_536, 10**9])
def test_more_classes_than_masks_can_hold_are_refused(count: int) -> None:
    with pytest.raises(ConfigError, match=r"classes: got ") as caught:
        build(num_classes=count)
    assert "1 to 65,535" in caught.value.hint
