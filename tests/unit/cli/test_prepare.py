from __future__ import annotations

import json

from PIL import Image

from atrous.cli.main import main
from atrous.data import PREPARED
from atrous.data.prepare.camvid import CamvidLayout

SMALL = CamvidLayout({"train": 1, "val": 1})


def save_source(folder):
    for split in ("train", "val"):
        for name, mode in ((split, "RGB"), (f"{split}annot", "L")):
            (folder / name).mkdir(parents=True)
            Image.new(mode, (3, 2)).save(folder / name / f"{split}_0.png")
    return folder


def test_a_data_set_is_prepared_and_the_next_command_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("atrous.data.prepare.camvid.CAMVID", SMALL)
    source, out = save_source(tmp_path / "source"), tmp_path / "out"
    words = ["prepare", "camvid", str(source), "--out", str(out)]
    assert main([*words, "--dry-run", "--quiet"]) == 0
    assert "nothing written" in capsys.readouterr().out
    assert not out.exists()
    assert main([*words, "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["splits"] == {"train": 1, "val": 1}
    assert main([*words, "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert "4 files, 0 MB, 4 of them existed" in printed
    assert printed.endswith(f"atrous check camvid={out}\n")


def test_without_a_source_its_site_is_named(capsys, tmp_path):
    for name in PREPARED:
        assert main(["prepare", name, "--out", str(tmp_path / "out")]) == 2
        assert "http" in capsys.readouterr().err
    assert main(["prepare", "camvit", "--out", str(tmp_path / "out")]) == 2
    assert "Did you mean 'camvid'?" in capsys.readouterr().err


def test_other_data_are_refused(tmp_path, capsys):
    assert main(["prepare", "camvid", str(save_source(tmp_path / "source")), "--out", str(tmp_path / "out")]) == 3
    assert "train: 1 image, and 367 are official" in capsys.readouterr().err
