from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import atrous
from atrous.cli.main import main
from atrous.config.load import load_config
from atrous.config.schema import DataConfig
from atrous.core.errors import DataError
from atrous.data.build import build_splits, check_training_data
from atrous.runs.check import check_data


def save(path, pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Each test has a working directory of its own, in which check.html is written."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folder(tmp_path):
    """Four pairs of noise, two classes in every mask."""
    generator = np.random.default_rng(0)
    for number in range(4):
        save(tmp_path / "mine" / "images" / f"{number}.png", generator.integers(0, 256, (6, 8, 3)))
        save(tmp_path / "mine" / "masks" / f"{number}.png", np.repeat([[0], [1], [1]], 2, axis=0).repeat(8, axis=1))
    return tmp_path / "mine"


def check(folder):
    return check_data(DataConfig(source=str(folder)))


def list_errors(result):
    return {finding.code for finding in result.findings if finding.severity == "error"}


def is_refused(folder):
    """Whether a training refuses the data with the settings in its atrous.yaml."""
    config = load_config(options={"data.source": str(folder)}).config.data
    try:
        check_training_data(config, build_splits(config))
    except DataError:
        return True
    return False


def test_sound_data_have_their_classes_counted(folder):
    result = check(folder)
    assert (result.num_images, result.num_pairs, result.exit_code) == (4, 4, 0)
    assert [(row.id, row.name, row.pixels, row.images) for row in result.ids] == [
        (0, "class 0", 64, 4),
        (1, "class 1", 128, 4),
    ]
    assert result.ids[1].share == pytest.approx(2 / 3)
    assert result.ids[0].first_file.endswith(".png")
    assert not is_refused(folder)


def test_ids_that_are_no_class_are_counted_too(folder):
    save(folder / "masks" / "0.png", np.full((6, 8), 255))
    row = check(folder).ids[-1]
    assert (row.id, row.name, row.pixels, row.is_class) == (255, "ignored", 48, False)
    assert len(check(folder).to_json()["classes"]) == 2


def test_everything_is_found_at_once_and_training_refuses_it(folder):
    save(folder / "images" / "alone.png", np.zeros((6, 8, 3)))
    (folder / "masks" / "1.png").write_bytes(b"")
    save(folder / "masks" / "2.png", [[0, 1]])
    (folder / "images" / "3.png").write_bytes((folder / "images" / "3.png").read_bytes()[:60])
    result = check(folder)
    assert list_errors(result) == {"image-without-mask", "unreadable-mask", "truncated-image", "size-mismatch"}
    assert (result.num_images, result.num_pairs, result.exit_code) == (5, 4, 3)
    assert [finding.severity for finding in result.findings] == sorted(
        (finding.severity for finding in result.findings), key=("error", "warning", "note").index
    )
    assert is_refused(folder)


def test_a_folder_of_another_layout_is_a_finding(folder):
    (folder / "masks").rename(folder / "elsewhere")
    result = check(folder)
    assert list_errors(result) == {"unknown-layout"}
    assert "images/ and masks/" in result.findings[0].fix
    assert (result.layout, result.ids) == ("", ())
    assert is_refused(folder)


def test_a_missing_folder_is_an_error_and_no_finding(tmp_path):
    with pytest.raises(DataError, match="no folder"):
        check(tmp_path / "nowhere")


def test_json_has_the_documented_form(folder, capsys):
    save(folder / "masks" / "0.png", np.repeat([[0, 1, 255]], 6, axis=0).repeat([2, 3, 3], axis=1))
    (folder / "images" / "notes.txt").touch()
    assert main(["check", str(folder), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result) == {"images", "pairs", "classes", "findings"}
    assert [set(row) for row in result["classes"]] == [{"id", "name", "pixels", "images", "share"}] * 2
    for finding in result["findings"]:
        assert set(finding) == {"code", "severity", "count", "files", "message", "fix"}
    assert {finding["code"] for finding in result["findings"]} == {"ignored-ids", "foreign-files"}


def test_exit_codes_follow_the_worst_finding(folder, capsys):
    settings = folder / "atrous.yaml"
    settings.write_text("data: {classes: [road, car, tree]}")
    assert main(["check", str(folder)]) == 3
    assert "error named-class-empty" in capsys.readouterr().out
    settings.write_text("data: {classes: {1: car}, ignore: [0]}")
    assert main(["check", str(folder), "--quiet"]) == 1
    assert "warning single-class" in capsys.readouterr().out


def test_the_table_shows_classes_and_messages_speak_of_options(folder, capsys):
    assert main(["check", str(folder), "--set", "data.classes=[road, car]"]) == 0
    shown = capsys.readouterr().out
    assert "road" in shown
    assert "66.67 %" in shown
    assert "4 images, 4 pairs: 0 errors, 0 warnings, 0 notes" in shown
    (folder / "images" / "tests").mkdir()
    (folder / "masks" / "tests").mkdir()
    for kind in ("images", "masks"):
        (folder / kind / "train").mkdir()
        (folder / kind / "valid").mkdir()
    assert main(["check", str(folder)]) == 3
    assert "--set data.split.val=valid" in capsys.readouterr().out


def test_the_page_is_written_where_it_is_wanted(folder, tmp_path, capsys):
    assert main(["check", str(folder), "--json"]) == 0
    assert (tmp_path / "check.html").is_file()
    assert main(["check", str(folder), "--out", "other.html"]) == 0
    assert capsys.readouterr().out.endswith("report: other.html\n")
    (tmp_path / "other.html").write_text("mine")
    assert main(["check", str(folder), "--out", "other.html"]) == 2
    assert (tmp_path / "other.html").read_text() == "mine"
    atrous.check(folder, out="call.html", progress=False)
    assert (tmp_path / "call.html").is_file()
    assert not list(folder.glob("*.html"))


def test_what_was_found_is_written_once_and_compared_then(folder, capsys):
    save(folder / "masks" / "0.png", np.repeat([[0, 1, 255]], 6, axis=0).repeat([2, 3, 3], axis=1))
    settings = folder / "atrous.yaml"
    assert main(["check", str(folder), "--write"]) == 0
    assert f"settings: {settings}" in capsys.readouterr().out
    written = settings.read_text()
    assert written.startswith('version: 1\ndata:\n  classes: {0: "class 0", 1: "class 1"}\n  ignore: [255]\n')
    settings.write_text(written.replace("class 1", "car"))
    assert main(["check", str(folder), "--write"]) == 0
    assert "car" in settings.read_text()
    settings.write_text(written.replace("ignore", "# all\n  ignore"))
    assert main(["check", str(folder), "--write"]) == 0
    shown = capsys.readouterr().out
    assert "-  # all" in shown
    assert "# all" in settings.read_text()


def test_what_is_written_solves_masks_of_0_and_255(folder, capsys):
    for path in (folder / "masks").glob("*.png"):
        save(path, np.repeat([[0, 255]], 6, axis=0).repeat(4, axis=1))
    assert main(["check", str(folder), "--write"]) == 3
    assert main(["check", str(folder)]) == 0
    assert "object" in capsys.readouterr().out
    assert not is_refused(folder)


def test_nothing_to_write_is_an_error(folder, capsys):
    assert main(["check", "shapes", "--write", "--set", "data.options.num_train=4"]) == 2
    (folder / "masks").rename(folder / "elsewhere")
    assert main(["check", str(folder), "--write"]) == 2
    assert "Leave out --write" in capsys.readouterr().err


def test_a_call_takes_python_data_and_returns_the_same(folder):
    splits = build_splits(DataConfig(source=str(folder), classes=("road", "car")))
    result = atrous.check(splits, progress=False)
    assert [row.pixels for row in result.ids] == [64, 128]
    assert result.findings == atrous.check(folder, progress=False).findings == ()


def test_a_check_needs_no_pytorch(folder):
    script = (
        "import sys, atrous\nfrom atrous.cli.main import main\n"
        f"code = main(['check', {str(folder)!r}])\n"
        f"atrous.check({str(folder)!r})\n"
        "sys.exit('torch' if 'torch' in sys.modules else code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_from_a_folder_without_layout_to_a_training_by_what_is_written(folder, capsys):
    """Odd names, masks of 0 and 255, a broken image and one without a mask: each check writes what solves it."""
    (folder / "images").rename(folder / "my pics")
    (folder / "drawn").mkdir()
    for path in (folder / "masks").glob("*.png"):
        save(folder / "drawn" / f"{path.stem}_done.png", np.asarray(Image.open(path)) * 255)
        path.unlink()
    (folder / "masks").rmdir()
    save(folder / "my pics" / "no mask.png", np.full((6, 8, 3), 90))
    (folder / "my pics" / "3.png").write_bytes(b"no image")
    assert main(["check", str(folder), "--write"]) == 3
    settings = folder / "atrous.yaml"
    assert settings.read_text() == 'version: 1\ndata:\n  images: "my pics"\n  masks: "drawn/{stem}_done.png"\n'
    assert main(["check", str(folder)]) == 3
    shown = capsys.readouterr().out
    proposed = shown.split("compares it with yours:\n")[1].split("report:")[0]
    settings.write_text("\n".join(line[2:] for line in proposed.splitlines()))
    assert 'exclude: ["my pics/no mask.png", "my pics/3.png"]' in settings.read_text()
    assert main(["check", str(folder), "--write"]) in (0, 1)
    assert "what was found" not in capsys.readouterr().out  # nothing is left to add
    assert not is_refused(folder)
