from __future__ import annotations

import gc
import multiprocessing
import os
import sqlite3
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import atrous.data.facts_cache as module
from atrous.core.errors import DataError
from atrous.data.facts_cache import FactsCache, count_ids
from atrous.images.decode import ImageHeader, load_stored_mask
from atrous.images.stored_values import StoredMask
from atrous.images.windows import Window

AN_HOUR_AGO = time.time() - 3600


@pytest.fixture
def decoded(monkeypatch) -> list[Path]:
    """The masks that were decoded, which a cache should not do twice."""
    paths = []

    def load(path, **options):
        paths.append(path)
        return load_stored_mask(path, **options)

    monkeypatch.setattr(module, "load_stored_mask", load)
    return paths


def save(path: Path, values=((0, 3), (3, 3)), changed=AN_HOUR_AGO) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(values, np.uint8)).save(path)
    os.utime(path, (changed, changed))
    return path


def execute(folder: Path, command: str, values=()) -> list:
    """Execute a command on the database of the cache in a folder."""
    [file] = folder.glob("cache/*")
    database = sqlite3.connect(file)
    with database:
        rows = database.execute(command, values).fetchall()
    database.close()
    return rows


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
@pytest.mark.parametrize("shape", [(1, 1), (7, 1), (1, 7), (40, 50), (0, 3)])
def test_pixels_are_counted_as_sorting_counts_them(dtype, shape):
    generator = np.random.default_rng(0)
    for mask in (generator.integers(0, 9, shape).astype(dtype), np.full(shape, 3, dtype)):
        ids, counts = np.unique(mask, return_counts=True)
        assert count_ids(mask) == (shape, dict(zip(ids.tolist(), counts.tolist(), strict=True)))


def test_an_unchanged_file_is_decoded_once(tmp_path, decoded):
    mask = save(tmp_path / "data" / "m.png")
    for _ in range(3):
        with FactsCache(tmp_path / "cache") as cache:
            facts = cache.read_mask(mask)
            assert (facts.size, facts.counts, facts.mode) == ((2, 2), {0: 1, 3: 3}, "L")
            assert cache.read_image(mask)[0] == ImageHeader(2, 2, "L", False)
    assert decoded == [mask]


def test_a_changed_or_new_file_is_decoded_again(tmp_path, decoded):
    mask = save(tmp_path / "m.png")
    with FactsCache(tmp_path / "cache") as cache:
        cache.read_mask(mask)
    save(mask, ((1, 1), (1, 1)), changed=AN_HOUR_AGO + 1)
    for _ in range(2):
        with FactsCache(tmp_path / "cache") as cache:
            assert cache.read_mask(mask).counts == {1: 4}
    assert len(decoded) == 2
    save(mask, changed=time.time())  # so new that a second change might have the same time
    for _ in range(2):
        with FactsCache(tmp_path / "cache") as cache:
            assert cache.read_mask(mask).counts == {0: 1, 3: 3}
    assert len(decoded) == 4


def test_a_file_put_in_the_place_of_another_is_read_although_size_and_time_are_the_same(tmp_path, decoded):
    mask, other = save(tmp_path / "m.pgm"), save(tmp_path / "other.pgm", ((1, 1), (1, 2)))
    assert mask.stat().st_size == other.stat().st_size
    with FactsCache(tmp_path / "cache") as cache:
        cache.read_mask(mask)
    other.replace(mask)
    with FactsCache(tmp_path / "cache") as cache:
        assert cache.read_mask(mask).counts == {1: 3, 2: 1}
    assert len(decoded) == 2


