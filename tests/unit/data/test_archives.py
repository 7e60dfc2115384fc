from __future__ import annotations

import gzip
import io
import os
import re
import tarfile
import zipfile

import pytest

from atrous.core.errors import DataError, UsageError
from atrous.data.archives import iter_members, open_source

FILES = {"a/one.txt": b"1" * 700, "a/b/two.bin": bytes(range(256)) * 2, "three": b"", "./four.txt": b"4"}
NORMAL = {name.removeprefix("./"): content for name, content in FILES.items()}


def save_tar(path, files=FILES, mode="w", **extra):
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in extra.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content) if not extra else None)
    return path


def save_zip(path, files=FILES, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make(kind, folder, files=FILES):
    if kind == "zip":
        return save_zip(folder / "x.zip", files)
    if kind == "folder":
        for name, content in files.items():
            (folder / "x" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "x" / name).write_bytes(content)
        return folder / "x"
    return save_tar(folder / f"x.{kind}", files, "w:gz" if kind == "tgz" else "w")


def read_all(source):
    return {member.name: member.read() for member in iter_members(source)}


KINDS = ("zip", "tar", "tgz")


@pytest.mark.parametrize("kind", [*KINDS, "folder"])
def test_members_have_the_content_that_was_put_in(kind, tmp_path):
    source = make(kind, tmp_path)
    assert read_all(source) == NORMAL
    assert {member.name: member.size for member in iter_members(source)} == {
        name: len(content) for name, content in NORMAL.items()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_files_and_those_of_macos_are_skipped(kind, tmp_path):
    files = {"a": b"1", ".hidden": b"2", "b/.git/c": b"3", "__MACOSX/b/._c": b"4"}
    assert read_all(make(kind, tmp_path, files)) == {"a": b"1"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "..\\evil", "C:\\evil", "\\\\host\\evil"])
def test_a_path_that_leads_out_is_refused(kind, name, tmp_path):
    with pytest.raises(DataError, match="leads out of it"):
        read_all(make(kind, tmp_path, {"good": b"1", name: b"2"}))
    assert list(tmp_path.parent.glob("evil")) == []


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(kind, tmp_path):
    source = save_tar(tmp_path / "x.tar", {"link": b""}, type=kind, linkname="/etc/passwd")
    with pytest.raises(DataError, match="is a link, a device"):
        read_all(source)


def test_links_in_a_zip_are_refused(tmp_path):
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="is a link"):
        read_all(tmp_path / "x.zip")


@pytest.mark.parametrize("kind", ["zip", "tgz"])
def test_an_archive_that_grows_without_measure_is_refused_before_it_is_read(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("atrous.data.archives.SPARE_BYTES", 2**16)
    source = make(kind, tmp_path, {"zeros": bytes(2**22)})
    with pytest.raises(DataError, match="holds far more than its size allows"):
        next(iter_members(source))


@pytest.mark.parametrize("size", [-512, 2**40])
def test_a_header_that_asks_for_much_memory_is_refused(size, tmp_path):
    header = bytearray(tarfile.TarInfo("x").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)
    header[156:157] = tarfile.XHDTYPE
    header[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(header))[0]
    (tmp_path / "x.tgz").write_bytes(gzip.compress(bytes(header) + bytes(1024)))
    with pytest.raises(DataError, match="damaged or cut off"):
        read_all(tmp_path / "x.tgz")


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_that_was_cut_off_is_named(kind, tmp_path):
    source = make(kind, tmp_path, {"a": os.urandom(5000), "b": os.urandom(5000)})
    content = source.read_bytes()
    for length in (len(content) // 2 + 600, 3000, 700):
        source.write_bytes(content[:length])
        with pytest.raises((DataError, UsageError), match=r"damaged or cut off|no archive") as caught:
            read_all(source)
        assert str(source) in caught.value.message


def test_changed_bytes_in_a_zip_are_found(tmp_path):
    source = save_zip(tmp_path / "x.zip", {"a": b"q" * 50}, zipfile.ZIP_STORED)
    source.write_bytes(source.read_bytes().replace(b"qqq", b"qqp", 1))
    with pytest.raises(DataError, match="damaged or cut off: Bad CRC-32"):
        read_all(source)


def test_an_encrypted_member_is_named(tmp_path):
    source = save_zip(tmp_path / "x.zip", {"a": b"1"})
    content = bytearray(source.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    source.write_bytes(content)
    with pytest.raises(DataError, match="'a' is encrypted"):
        read_all(source)


def test_another_file_is_no_archive(tmp_path):
    (tmp_path / "x.txt").write_text("text")
    with pytest.raises(UsageError, match=r"x\.txt is no archive") as caught:
        read_all(tmp_path / "x.txt")
    assert ".zip" in caught.value.hint


def test_links_of_a_folder_are_followed_once(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a").write_bytes(b"1")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "loop").symlink_to(tmp_path / "x")
    assert read_all(tmp_path / "x") == {"linked/a": b"1"}


def test_files_that_a_program_added_to_a_zip_with_their_mode_are_read(tmp_path):
    make("folder", tmp_path)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in NORMAL:
            archive.write(tmp_path / "x" / name, name)
        archive.mkdir("empty")
    assert read_all(tmp_path / "x.zip") == NORMAL


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_of_too_many_members_is_refused(kind, tmp_path, monkeypatch):
    source = make(kind, tmp_path)
    monkeypatch.setattr("atrous.data.archives.MOST_MEMBERS", len(FILES))
    assert read_all(source) == NORMAL
    monkeypatch.setattr("atrous.data.archives.MOST_MEMBERS", len(FILES) - 1)
    with pytest.raises(DataError, match="holds far more than its size allows"):
        read_all(source)


def test_a_file_with_holes_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"'a/one.txt' is a link, a device or a file with holes"):
        read_all(save_tar(tmp_path / "x.tar", type=tarfile.GNUTYPE_SPARSE))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("names", [("a", "./a"), ("a", "a/b"), ("a/b", "a")])
def test_two_members_that_are_one_file_are_refused(kind, names, tmp_path):
    source = make(kind, tmp_path, dict.fromkeys(names, b"1"))
    with pytest.raises(DataError, match="occurs twice"), open_source(source):
        pass


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_is_a_folder_for_a_while_that_errors_do_not_name(kind, tmp_path):
    source = make(kind, tmp_path)
    with open_source(source) as folder:
        assert read_all(folder) == NORMAL
    assert not folder.exists()
    with pytest.raises(DataError, match=f"^{re.escape(str(source))}/three: is empty"), open_source(source) as folder:
        raise DataError(f"{folder / 'three'}: is empty")
    with open_source(tmp_path) as same:
        assert same == tmp_path
