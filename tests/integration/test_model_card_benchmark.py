"""The benchmark behind the model cards: what it measured of one model file does not stand for another."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import atrous

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PAGE = "".join(f"<!-- {name} -->\n<!-- end of {name} -->\n" for name in ("ladder", "classes", "coverage"))


@pytest.fixture
def model_card(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import model_card

    return model_card


def test_scores_of_another_model_are_measured_again(model_card, tmp_path, monkeypatch, shapes_folder, trained_run):
    (tmp_path / "tiny.md").write_text(PAGE)
    file, places = tmp_path / "tiny.safetensors", ["--results", str(tmp_path / "results"), "--pages", str(tmp_path)]
    words = ["model_card.py", str(file), str(shapes_folder), "--name", "tiny", "--rungs", "1", "--size", "33", "33"]
    monkeypatch.setattr(sys, "argv", [*words, *places, "--rounds", "1"])

    def measure() -> dict[str, Any]:
        model_card.main()
        return json.loads((tmp_path / "results" / "tiny" / "stride-16.json").read_text())

    model = atrous.load(trained_run)
    atrous.save(model, file)
    first = measure()
    assert measure() == first  # with its time, so that nothing was measured again
    model.network.get_parameter("head.classifier.bias").data[0] += 1000  # background everywhere
    atrous.save(model, file, overwrite=True)
    other = measure()
    assert other["sha256"] != first["sha256"]
    assert other["scores"]["miou"] != first["scores"]["miou"]
    page = (tmp_path / "tiny.md").read_text()
    assert f"| {other['scores']['miou']:.4f} |" in page
    assert f"of {model_card.name_processor(other['machine'])}." in page
