"""Memory while many images are labelled: it does not grow with their number, into a folder and in an iterator."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MOST_GROWTH = 0.05
"""Of the memory after the first `EARLY` images."""
EARLY = 100
SCRIPT = """
import json, sys
from pathlib import Path
import atrous, tiny
from atrous.networks import BACKBONES

name, way, backend, source, out = sys.argv[1:]
memory = {}

def measure(done):
    lines = Path("/proc/self/status").read_text().splitlines()
    memory[done] = int(next(line for line in lines if line.startswith("VmRSS")).split()[1])

with BACKBONES.including(tiny.TINY):
    network = atrous.build(name, classes=["ground", "road", "sign"])
    if way == "folder":
        atrous.predict(
            source, network, out, backend=backend, on_message=lambda message: None,
            progress=lambda at: measure(at.done),
        )
    else:
        model = atrous.Model(network)
        for number, prediction in enumerate(model.predict(source), start=1):
            measure(number)
print(json.dumps(memory))
"""


def save_images(folder: Path, count: int) -> Path:
    """Write images of many sizes, JPEG and PNG."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(count):
        height, width = generator.integers(33, 130, 2).tolist()
        pixels = generator.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((width, height))
        image.save(folder / f"{number:05}.{'png' if number % 3 else 'jpg'}")
    return folder


def require_bounded(name: str, way: str, backend: str, count: int, folder: Path) -> None:
    source = save_images(folder / "in", count)
    words = [sys.executable, "-c", SCRIPT, name, way, backend, str(source), str(folder / "out")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    memory = {int(number): kib for number, kib in json.loads(done.stdout.splitlines()[-1]).items()}
    early, late = memory[EARLY], memory[count]
    growth = late / early - 1
    sys.stdout.write(f"{name}, {way}, {backend}: {early:,} KiB after {EARLY}, {late:,} after {count}, {growth:+.2%}\n")
    assert growth <= MOST_GROWTH


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the memory of a process is read from /proc")
@pytest.mark.parametrize("way", ["folder", "iterator"])
def test_the_memory_of_400_images_is_that_of_100(way, tmp_path):
    require_bounded("fcn-tiny", way, "torch", 400, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the memory of a process is read from /proc")
@pytest.mark.parametrize(("way", "backend"), [("folder", "auto"), ("folder", "torch"), ("iterator", "torch")])
def test_the_memory_of_2000_images_is_that_of_100(way, backend, tmp_path):
    require_bounded("deeplabv3-lite0", way, backend, 2000, tmp_path)
