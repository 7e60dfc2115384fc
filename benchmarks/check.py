"""How long `atrous check` reads the images and the masks of some data, against a bare loop that decodes the same files.

    python benchmarks/check.py --voc PATH/TO/VOC             # JPEGImages/, SegmentationClass/, ImageSets/Segmentation/

`loop` decodes every file with Pillow to an array. `check` finds out all that a check needs, hashes among it, with an
empty cache of facts, and `again` finds it in the cache. All use the same threads. Seconds are those of the process with
all its threads, so other load counts little.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from harness import parse_options, report, take_turns
from PIL import Image

from atrous.config.schema import DataConfig
from atrous.data.build import build_splits
from atrous.data.facts import iter_threads
from atrous.data.facts_cache import FactsCache
from atrous.data.mask_reader import PLAIN


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this script."""
    parser.add_argument("--voc", type=Path, required=True, help="folder of data in VOC's layout")
    parser.add_argument("--train-split", default="train_aug", help="name of the list of images")
    parser.add_argument("--count", type=int, help="pairs to read. Default: all")


def main() -> None:
    """Compare the passes over images, and those over masks."""
    options = parse_options(__doc__, add_options)
    data = DataConfig(source=f"voc={options.voc}", split={"train": options.train_split, "val": "val"})
    splits = build_splits(data)
    pairs = [(split, index) for split in (splits.train, splits.val) for index in range(len(split))][: options.count]
    images = [split.image_path(index) for split, index in pairs]
    masks = [split.mask_path(index) for split, index in pairs]

    def read_image(path: Path, cache: FactsCache) -> None:
        cache.read_image(path)

    def read_mask(path: Path, cache: FactsCache) -> None:
        PLAIN.read_facts(path, cache)

    for kind, files, read in (("images", images, read_image), ("masks", masks, read_mask)):
        with tempfile.TemporaryDirectory() as folder:
            sides: dict[str, Callable[[], None]] = {
                "loop": partial(decode, files),
                "check": partial(run_pass, read, files, Path(folder), is_new=True),
                "again": partial(run_pass, read, files, Path(folder), is_new=False),
            }
            times = take_turns(sides, options.rounds, clock=time.process_time)
        report("check", {"files": kind, "count": len(files)}, times, reference="loop", options=options)


def decode(files: Sequence[Path]) -> None:
    """Decode files to arrays."""
    for _ in iter_threads(lambda path: np.asarray(Image.open(path)), files):
        pass


def run_pass(read: Callable[[Path, FactsCache], None], files: Sequence[Path], folder: Path, *, is_new: bool) -> None:
    """Read facts of files with the cache in a folder, which is emptied first if it should be new."""
    if is_new:
        shutil.rmtree(folder)
    with FactsCache(folder) as cache:
        for _ in iter_threads(lambda path: read(path, cache), files):
            pass


if __name__ == "__main__":
    main()
