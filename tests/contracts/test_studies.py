"""What every study must keep: rows that can be, claims that the paper's own numbers bear out, no run done twice."""

from __future__ import annotations

import inspect
import json

import pytest
import torch

from atrous.api import evaluate
from atrous.cli.main import main
from atrous.core.errors import ConfigError
from atrous.networks.build import build_network
from atrous.studies import STUDIES, reproduction
from atrous.studies.reproduction import plan_study, run_study
from atrous.studies.study import Base, Claim, Row, Study, judge_claim, name_training
from atrous.training.crop import require_cells

PAPER = Base(backbone="resnet101", crop=513, batch=16)
SMOKE = Base(crop=65, batch=4, iterations=2)
TINY = Base(backbone="tiny", weights="none", crop=65, batch=4, iterations=2)
ON_LITE0 = [
    pytest.param(name, marks=pytest.mark.slow if name in ("table1", "table2", "families") else ()) for name in STUDIES
]
"""Cascades take seconds each to build."""


def build_study(name: str, base: Base) -> Study:
    study: Study = STUDIES.load(name)(base)
    return study


@pytest.mark.parametrize("name", STUDIES)
def test_every_row_is_a_sound_configuration_on_the_papers_backbone(name: str) -> None:
    study = build_study(name, PAPER)
    assert study.name == name
    for row in study.rows:
        PAPER.load(row.settings)
        assert set(row.inference) <= set(inspect.signature(evaluate).parameters)


def build_rows(study: Study, base: Base) -> list[str]:
    """Build each network without values, at every stride that is asked of it; returns the labels of refused rows."""
    refused, built = [], None
    for row in study.rows:
        config = base.load(row.settings).config
        if config.model != built:
            try:
                with torch.device("meta"):
                    network = build_network(config.model, 6)
            except ConfigError:
                refused.append(row.label)
                continue
            built = config.model
        require_cells(network, config.training.crop)
        network.output_stride = row.inference.get("output_stride", built.output_stride)
    return refused


@pytest.mark.parametrize("name", ON_LITE0)
def test_every_row_but_those_of_a_multi_grid_can_be_built_on_lite0(name: str) -> None:
    study = build_study(name, SMOKE)
    assert build_rows(study, SMOKE) == [row.label for row in study.rows if "model.multi_grid" in row.settings]


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_every_row_can_be_built_on_the_papers_backbone(name: str) -> None:
    assert build_rows(build_study(name, PAPER), PAPER) == []


@pytest.mark.parametrize("name", ["table5", "table10"])
def test_plans_say_what_each_row_costs_or_why_it_cannot_be(name: str) -> None:
    for entry in plan_study(build_study(name, TINY), TINY):
        refused = entry.reason.startswith("not possible with tiny: model.multi_grid: tiny has no multi-grid")
        assert refused == ("model.multi_grid" in entry.row.settings)
        assert refused or min(entry.step_flops, entry.image_flops, entry.parameters) > 0


@pytest.mark.parametrize("name", STUDIES)
def test_the_papers_numbers_bear_the_claims_out(name: str) -> None:
    """A claim whose rows were swapped or misnamed would be contradicted by the numbers beside it."""
    study = build_study(name, PAPER)
    paper = {row.label: row.paper_miou for row in study.rows}
    for claim in study.claims:
        better, worse = paper[claim.better], paper[claim.worse]
        if better is not None and worse is not None:
            assert judge_claim({0: better, 1: better}, {0: worse, 1: worse}).word == "holds", claim.sentence


def test_the_recipe_of_several_tables_is_one_training() -> None:
    """Tables 5, 6, 8, 9, 10 and 12 all hold the paper's network of 77.21 %; it is trained once."""
    tables = ("table5", "table6", "table8", "table9", "table10", "table12")
    trainings = {
        name: [name_training(PAPER.load(row.settings)) for row in build_study(name, PAPER).rows] for name in tables
    }
    assert len(set.intersection(*map(set, trainings.values()))) == 1
    assert [len(set(found)) for found in trainings.values()] == [5, 1, 4, 4, 3, 1]


