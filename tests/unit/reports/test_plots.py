from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from atrous.reports.plots import draw_curve

POINTS = [(100, 0.2), (200, 0.5), (300, 0.4)]


def read_texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")]


@pytest.mark.parametrize(("mark", "label"), [("first", "0.200"), ("highest", "0.500"), ("last", "0.400")])
def test_the_marked_point_is_labelled(mark: str, label: str) -> None:
    texts = read_texts(draw_curve(POINTS, label="mIoU", mark=mark, baseline=0.05))
    assert label in texts
    assert "baseline 0.050" in texts
    assert {"mIoU", "step"} <= set(texts)


@pytest.mark.parametrize("points", [[(5, 0.3)], [(0, 0.0)], [(1, -1.0), (2, -0.5)], [(1, 0.0), (2, 0.0)]])
def test_odd_curves_are_drawn(points: list[tuple[int, float]]) -> None:
    assert read_texts(draw_curve(points, label="loss", mark="last"))


def test_a_drawing_depends_on_nothing_and_disturbs_nothing() -> None:
    svg = draw_curve(POINTS, label="mIoU", mark="last")
    assert svg == draw_curve(POINTS, label="mIoU", mark="last")
    assert not re.findall(r"#[0-9a-f]{6}\b", svg), "every colour follows the page's scheme"
    assert "<style" not in svg
    assert "href" not in re.sub(r'(xlink:href="#|xmlns:xlink)', "", svg)


def test_two_charts_share_no_ids() -> None:
    first, second = (
        set(re.findall(r' id="([^"]+)"', draw_curve(POINTS, label=label, mark="last"))) for label in ("loss", "mIoU")
    )
    assert first
    assert not first & second
