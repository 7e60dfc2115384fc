"""Rerun every table of docs/performance.md, and report the ratios that fell; `make bench` runs this script.

    python benchmarks/run.py                                # all tables, some hours
    python benchmarks/run.py --only last_stage,confusion
    python benchmarks/run.py --keep                         # write the results into the tables and the document

Compares `times_as_fast` of the candidates of `atrous` with the rows of the same kind of CPU in results/performance;
other machines have other ratios. The exit code is 1 if a ratio fell by more than a tenth. Tables on images are skipped
unless a folder of JPEGs is given.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import RESULTS, read_table

HERE = Path(__file__).parent
DOCUMENT = HERE.parent / "docs" / "performance.md"
MOST_LOSS = 0.1
"""Ratios of unchanged code vary by up to this share from run to run."""
BOTH = ("default", "tuned")
COMMANDS = {
    "last_stage": (["last_stage.py", "--rounds", "30"], BOTH),
    "inference-resnet50": (["inference.py", "--model", "resnet50", "--rounds", "5"], BOTH),
    "inference-480x360": (["inference.py", "--model", "lite0", "--size", "480", "360", "--rounds", "20"], BOTH),
    "inference-513x513": (["inference.py", "--model", "lite0", "--rounds", "20"], BOTH),
    "inference-stride-8": (
        ["inference.py", "--model", "lite0", "--output-stride", "8", "--size", "512", "512", "--rounds", "10"],
        BOTH,
    ),
    "digest": (["digest.py", "--rounds", "20"], BOTH[:1]),
    "confusion": (["training.py", "--tables", "confusion", "--rounds", "20"], BOTH),
    "loss": (["training.py", "--tables", "loss", "--rounds", "10"], BOTH),
    "weight_gradient": (["training.py", "--tables", "weight_gradient", "--rounds", "10"], BOTH[:1]),
    "atrous": (["atrous_rate.py", "--rounds", "7"], BOTH[:1]),
    "atrous_ways": (["atrous_ways.py"], BOTH[:1]),
    "atrous_graphs": (["atrous_graphs.py"], BOTH[:1]),
    "fp32_modes": (["fp32_modes.py"], BOTH[:1]),
    "busy": (["busy.py", "--rounds", "3"], BOTH[:1]),
    "training_resnet50": (["training.py", "--tables", "training_resnet50", "--rounds", "2"], BOTH),
    "training_default": (["training.py", "--tables", "training_default", "--rounds", "3"], BOTH),
    "freed_memory": (["freed_memory.py", "--rounds", "3"], BOTH[:1]),
    "folder-lite0": (
        ["folder.py", "--model", "lite0", "--backend", "openvino", "--precision", "bf16", "--chunk", "50"],
        ("default",),
    ),
    "folder-resnet50": (
        [
            "folder.py",
            "--model",
            "resnet50",
            "--backend",
            "openvino",
            "--precision",
            "bf16",
            "--count",
            "24",
            "--chunk",
            "6",
        ],
        ("default",),
    ),
    "folder_flat": (
        ["folder.py", "--model", "lite0", "--backend", "openvino", "--precision", "bf16", "--flat"],
        BOTH[:1],
    ),
    "backend_choice-lite0": (["backend_choice.py", "--model", "lite0", "--rounds", "3"], ("default",)),
    "backend_choice-resnet50": (["backend_choice.py", "--model", "resnet50", "--rounds", "3"], ("default",)),
    "huge_image": (["huge_image.py"], ("default",)),
}
"""The command of each table, and the allocators it runs with."""
FIGURES = re.compile(
    r"_ms$|times_as_fast|peak_mib|images_per_s|equal_labels|difference|error|seconds|of_best|chosen|of_quiet|turn_ns"
    r"|page_faults|gflop_per_s|^share$"
)
"""Columns that a machine gives; the others say what was measured."""
ON_IMAGES = ("folder.py", "backend_choice.py")
"""Scripts that need a folder of images."""
WITH_ONE_THREAD = ("atrous_graphs.py",)
"""Scripts that count the process's own time, which several threads would add up."""