@pytest.mark.parametrize(
    "row",
    [
        "{",
        "null",
        "[[[[",
        "[" * 100_000,
        "[STAMP]",
        "\x00",
        None,
        5,
        b"\xff",
        "[STAMP,3]",
        '[STAMP,[[2],"L",[]]]',
        '[STAMP,[[2,2],"L",[[0]]]]',
        "[STAMP,null]",
        '[STAMP,[[2,2],"L",[[0,Infinity]],[],[],"",[],""]]',
        '[STAMP,[[2,2],"L",[[0,-1],[3,5]],[],[],"",[],""]]',
        '[STAMP,[[2,2],"L",[[0,0],[3,4]],[],[],"",[],""]]',
        '[STAMP,[[2,2],"L",[[0,1]],[],[],"",[],""]]',
    ],
)
def test_a_corrupt_row_is_ignored_and_written_again(tmp_path, decoded, row):
    mask = save(tmp_path / "m.png")
    with FactsCache(tmp_path / "cache") as cache:
        cache.read_mask(mask)
    status = mask.stat()
    if isinstance(row, str):
        row = row.replace("STAMP", f"[{status.st_size},{status.st_mtime_ns},{status.st_ctime_ns}]")
    execute(tmp_path, "UPDATE facts SET row = ?", [row])
    for _ in range(2):
        with FactsCache(tmp_path / "cache") as cache:
            assert cache.read_mask(mask).counts == {0: 1, 3: 3}
    assert len(decoded) == 2


@pytest.mark.parametrize("damage", [lambda data: b"no database" * 1000, lambda data: data[:4096] + b"\xff" * 8192])
def test_a_cache_whose_file_is_damaged_is_replaced(tmp_path, decoded, damage):
    mask = save(tmp_path / "m.png")
    with FactsCache(tmp_path / "cache") as cache:
        cache.read_mask(mask)
    [file] = tmp_path.glob("cache/*")
    file.write_bytes(damage(file.read_bytes()))
    for _ in range(3):
        with FactsCache(tmp_path / "cache") as cache:
            assert cache.read_mask(mask).counts == {0: 1, 3: 3}
    assert 2 <= len(decoded) <= 3  # what is damaged inside is found when it is written to


def test_repeated_changes_do_not_let_the_cache_grow(tmp_path):
    for number in range(20):
        mask = save(tmp_path / "m.png", changed=AN_HOUR_AGO + number)
        with FactsCache(tmp_path / "cache") as cache:
            cache.read_mask(mask)
    assert execute(tmp_path, "SELECT kind FROM facts ORDER BY kind") == [("mask",)]


def test_the_facts_that_were_written_first_are_dropped(tmp_path, monkeypatch, decoded):
    monkeypatch.setattr(module, "MOST_FACTS", 3)
    masks = [save(tmp_path / str(number) / "m.png") for number in range(6)]
    for mask in masks:
        with FactsCache(tmp_path / "cache") as cache:
            cache.read_mask(mask)
    assert execute(tmp_path, "SELECT count(*) FROM facts") == [(3,)]
    with FactsCache(tmp_path / "cache") as cache:
        for mask in masks[3:]:
            cache.read_mask(mask)
        assert len(decoded) == 6
        cache.read_mask(masks[2])
    assert len(decoded) == 7


def test_files_of_folders_in_turns_are_decoded_once_and_take_no_memory(tmp_path, monkeypatch, decoded):
    monkeypatch.setattr(module, "MOST_NEW", 10)
    files = [save(tmp_path / f"{number % 2}" / f"{number // 2}.png") for number in range(400)]
    for _ in range(2):
        tracemalloc.start()
        with FactsCache(tmp_path / "cache") as cache:
            for number, file in enumerate(files):
                cache.read_mask(file)
                if number == 100:
                    gc.collect()
                    before, _ = tracemalloc.get_traced_memory()
            gc.collect()
            assert tracemalloc.get_traced_memory()[0] - before < 100 * len(files)  # a row is longer
        tracemalloc.stop()
    assert len(decoded) == len(files)


def test_a_mask_with_very_many_ids_is_not_remembered(tmp_path):
    ids = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    Image.fromarray(ids).save(tmp_path / "m.png")
    os.utime(tmp_path / "m.png", (AN_HOUR_AGO, AN_HOUR_AGO))
    with FactsCache(tmp_path / "cache") as cache:
        assert len(cache.read_mask(tmp_path / "m.png").counts) == 4096
    assert execute(tmp_path, "SELECT kind FROM facts") == []


