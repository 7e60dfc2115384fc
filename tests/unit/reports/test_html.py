from __future__ import annotations

import base64
import html
import json
import re
import shlex
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import atrous
from atrous.cli.main import main
from atrous.core.errors import ModelFileError
from atrous.core.labels import LabelSpace
from atrous.core.records import BandScore, ClassScore, ImageScore, Intervals, Note, PartScore, Protocol, Scores
from atrous.data.datasets.shapes import build_shapes
from atrous.reports.html import write_report

NAMES = ("background", "cat", "<script>alert(1)</script>")
CURVE = (
    "step,epoch,seconds,lr,loss,miou,pixel_accuracy,never_predicted\n"
    "100,0.5,30,0.015,1.4,0.31,0.7,cat\n"
    "200,1.0,61,0.005,0.9,0.42,0.8,\n"
)


class Page(HTMLParser):
    """The tags of a page, and the text of each section by its id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.sections: dict[str, str] = {}
        self._section = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "section":
            self._section = dict(attrs)["id"] or ""
            self.sections[self._section] = ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "section":
            self._section = ""

    def handle_data(self, data: str) -> None:
        self.sections[self._section] = self.sections.get(self._section, "") + data


def build_metrics() -> dict[str, Any]:
    scores = Scores(
        miou=0.4196,
        pixel_accuracy=0.8,
        classes=(
            ClassScore(NAMES[0], 0, 0.81, 0.9, 0.89, 900, 905, (0.7654, 0.8543)),
            ClassScore(NAMES[1], 1, 0.0, 0.0, None, 50, 0),
            ClassScore(NAMES[2], 2, 0.4488, 0.6, 0.64, 50, 95),
        ),
        confusion=((850, 0, 50), (40, 0, 10), (15, 0, 35)),
        images=(ImageScore("a", 0.9, 4, 6), ImageScore("b", 0.1, 4, 6), ImageScore("c", None, 4, 6)),
        protocol=Protocol(),
        baseline_class=NAMES[0],
        baseline_miou=0.3,
        never_predicted=(NAMES[1],),
        data="pets val",
        notes=(
            Note("classes-not-named", "Ids were found in the masks: 0 & 1 & 2."),
            Note("empty", "Two masks are empty & kept."),
        ),
        intervals=Intervals("group", 12, (0.3123, 0.5234), (0.7, 0.9)),
        bands=(BandScore("5 px", 0.2511, (0.1251, 0.3751), 0.5015, None),),
        parts=(PartScore("below 16 x 16 px", 1234, 56789, 0.3344, (0.2233, 0.4455)),),
    )
    dear = Protocol(8, (0.75, 1.0), True)
    return scores.to_json() | {
        "label_space": LabelSpace(NAMES, colours=((0, 0, 0), (10, 20, 30), (40, 50, 60))).to_json(),
        "ladder": [{"protocol": dear.to_json(), "describe": dear.describe(), "miou": 0.4316}],
        "model": {"name": "deeplabv3-lite0"},
        "training": {"steps": 200, "seconds": 61.0, "seed": 7, "best_step": 200, "parameters": 5_632_011, "batch": 8},
        "versions": {"torch": "2.14.1"},
        "machine": {"processor": "two cores"},
        "examples": [
            {"key": key, "miou": miou}
            | {role: f"examples/{place}_{role}.png" for role in ("image", "truth", "prediction")}
            for place, (key, miou) in enumerate((("b", 0.1), ("a", 0.9)))
        ],
    }


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    run = tmp_path / "pets"
    (run / "examples").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for place in (0, 1):
        for role in ("image", "truth", "prediction"):
            pixels = generator.integers(0, 256, (4, 6, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(run / "examples" / f"{place}_{role}.png")
    save_metrics(run, build_metrics())
    (run / "metrics.csv").write_text(CURVE, encoding="utf-8")
    (run / "config.yaml").write_text("model:\n  name: deeplabv3-lite0  # <b>\n", encoding="utf-8")
    return run


def save_metrics(run: Path, metrics: dict[str, Any]) -> None:
    (run / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")


def read_page(run: Path) -> Page:
    report = write_report(run)
    assert report == run / "report.html"
    return Page(report.read_text(encoding="utf-8"))


def test_the_report_tells_the_whole_run(run_folder: Path) -> None:
    page = read_page(run_folder)
    assert list(page.sections) == [
        "", "score", "trained", "ladder", "learning", "classes", "details", "confusion", "images", "on", "records",
    ]  # fmt: skip
    assert "deeplabv3-lite0 on pets val" in page.sections[""]
    trained = " ".join(page.sections["trained"].split())
    for text in ("parameters5.6 M", "steps200", "time61 s", "seed7", "batch8"):
        assert text in trained
    assert "+0.012" in page.sections["ladder"]
    assert "rank 1 of 2" in page.sections["images"]
    for text in ("0 & 1 & 2", "Two masks are empty & kept."):
        assert text in page.sections["records"]
    assert "name: deeplabv3-lite0  # <b>" in page.sections["records"]
    assert f"atrous eval {run_folder}" in page.sections["on"]


def test_a_run_of_stages_lists_them(run_folder: Path) -> None:
    stages = "stages:\n- {training.norm_momentum: 0.05}\n- {}\n- {model.output_stride: 8, training.norm: frozen}\n"
    (run_folder / "config.yaml").write_text(f"model: {{name: deeplabv3-lite0}}\n{stages}", encoding="utf-8")
    (run_folder / "stage-1").mkdir()
    save_metrics(run_folder / "stage-1", build_metrics() | {"miou": 0.2571, "protocol": Protocol(32).to_json()})
    page = read_page(run_folder)
    text = " ".join(page.sections["stages"].split())
    assert f"1training.norm_momentum: 0.05pets val · {Protocol(32).describe()}0.257stage-1" in text
    assert "2—protocol not recorded—stage-2" in text
    last = "3model.output_stride: 8, training.norm: frozen"
    assert f"{last}pets val · {Protocol().describe()}0.420this run" in text
    assert "aseline" in text


@pytest.mark.parametrize("config", ["stages: []", "[1, 2]", "{", ""])
def test_a_run_without_stages_lists_none(run_folder: Path, config: str) -> None:
    (run_folder / "config.yaml").write_text(config, encoding="utf-8")
    assert "stages" not in read_page(run_folder).sections


def test_nothing_is_loaded_from_outside(run_folder: Path) -> None:
    page = read_page(run_folder)
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base"}
        for name in ("src", "href", "xlink:href", "data", "srcset", "poster", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/", "#")), (tag, name, value)
    text = (run_folder / "report.html").read_text(encoding="utf-8")
    assert "@import" not in text
    assert "url(" not in text.replace("url(#", "")


def test_images_are_embedded_whole_and_described(run_folder: Path) -> None:
    images = [attributes for tag, attributes in read_page(run_folder).tags if tag == "img"]
    assert [attributes["alt"] for attributes in images] == [
        f"{role} of {key}" for key in ("a", "b") for role in ("image", "truth", "prediction")
    ]
    embedded = base64.b64decode((images[0]["src"] or "").removeprefix("data:image/png;base64,"))
    assert embedded == (run_folder / "examples" / "1_image.png").read_bytes()


def test_every_section_with_a_score_has_its_protocol_and_baseline(run_folder: Path) -> None:
    page = read_page(run_folder)
    scored = {name: text for name, text in page.sections.items() if "mIoU" in text}
    assert set(scored) == {"score", "ladder", "learning", "classes", "details", "confusion", "images"}
    for text in scored.values():
        assert Protocol().describe() in text
        assert "aseline" in text
        assert "0.300" in text


def test_classes_never_predicted_are_a_warning_before_the_score(run_folder: Path) -> None:
    text = write_report(run_folder).read_text(encoding="utf-8")
    assert text.index("1 class with pixels was never predicted: cat.") < text.index('id="score"')
    assert read_page(run_folder).sections["classes"].count("never predicted") == 1


def test_hostile_names_stay_text(run_folder: Path) -> None:
    metrics = build_metrics()
    hostile = "<img src=x onerror=alert(1)>\"'"
    metrics |= {
        "data": hostile,
        "notes": [Note(hostile, hostile).to_json()],
        "versions": {hostile: hostile},
        "machine": hostile,
    }
    metrics["training"] |= {hostile: hostile}
    metrics["examples"][0]["key"] = hostile
    metrics["ladder"][0]["describe"] = hostile
    save_metrics(run_folder, metrics)
    (run_folder / "metrics.csv").write_text(CURVE + f"300,1.5,70,0.001,0.8,0.4,0.8,{NAMES[2]}\n", encoding="utf-8")
    (run_folder / "config.yaml").write_text("</pre><script>alert(2)</script>", encoding="utf-8")
    text = write_report(run_folder).read_text(encoding="utf-8")
    page = Page(text)
    assert "<script" not in text
    assert all("onerror" not in attributes for _, attributes in page.tags)
    assert NAMES[2] in page.sections["classes"]


def test_images_outside_the_run_are_not_embedded(run_folder: Path) -> None:
    secret = run_folder.parent / "secret.png"
    secret.write_bytes(b"secret")
    metrics = build_metrics()
    metrics["examples"] = [
        {"key": "a", "miou": 0.5, "image": "../secret.png", "truth": str(secret), "prediction": "examples/none.png"}
    ]
    save_metrics(run_folder, metrics)
    page = read_page(run_folder)
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert page.sections["images"].count("saved") == 3


def test_missing_parts_are_left_out(run_folder: Path) -> None:
    metrics = build_metrics()
    for name in ("ladder", "examples", "label_space", "model", "training", "versions", "machine"):
        del metrics[name]
    save_metrics(run_folder, metrics | {"notes": []})
    (run_folder / "metrics.csv").unlink()
    (run_folder / "config.yaml").unlink()
    page = read_page(run_folder)
    assert "ladder" not in page.sections
    assert "images" not in page.sections
    assert "No validation was recorded." in page.sections["learning"]
    anchors = {attributes["href"] for tag, attributes in page.tags if tag == "a"}
    assert anchors == {f"#{name}" for name in page.sections if name}


def test_a_run_without_a_score_says_so(run_folder: Path) -> None:
    metrics = build_metrics()
    metrics |= {"miou": None, "pixel_accuracy": None, "never_predicted": [], "examples": [], "ladder": []}
    metrics["baseline"]["miou"] = None
    for row in metrics["classes"]:
        row |= {"iou": None, "recall": None, "precision": None, "pixels": 0}
    metrics["confusion"] = [[0, 0, 0]] * 3
    save_metrics(run_folder, metrics)
    (run_folder / "metrics.csv").write_text("\n".join([*CURVE.splitlines()[:1], "100,0.5,30,0.01,,,,"]) + "\n")
    page = read_page(run_folder)
    assert "There is no score." in page.sections[""]
    assert "—" in page.sections["score"]
    assert "Learning rate" in page.sections["learning"]
    assert "Validation mIoU" not in page.sections["learning"]


@pytest.mark.parametrize("rows", [1, 2])
def test_an_interrupted_run_has_a_report_and_the_way_on(run_folder: Path, rows: int) -> None:
    (run_folder / "metrics.json").unlink()
    (run_folder / "metrics.csv").write_text("\n".join(CURVE.splitlines()[: rows + 1]) + "\n")
    page = read_page(run_folder)
    assert f"The training was interrupted at step {rows}00." in page.sections[""]
    assert "so far" in page.sections["score"]
    assert f"{(0.31, 0.42)[rows - 1]:.3f}" in page.sections["score"]
    assert f"atrous train --resume {run_folder}" in page.sections["on"]


def test_a_folder_without_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"neither metrics\.json nor metrics\.csv"):
        write_report(tmp_path)


@pytest.mark.parametrize("count", [2, 40])
def test_any_number_of_classes_is_drawn(run_folder: Path, count: int) -> None:
    metrics = build_metrics()
    metrics["classes"] = [metrics["classes"][0] | {"name": f"class {index}", "id": index} for index in range(count)]
    metrics["confusion"] = (np.eye(count, dtype=int) * 5).tolist()
    del metrics["label_space"]
    save_metrics(run_folder, metrics)
    cells = [attributes for tag, attributes in read_page(run_folder).tags if tag == "td" and "title" in attributes]
    assert len(cells) == count**2


def test_writing_a_report_loads_no_torch(run_folder: Path) -> None:
    program = (
        "import sys, pathlib; from atrous.reports.html import write_report;"
        f"write_report(pathlib.Path({str(run_folder)!r})); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", '{"miou": '),
        ("metrics.json", "[]"),
        ("metrics.json", '{"classes": 5}'),
        ("metrics.csv", b"\xff\xfe\x00"),
        ("config.yaml", b"\xff\xfe\x00"),
    ],
)
def test_damaged_records_are_one_clear_error(run_folder, name, content):
    (run_folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ModelFileError) as caught:
        write_report(run_folder)
    assert str(run_folder) in caught.value.message
    assert len(str(caught.value).splitlines()) == 2


def list_commands(run: Path) -> list[str]:
    page = write_report(run).read_text(encoding="utf-8")
    section = page[page.index('<section id="on"') :]
    return [
        html.unescape(text) for text in re.findall(r"<pre[^>]*>([^<]*)</pre>", section[: section.index("</section>")])
    ]


def test_every_command_works_as_printed_in_any_folder(trained_run, shapes_folder, tmp_path, monkeypatch) -> None:
    run = tmp_path / "my 'own' run"
    shutil.copytree(trained_run, run)
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["training"]["interrupted"] = True
    save_metrics(run, metrics)
    commands = list_commands(run)
    assert len(commands) == 4
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for command in commands:
        words = shlex.split(command.replace("IMAGES", shlex.quote(str(shapes_folder / "images" / "val"))))
        assert words[0] == "atrous"
        assert main([*words[1:], "--quiet"]) == 0, command


def test_commands_of_a_run_on_python_data_are_python_and_work_too(tmp_path, monkeypatch) -> None:
    data = build_shapes(num_train=16, num_val=1, size=65)
    monkeypatch.chdir(tmp_path)
    options = {"model": "fcn-tiny", "weights": "none", "iterations": 1, "crop": 33, "batch": 2, "validations": 1}
    run = atrous.train((data.train, data.val), out="my 'own' run", **options).folder
    save_metrics(
        run, build_metrics() | json.loads((run / "metrics.json").read_text()) | {"training": {"interrupted": True}}
    )
    commands = [command for command in list_commands(run) if not command.startswith("atrous predict")]
    assert len(commands) == 3
    for command in commands:
        exec(command, {"atrous": atrous, "train": data.train, "val": data.val})


def test_labels_of_a_real_run_are_words_and_not_keys(trained_run) -> None:
    text = (trained_run / "report.html").read_text(encoding="utf-8")
    labels = re.findall(r"<dt[^>]*>([^<]*)</dt>|<th[^>]*>([^<]*)</th>", text)
    words = " ".join(first or second for first, second in labels)
    assert "memory" in words
    assert "time spent waiting for images" in words
    assert not re.search(r"_|\bmib\b|\bfraction\b|(?<!\d )\bpx\b", words)


def test_intervals_boundaries_and_parts_have_their_tables(run_folder: Path) -> None:
    text = " ".join(write_report(run_folder).read_text(encoding="utf-8").split())
    for shown in ("0.312-0.523", "95 % intervals over 12 groups of images", "0.765-0.854", "0.251", "0.125-0.375"):
        assert shown in text
    for shown in ("below 16 x 16 px", "1,234", "56,789", "0.334", "0.223-0.446"):
        assert shown in text
    metrics = json.loads((run_folder / "metrics.json").read_text())
    for name in ("intervals", "bands", "parts"):  # as older runs have them
        del metrics[name]
    (run_folder / "metrics.json").write_text(json.dumps(metrics))
    older = write_report(run_folder).read_text(encoding="utf-8")
    assert "details-title" not in older
    assert "intervals over" not in older
