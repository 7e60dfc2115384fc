"""Very many pairs: what each takes of memory, and that no work on them grows faster than their number."""

from __future__ import annotations

import builtins
import cProfile
import gc
import io
import os
import pathlib
import pstats
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import atrous.data.facts_cache as facts_cache
from atrous.config.schema import DataConfig
from atrous.data.build import check_training_data, find_splits, survey_data
from atrous.data.checks.survey import run_checks

DISTINCT = 20
MOST_BYTES = 1300
"""What a pair may take: its paths, its key, the facts of two files."""
MOST_CALLS = {"stat": 6, "lstat": 0, "open": 2}
"""How often the files of a pair may be looked at and opened, both together."""


def write_pairs(root: Path, num_pairs: int, *, is_flat: bool) -> DataConfig:
    """Write pairs that are hard links to few distinct ones, a fifth of them to score."""
    generator = np.random.default_rng(0)
    first: dict[Path, Path] = {}
    for number in range(num_pairs):
        index, copy = number % DISTINCT, number // DISTINCT
        split = "val" if index % 5 == 0 else "train"
        for kind, values in (("images", (16, 16, 3)), ("masks", (16, 16))):
            path = root / kind / split / f"{copy:05}{'_' if is_flat else '/'}{index:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            source = root / kind / f"{index}.png"
            if source not in first:
                first[source] = path
                pixels = generator.integers(0, 3, values, np.uint8) * np.uint8(60 if kind == "images" else 1)
                image = Image.fromarray(pixels)
                if kind == "masks":
                    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
                image.save(path)
            else:
                os.link(first[source], path)
    return DataConfig(source=str(root), classes=("a", "b", "c"))


@pytest.fixture(autouse=True)
def _small_parts(tmp_path, monkeypatch):
    """An own cache, which writes often, so that what waits to be written is the same for few pairs and for many."""
    monkeypatch.setattr(facts_cache, "MOST_NEW", 100)
    monkeypatch.setattr(facts_cache, "SETTLED_S", -1.0)
    monkeypatch.setattr(facts_cache, "find_cache_folder", lambda: tmp_path / "cache")


@pytest.mark.parametrize("is_flat", [False, True])
def test_a_pair_takes_little_memory(tmp_path, monkeypatch, is_flat):
    monkeypatch.chdir(tmp_path)  # so that paths are of a usual length

    def measure(num_pairs: int) -> int:
        config = write_pairs(Path(str(num_pairs)), num_pairs, is_flat=is_flat)
        tracemalloc.start()
        splits = find_splits(config)
        survey = survey_data(config, splits)
        gc.collect()
        kept = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(False, pathlib.__file__)])
        tracemalloc.stop()
        assert len(survey.train.items) + len(survey.val.items) == num_pairs
        return sum(trace.size for trace in kept.traces)

    measure(100)  # which imports what is needed
    few, many = measure(500), measure(1500)
    assert (many - few) / 1000 < MOST_BYTES


@pytest.mark.parametrize("is_flat", [False, True])
def test_each_file_is_looked_at_and_opened_a_few_times(tmp_path, monkeypatch, is_flat):
    seen: list[str] = []  # threads append to it; a counter would lose some of what they add

    def watch(module, name: str) -> None:
        own = getattr(module, name)

        def count(path, *args, **options):
            if str(path).startswith(str(tmp_path)) and str(path).endswith(".png"):
                seen.append(name)
            return own(path, *args, **options)

        monkeypatch.setattr(module, name, count)

    for module, name in ((os, "stat"), (os, "lstat"), (builtins, "open"), (io, "open")):
        watch(module, name)

    def measure(num_pairs: int) -> Counter[str]:
        config = write_pairs(tmp_path / f"{num_pairs}", num_pairs, is_flat=is_flat)
        seen.clear()
        check_training_data(config, find_splits(config))
        return Counter(seen)

    measure(20)
    few, more, most = (measure(num_pairs) for num_pairs in (60, 120, 180))
    for name, each in MOST_CALLS.items():
        assert most[name] - more[name] == more[name] - few[name]
        assert more[name] - few[name] <= each * 60


def test_checks_of_copies_do_not_compare_each_with_each(tmp_path):
    def count_calls(num_pairs: int) -> int:
        config = write_pairs(tmp_path / f"{num_pairs}", num_pairs, is_flat=False)
        survey = survey_data(config, find_splits(config))
        profile = cProfile.Profile()
        profile.runcall(run_checks, survey)
        return pstats.Stats(profile).total_calls

    count_calls(20)
    few, more, most = map(count_calls, (200, 400, 600))
    assert most - more < 1.1 * (more - few)
