from __future__ import annotations

import dataclasses
import socket
from pathlib import Path

import pytest
import torch

from atrous.core.errors import MachineError, ModelFileError
from atrous.core.files import compute_sha256
from atrous.networks.backbones.efficientnet_lite import LITE0_FILE, LITE1_FILE, LITE2_FILE
from atrous.networks.weight_files import PublishedFile, fetch_file, find_cache


@pytest.mark.parametrize("file", [LITE0_FILE, LITE1_FILE, LITE2_FILE], ids=lambda file: file.package)
def test_packaged_files_are_the_pinned_ones(file) -> None:
    assert compute_sha256(file.fetch()) == file.sha256


def test_a_wrong_hash_is_refused() -> None:
    with pytest.raises(ModelFileError, match="is not the published file"):
        dataclasses.replace(LITE0_FILE, sha256="0" * 64).fetch()


def test_a_missing_package_names_itself() -> None:
    missing = dataclasses.replace(LITE1_FILE, package="no-such-model-package")
    with pytest.raises(MachineError, match="-m pip install no-such-model-package"):
        missing.fetch()


def test_a_published_file_goes_to_the_cache_under_its_name(server, plain: Path) -> None:
    url = server.publish(plain, "model.pth")
    assert PublishedFile(url, "MIT", "mine_model.pth").fetch() == find_cache() / "mine_model.pth"


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    torch.save({"weight": torch.arange(5000)}, tmp_path / "plain.pth")
    return tmp_path / "plain.pth"


def name_by_hash(path: Path, stem: str = "net") -> str:
    return f"{stem}-{compute_sha256(path)[:8]}.pth"


@pytest.mark.parametrize("is_hashed", [True, False])
def test_a_file_is_fetched_once(is_hashed: bool, server, plain: Path, tmp_path: Path) -> None:
    name = name_by_hash(plain) if is_hashed else "net.pth"
    url, cache = server.publish(plain, name), tmp_path / "cache"
    path = fetch_file(url, cache)
    assert path == cache / name
    assert path.read_bytes() == plain.read_bytes()
    assert fetch_file(url, cache) == path
    assert server.asked == [f"/{name}"]
    assert [p.name for p in cache.iterdir()] == [name]


def test_what_comes_with_another_hash_is_not_kept(server, plain: Path, tmp_path: Path) -> None:
    url, cache = server.publish(plain, "net-00000000.pth"), tmp_path / "cache"
    with pytest.raises(ModelFileError) as caught:
        fetch_file(url, cache)
    assert "does not start with 00000000" in caught.value.message
    assert str(cache / "net-00000000.pth") in caught.value.hint
    assert not list(cache.iterdir())


def test_a_file_put_there_by_hand_is_never_touched(server, plain: Path, tmp_path: Path) -> None:
    """The usual mistake: a file that somebody carried here is deleted since its hash is wrong."""
    name, cache = name_by_hash(plain), tmp_path / "cache"
    url = server.publish(plain, name)
    cache.mkdir()
    (cache / name).write_bytes(b"half a file")
    with pytest.raises(ModelFileError) as caught:
        fetch_file(url, cache)
    assert str(cache / name) in caught.value.message
    assert "left as it is" in caught.value.hint
    assert (cache / name).read_bytes() == b"half a file"
    (cache / name).write_bytes(plain.read_bytes())
    assert fetch_file(url, cache) == cache / name
    assert not server.asked


@pytest.mark.parametrize("is_hashed", [True, False])
def test_a_broken_transfer_leaves_nothing_and_the_next_one_starts_anew(
    is_hashed: bool, server, plain: Path, tmp_path: Path
) -> None:
    """The usual mistake: half a file without a published hash is taken for the whole."""
    name, cache = name_by_hash(plain) if is_hashed else "net.pth", tmp_path / "cache"
    url, size = server.publish(plain, name), plain.stat().st_size
    with pytest.raises(MachineError, match=f"{size // 2} of {size} bytes"):
        fetch_file(f"{server.address}/short/{name}", cache)
    assert not list(cache.iterdir())
    assert fetch_file(url, cache).read_bytes() == plain.read_bytes()


def test_a_dead_link_names_the_file_its_hash_and_its_place(server, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{free.getsockname()[1]}"
    cache = tmp_path / "cache"
    for address in (dead, server.address):  # nobody there, and 404
        with pytest.raises(MachineError) as caught:
            fetch_file(f"{address}/net-12345678.pth", cache)
        assert f"{address}/net-12345678.pth" in caught.value.message
        assert "SHA-256 starts with 12345678" in caught.value.hint
        assert str(cache / "net-12345678.pth") in caught.value.hint
        assert not list(cache.iterdir())
        with pytest.raises(MachineError, match="no SHA-256 is published"):
            fetch_file(f"{address}/net.pth", cache)
