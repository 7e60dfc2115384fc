from __future__ import annotations

from atrous.core.findings import Finding
from atrous.core.labels import LabelSpace
from atrous.data.checks.survey import Survey, run_checks
from atrous.data.facts import DatasetFacts, ItemFacts
from atrous.data.facts_cache import MaskFacts

SPACE = LabelSpace(("road", "car"))


def check(*counts: dict[int, int]) -> dict[str, Finding]:
    items = [
        ItemFacts(str(number), None, None, None, MaskFacts((1, sum(each.values())), each))
        for number, each in enumerate(counts)
    ]
    survey = Survey(train=DatasetFacts("mine train", SPACE, tuple(items)), are_classes_named=True)
    return {finding.code: finding for finding in run_checks(survey)}


def test_a_class_is_rare_by_its_pixels():
    finding = check({0: 99_999, 1: 1}, {0: 100_000})["rare-class"]
    assert (finding.severity, finding.count) == ("warning", 1)
    assert "'car' (id 1): 1 pixel in 1 image" in finding.message
    assert "rare-class" not in check({0: 99_000, 1: 1_000})


def test_a_class_is_rare_by_its_images_only_among_many():
    many = [{0: 50, 1: 50}] * 2
    assert "rare-class" in check(*many, *[{0: 100}] * 298)
    assert "rare-class" not in check(*many, *[{0: 100}] * 98)
    assert "rare-class" not in check({0: 50, 1: 50}, {0: 100}, {0: 100})


def test_masks_and_data_that_are_mostly_void_are_counted():
    finding = check({0: 5, 1: 5, 255: 90}, {0: 50, 1: 50}, {0: 50, 1: 50})["mostly-void"]
    assert (finding.count, finding.files) == (1, ("0",))
    assert "0 (90 %)" in finding.message
    finding = check({0: 20, 1: 20, 255: 60}, {0: 20, 1: 20, 255: 60})["mostly-void"]
    assert "60 % of all pixels have ignored ids" in finding.message
    assert "mostly-void" not in check({0: 30, 1: 30, 255: 40})