def test_pixels_inside_areas_are_counted_from_five_ids_on(tmp_path):
    with FactsCache(tmp_path / "cache") as cache:
        for num_ids, expected in ((4, {}), (5, dict.fromkeys(range(5), 1))):
            mask = save(tmp_path / f"{num_ids}.png", np.arange(num_ids).repeat(2)[None].repeat(2, axis=0))
            assert cache.read_mask(mask).solid == expected


@pytest.mark.parametrize(
    ("stored", "colours"),
    [
        (StoredMask(np.array([[0, 1], [2, 2]], np.uint8), "P", bytes((1, 2, 3, 4, 5, 6))), {0: 0x010203, 1: 0x040506}),
        (StoredMask(np.array([[-1, 0], [0, 0]]), "I", b""), {}),
    ],
)
def test_an_id_that_is_not_in_the_palette_has_no_colour(tmp_path, monkeypatch, stored, colours):
    monkeypatch.setattr(module, "load_stored_mask", lambda path, **options: stored)
    with FactsCache(tmp_path / "cache") as cache:
        assert cache.read_mask(save(tmp_path / "m.png")).colours == colours


def test_facts_of_each_window_of_a_file_are_its_own(tmp_path):
    values = np.arange(64, dtype=np.uint8).reshape(8, 8) // 16 * 60
    tifffile.imwrite(tmp_path / "m.tif", values, tile=(16, 16))
    os.utime(tmp_path / "m.tif", (AN_HOUR_AGO, AN_HOUR_AGO))
    windows = [Window(top, 0, 2, 8, (8, 8)) for top in (0, 2, 4, 6)]
    for _ in range(2):
        with FactsCache(tmp_path / "cache") as cache:
            masks = [cache.read_mask(tmp_path / "m.tif", window) for window in windows]
            images = [cache.read_image(tmp_path / "m.tif", window) for window in windows]
        assert [mask.counts for mask in masks] == [{value: 16} for value in (0, 60, 120, 180)]
        assert [traits.brightest for _, traits, _ in images] == [0, 60, 120, 180]
        digests = [mask.digest for mask in masks]
        assert digests == [digest for *_, digest in images]
        assert len({*digests}) == len(windows)
        assert {digest.removesuffix(each.label) for digest, each in zip(digests, windows, strict=True)} == {
            FactsCache(tmp_path / "other").read_digest(tmp_path / "m.tif")
        }


def fill(folder: Path, first: int) -> None:
    for number in range(first, first + 20):
        with FactsCache(folder / "cache") as cache:
            cache.read_mask(folder / f"{number}.png")


def test_several_processes_write_one_cache(tmp_path, decoded):
    for number in range(40):
        save(tmp_path / f"{number}.png", ((0, number), (0, 0)))
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=fill, args=(tmp_path, first)) for first in (0, 20, 10)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    with FactsCache(tmp_path / "cache") as cache:
        for number in range(1, 40):
            assert cache.read_mask(tmp_path / f"{number}.png").counts == {0: 3, number: 1}
    assert execute(tmp_path, "SELECT count(*) FROM facts WHERE kind = 'mask'") == [(40,)]


def test_a_cache_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / "cache").touch()
    with FactsCache(tmp_path / "cache") as cache:
        assert cache.read_mask(save(tmp_path / "m.png")).counts == {0: 1, 3: 3}


def test_missing_and_broken_files_are_named(tmp_path):
    (tmp_path / "broken.png").write_text("no image")
    with FactsCache(tmp_path / "cache") as cache:
        for read in (cache.read_mask, cache.read_image):
            with pytest.raises(DataError, match=r"gone\.png: no such file"):
                read(tmp_path / "gone.png")
            with pytest.raises(DataError, match=r"broken\.png: not an image"):
                read(tmp_path / "broken.png")


def test_without_a_folder_facts_are_read_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "find_cache_folder", lambda: None)
    with FactsCache() as cache:
        assert cache.read_mask(save(tmp_path / "m.png")).counts == {0: 1, 3: 3}
    assert [path.name for path in tmp_path.rglob("*")] == ["m.png"]