def test_a_study_without_a_possible_row_says_why() -> None:
    study = Study("grids", "", "", (Row("a", {"model.multi_grid": [1, 2, 4]}),), ())
    with pytest.raises(
        ConfigError, match=r"grids: no row is possible; the first is not possible with lite0: model\.multi_grid"
    ):
        plan_study(study, SMOKE)


def test_a_study_runs_end_to_end_and_a_second_call_trains_nothing(tmp_path, monkeypatch) -> None:
    settings = {"model.name": "fcn-tiny", "data.options": {"num_train": 40, "num_val": 4, "size": 65}}
    study = Study(
        name="smoke",
        title="Two protocols",
        protocol="none",
        rows=(
            Row("at 32", settings | {"model.output_stride": 32}, paper_miou=50.0),
            Row("at 16", settings | {"model.output_stride": 32}, {"output_stride": 16}),
            Row("never", settings | {"model.multi_grid": [1, 2, 4]}),
        ),
        claims=(Claim("16 beats 32", "at 16", "at 32"), Claim("a grid helps", "never", "at 32")),
    )
    said: list[str] = []
    table = run_study(study, TINY, tmp_path, seeds=(0, 1), on_message=said.append)

    first, second, refused = table["rows"]
    assert first["folders"] == second["folders"]
    assert len(list((tmp_path / "trainings").iterdir())) == 2
    assert first["miou"] == pytest.approx(sum(first["miou_by_seed"].values()) / 2)
    assert (first["steps"], first["paper_miou"]) == (2, 0.5)
    assert second["image_gflops"] > first["image_gflops"] > 0
    assert refused["miou"] is None
    assert any(line.startswith("never: not possible with tiny") for line in said)
    assert [claim["word"] for claim in table["claims"]][1] == "undecided"
    assert table["claims"][0]["difference"] == pytest.approx(second["miou"] - first["miou"])
    scored = json.loads((tmp_path / "smoke" / "table.json").read_text())
    assert scored["rows"] == json.loads(json.dumps(table["rows"]))
    assert "| at 32 |" in (tmp_path / "smoke" / "table.md").read_text()
    assert (tmp_path / "smoke" / "plot.png").stat().st_size > 1000

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it was trained or scored again")

    monkeypatch.setattr(reproduction, "run_training", refuse)
    monkeypatch.setattr(reproduction, "evaluate", refuse)
    assert run_study(study, TINY, tmp_path, seeds=(0, 1))["rows"] == table["rows"]


def test_figures_and_unknown_studies_refuse_what_makes_no_sense(capsys) -> None:
    assert main(["reproduce", "figures", "--iterations", "5"]) == 2
    assert "--iterations: not used by figures, which need no training" in capsys.readouterr().err
    assert main(["reproduce", "tabel3"]) == 2
    assert "Did you mean 'table3'?" in capsys.readouterr().err
    assert main(["reproduce", "table5", "--seeds", "0,0"]) == 2


def test_a_dry_run_trains_nothing_and_names_every_row(tmp_path, capsys) -> None:
    words = [
        "reproduce",
        "table6",
        "--backbone",
        "tiny",
        "--weights",
        "none",
        "--crop",
        "65",
        "--batch",
        "4",
        "--out",
        str(tmp_path),
        "--dry-run",
    ]
    assert main([*words, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert [row["label"] for row in plan["rows"]] == [row.label for row in build_study("table6", TINY).rows]
    assert len({row["training"] for row in plan["rows"]}) == 1
    assert plan["estimated_s"] > 0
    assert not list(tmp_path.iterdir())


def test_a_dry_run_in_words_shows_refused_rows(tmp_path, capsys) -> None:
    assert (
        main(
            [
                "reproduce",
                "table5",
                *"--backbone tiny --weights none --crop 65 --batch 4 --dry-run --out".split(),
                str(tmp_path),
            ]
        )
        == 0
    )
    text = capsys.readouterr().out
    assert "3 trainings of 300 steps, 1 seed: about" in text
    reason = "model.multi_grid: tiny has no multi-grid"
    assert f"multi-grid (1, 2, 1): not possible with tiny: {reason}" in " ".join(text.split())