def run_all(names: list[str], images: Path | None, out: Path) -> list[str]:
    """Run the commands, writing to a folder; return the names of those that failed."""
    failed = []
    for name in names:
        words, allocators = COMMANDS[name]
        if words[0] in ON_IMAGES:
            if images is None:
                print(f"{name}: skipped, since --images is not given")
                continue
            words = [*words, "--images", str(images)]
        for allocator in allocators:
            print(f"--- {' '.join(words)} --allocator {allocator}", flush=True)
            command = [sys.executable, str(HERE / words[0]), *words[1:], "--allocator", allocator, "--out", str(out)]
            one_thread = {"OMP_NUM_THREADS": "1"} if words[0] in WITH_ONE_THREAD else {}
            if subprocess.run(command, check=False, env={**os.environ, **one_thread}).returncode:
                failed.append(name)
    return failed


def find_fallen(old: list[dict[str, str]], new: list[dict[str, str]]) -> list[str]:
    """Describe each ratio that fell; rows that are not in both tables are ignored."""

    def identify(row: dict[str, str]) -> tuple[tuple[str, str], ...]:
        return tuple((key, value) for key, value in row.items() if value and not FIGURES.search(key))

    before = {identify(row): float(row["times_as_fast"]) for row in old}
    fallen = []
    for row in new:
        ratio, was = float(row["times_as_fast"]), before.get(identify(row))
        if was is not None and ratio < was * (1 - MOST_LOSS):
            fallen.append(f"{', '.join(value for _, value in identify(row))}: {ratio:.3g}, was {was:.3g}")
    return fallen


def write_document(folder: Path) -> None:
    """Write the tables into the document, each between its markers."""
    text = DOCUMENT.read_text(encoding="utf-8")
    for path in sorted(folder.glob("*.csv")):
        begin, end = f"<!-- {path.stem} -->\n", f"<!-- end of {path.stem} -->\n"
        if begin in text:
            before, _, rest = text.partition(begin)
            _, _, after = rest.partition(end)
            text = before + begin + format_table(read_table(path)) + end + after
    DOCUMENT.write_text(text, encoding="utf-8")


def put_side_by_side(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return one row for each candidate, with the figures of each kind of CPU in columns of their own."""
    merged: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
    for row in rows:
        candidate = {key: value for key, value in row.items() if key != "kind" and not FIGURES.search(key)}
        figures = {f"{key} {row['kind']}": value for key, value in row.items() if FIGURES.search(key)}
        merged.setdefault(tuple(candidate.items()), candidate).update(figures)
    columns = dict.fromkeys(key for row in merged.values() for key in row)
    return [{key: row.get(key, "") for key in columns} for row in merged.values()]


def format_table(rows: list[dict[str, str]]) -> str:
    """Return a table in Markdown, with the columns that are equal in all rows above it."""
    if len({row["kind"] for row in rows}) > 1:
        rows = put_side_by_side(rows)
    columns = list(rows[0])
    same = [key for key in columns if len({row[key] for row in rows}) == 1 and len(rows) > 1]
    shown = [key for key in columns if key not in same and not key.startswith(("least_ms", "most_ms"))]
    lines = [f"In all rows: {', '.join(f'{key} {rows[0][key]}' for key in same if rows[0][key])}.", ""] if same else []
    lines += ["| " + " | ".join(shown) + " |", "|" + "---|" * len(shown)]
    lines += ["| " + " | ".join(row[key] for key in shown) + " |" for row in rows]
    return "\n".join(["", *lines, "", ""])


def main() -> int:
    """Run the tables given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(COMMANDS), help=f"any of {', '.join(COMMANDS)}")
    parser.add_argument("--images", type=Path, help="folder of JPEGs of one size")
    parser.add_argument("--keep", action="store_true", help="write the results into the tables and the document")
    options = parser.parse_args()
    if options.keep:
        failed = run_all(options.only.split(","), options.images, RESULTS)
        write_document(RESULTS)
        return len(failed) > 0
    with tempfile.TemporaryDirectory() as name:
        failed = run_all(options.only.split(","), options.images, Path(name))
        fallen = [
            f"{path.stem}: {words}"
            for path in sorted(Path(name).glob("*.csv"))
            for words in find_fallen(read_table(RESULTS / path.name), read_table(path))
        ]
    for words in fallen:
        print(f"fell: {words}")
    for words in failed:
        print(f"failed: {words}")
    if not fallen and not failed:
        print("no ratio fell")
    return len(fallen) + len(failed) > 0


if __name__ == "__main__":
    sys.exit(main())
