from __future__ import annotations

import errno
import hashlib
import socket
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.cli.main import main
from atrous.core.errors import DataError, MachineError, UsageError
from atrous.data import PREPARED
from atrous.data.prepare import ade20k
from atrous.data.prepare.ade20k import Ade20kLayout
from atrous.data.prepare.contracts import Archive
from atrous.data.prepare.fetch import fetch_archives
from web_server import Server, serve


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serve(tmp_path / "published", monkeypatch) as server:
        yield server


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "ade.zip"
    with zipfile.ZipFile(path, "w") as file:
        for split, folder, count in (("train", "training", 2), ("val", "validation", 1)):
            for kind, suffix in (("images", "jpg"), ("annotations", "png")):
                for number in range(1, count + 1):
                    noise = np.random.default_rng(number).integers(0, 151, (40, 50), dtype=np.uint8)
                    Image.fromarray(noise).save(tmp_path / f"a.{suffix}")
                    name = f"ADE/{kind}/{folder}/ADE_{split}_{number:08d}.{suffix}"
                    file.write(tmp_path / f"a.{suffix}", name)
    return path


def describe(url: str, path: Path, algorithm: str = "sha1") -> Ade20kLayout:
    """Return ADE20K of three images, from a server of the test."""
    digest = hashlib.new(algorithm, path.read_bytes()).hexdigest()
    return Ade20kLayout(2, 1, archives=(Archive(url, algorithm, digest),))


def ignore(_: object) -> None:
    """Receives progress."""


def test_the_command_downloads_verifies_and_prepares(server, archive, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ade20k, "ADE20K", describe(server.publish(archive, "ade.zip"), archive))
    words = ["prepare", "ade20k", "--download", "--out", str(tmp_path / "out"), "--quiet"]
    for _ in range(2):  # and what is there is not downloaded again
        assert main(words) == 0
        assert "train 2, val 1; 6 files" in capsys.readouterr().out
    assert server.asked == ["/ade.zip"]
    assert [path.name for path in (tmp_path / "out-archives").iterdir()] == ["ade.zip"]
    assert len([path for path in (tmp_path / "out").rglob("*") if path.is_file()]) == 6
    assert main([*words, "--dry-run"]) == 2
    assert main([*words[:2], str(archive), *words[2:]]) == 2


@pytest.mark.parametrize("algorithm", ["sha1", "md5"])
def test_a_transfer_that_broke_off_is_continued(algorithm, server, archive, tmp_path):
    server.publish(archive, "ade.zip")
    folder, size = tmp_path / "kept", archive.stat().st_size
    with pytest.raises(MachineError, match=f"cannot be downloaded: {size // 2} of {size} bytes") as caught:
        fetch_archives(describe(f"{server.address}/short/ade.zip", archive, algorithm), folder, ignore)
    assert "Run the same command again to continue" in caught.value.hint
    assert [path.name for path in folder.iterdir()] == ["ade.zip.partial"]
    layout = describe(f"{server.address}/ade.zip", archive, algorithm)
    assert fetch_archives(layout, folder, ignore) == [folder / "ade.zip"]
    assert server.ranges[-1] == f"bytes={size // 2}-"
    assert (folder / "ade.zip").read_bytes() == archive.read_bytes()
    assert [path.name for path in folder.iterdir()] == ["ade.zip"]


def test_another_file_is_refused_and_one_of_the_user_is_left_alone(server, archive, tmp_path):
    url, folder = server.publish(archive, "ade.zip"), tmp_path / "kept"
    wanted = tmp_path / "wanted"
    wanted.write_bytes(b"the official content")
    layout = describe(url, wanted)
    with pytest.raises(DataError, match=r"the download is not the official file \(sha1 [0-9a-f]{40}\)") as caught:
        fetch_archives(layout, folder, ignore)
    assert str(folder / "ade.zip") in caught.value.hint
    assert not folder.exists() or not list(folder.iterdir())
    folder.mkdir(exist_ok=True)
    (folder / "ade.zip").write_bytes(b"half a file")
    with pytest.raises(DataError, match="left as it is"):
        fetch_archives(layout, folder, ignore)
    assert (folder / "ade.zip").read_bytes() == b"half a file"
    (folder / "ade.zip").write_bytes(wanted.read_bytes())
    assert fetch_archives(layout, folder, ignore) == [folder / "ade.zip"]
    assert len(server.asked) == 1


def test_without_a_network_the_error_says_what_to_put_where(archive, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/ade.zip"
    layout = describe(url, archive)
    with pytest.raises(MachineError, match=f"{url} cannot be downloaded") as caught:
        fetch_archives(layout, tmp_path / "kept", ignore)
    for words in (str(tmp_path / "kept" / "ade.zip"), str(layout.archives[0]), layout.origin):
        assert words in caught.value.hint


@pytest.mark.parametrize("name", PREPARED)
def test_every_data_set_has_archives_or_says_where_they_are(name, tmp_path):
    layout = PREPARED.load(name)
    if name in ("camvid", "cityscapes"):
        with pytest.raises(UsageError, match="cannot be downloaded") as caught:
            fetch_archives(layout, tmp_path / "kept", ignore)
        assert layout.origin in caught.value.hint
        assert not list(tmp_path.iterdir())
        return
    assert layout.archives
    for archive in layout.archives:
        assert len(archive.digest) == 2 * hashlib.new(archive.algorithm).digest_size
        assert archive.url.rsplit("/", 1)[-1] in layout.origin


def test_a_disk_that_fills_during_a_download_is_no_fault_of_the_server(server, archive, tmp_path, monkeypatch):
    def fail(url: str, path: Path, **_: object) -> None:
        path.write_bytes(b"a part")
        raise OSError(errno.ENOSPC, "No space left on device")  # an error of a write names no file

    monkeypatch.setattr("atrous.data.prepare.fetch.download", fail)
    layout, folder = describe(server.publish(archive, "ade.zip"), archive), tmp_path / "kept"
    with pytest.raises(MachineError, match=r"ade\.zip\.partial: no space left on the disk") as caught:
        fetch_archives(layout, folder, ignore)
    assert "Free some space" in caught.value.hint
