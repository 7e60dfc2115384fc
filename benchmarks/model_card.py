"""The measured part of a model card: scores by class, the inference ladder, calibration, latency and memory.

    python benchmarks/model_card.py animals voc=PATH
    python benchmarks/model_card.py models/street.safetensors camvid=PATH --name street --rungs 3
    python benchmarks/model_card.py animals voc=PATH --time      # times all rungs that have scores again

Each rung of the ladder is one evaluation in fp32, whose scores are kept in `results/models/<name>/`: those of
this model file are not measured again, and a command that was stopped continues. Scores may be measured beside other
programs, times may not: `--time` measures these alone, once the machine is quiet. Milliseconds are of one image of the
size of `--size`, from an array to labels, the median of `--rounds`; memory is the most that this call holds beyond the
loaded model. The tables go to `docs/models/<name>.md`, each between its markers.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

import atrous
from atrous.core.files import save_json
from atrous.core.provenance import describe_machine
from atrous.core.records import Scores, format_interval
from atrous.core.words import describe_count
from atrous.display.console import build_console
from atrous.networks.model_source import find_model
from atrous.scoring.bench import draw_image, measure_peak_mib

ROOT = Path(__file__).parent.parent
SCALES = (0.75, 1.0, 1.25)
RUNGS: dict[str, dict[str, Any]] = {
    "stride-16": {"output_stride": 16},
    "stride-8": {"output_stride": 8},
    "stride-8-scales": {"output_stride": 8, "scales": SCALES},
    "stride-8-scales-flip": {"output_stride": 8, "scales": SCALES, "flip": True},
    "stride-8-scales-flip-crf": {"output_stride": 8, "scales": SCALES, "flip": True, "crf": True},
}


def time_rung(model: atrous.Model, rung: dict[str, Any], size: tuple[int, int], rounds: int) -> dict[str, Any]:
    """Time a model under the options of a rung on one image, and measure its memory."""
    image = draw_image(*size)
    model.predict(image, **rung)
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        model.predict(image, **rung)
        times.append(time.perf_counter() - begun)
    peak = measure_peak_mib(lambda: model.predict(image, **rung), torch.device("cpu"))
    return {
        "milliseconds": 1e3 * statistics.median(times),
        "peak_mib": peak,
        "size": size,
        "threads": torch.get_num_threads(),
        "machine": describe_machine(),
    }


def describe_ladder(found: dict[str, dict[str, Any]]) -> str:
    """Return the table of the rungs."""
    lines = ["| protocol | mIoU | 95 % interval | calibration error | ms | MiB |", "|---|---|---|---|---|---|"]
    for result in found.values():
        scores = Scores.from_json(result["scores"])
        interval = format_interval(scores.intervals.miou) if scores.intervals else ""
        error = f"{scores.calibration.error:.4f}" if scores.calibration else ""
        cells = (f"{scores.miou:.4f}", interval, error, f"{result['milliseconds']:.0f}", f"{result['peak_mib']:.0f}")
        protocol = scores.protocol.describe().partition(" with ")[0]  # the settings of DenseCRF are its defaults
        lines.append(f"| {protocol} | {' | '.join(cells)} |")
    threads = ", ".join(sorted({describe_count(result["threads"], "thread") for result in found.values()}))
    processors = ", ".join(sorted({name_processor(result["machine"]) for result in found.values()}))
    height, width = next(iter(found.values()))["size"]
    note = f"Milliseconds and memory: one image of {width} x {height} pixels, {threads} of {processors}."
    return "\n".join([*lines, "", note])


def name_processor(machine: dict[str, str]) -> str:
    """Return the processor and what it can, such as `Intel Xeon Processor (AMX)`."""
    return f"{machine['processor'].replace('(R)', '')} ({machine['cpu_kind'].upper()})"


def describe_classes(scores: Scores) -> str:
    """Return the table of the classes under the first rung."""
    lines = ["| class | IoU | 95 % interval | recall | precision | share of pixels |", "|---|---|---|---|---|---|"]
    total = sum(row.pixels for row in scores.classes)
    for row in scores.classes:
        ratios = ("" if each is None else f"{each:.3f}" for each in (row.recall, row.precision))
        iou = "" if row.iou is None else f"{row.iou:.4f}"
        cells = (row.name, iou, format_interval(row.iou_interval), *ratios, f"{100 * row.pixels / total:.1f} %")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def describe_coverage(scores: Scores) -> str:
    """Return the table of what a least confidence leaves out."""
    if scores.calibration is None:
        raise SystemExit("no pixel has a label")
    lines = ["| `--min-confidence` | pixels kept | of these correct |", "|---|---|---|"]
    for row in scores.calibration.coverage:
        accuracy = "" if row.accuracy is None else f"{100 * row.accuracy:.2f} %"
        lines.append(f"| {row.min_confidence:g} | {100 * row.coverage:.1f} % | {accuracy} |")
    return "\n".join(lines)


def fill(page: Path, tables: dict[str, str]) -> None:
    """Write tables into a page, each between its markers."""
    text = page.read_text(encoding="utf-8")
    for name, table in tables.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, found, rest = text.partition(begin)
        if not found:
            raise SystemExit(f"{page}: no marker {begin.strip()}")
        text = f"{before}{begin}\n{table}\n\n{end}{rest.partition(end)[2]}"
    page.write_text(text, encoding="utf-8")


def main() -> None:
    """Measure what is missing and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a shipped model, a run or a model file")
    parser.add_argument("data", help="what to score it on, such as voc=PATH")
    parser.add_argument("--name", help="name of the card. Default: that of the model")
    parser.add_argument("--rungs", type=int, default=len(RUNGS), help="how many rungs of the ladder, from the cheapest")
    parser.add_argument("--size", type=int, nargs=2, default=(375, 500), help="height and width of the timed image")
    parser.add_argument("--time", action="store_true", help="measure times and memory again, and no score")
    parser.add_argument("--rounds", type=int, default=7, help="timed predictions of each rung")
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "models", help="folder of the scores")
    parser.add_argument("--pages", type=Path, default=ROOT / "docs" / "models", help="folder of the cards")
    options = parser.parse_args()
    name = options.name or options.model
    model = atrous.load(options.model, device="cpu", precision="fp32", backend="torch")
    digest = hashlib.sha256(find_model(options.model).read_bytes()).hexdigest()
    found: dict[str, dict[str, Any]] = {}
    for rung, settings in list(RUNGS.items())[: options.rungs]:
        path = options.results / name / f"{rung}.json"
        result = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if result.get("sha256") != digest:  # another model's
            result = {}
        if options.time and not result:
            continue
        if options.time or not result:
            result |= {"sha256": digest} | time_rung(model, settings, tuple(options.size), options.rounds)
        if "scores" not in result:
            scores = atrous.evaluate(model, options.data, **settings)
            result["scores"] = scores.to_json() | {"notes": []}  # which name the folder of the data
        path.parent.mkdir(parents=True, exist_ok=True)
        save_json(path, result)
        found[rung] = result
    if not found:
        parser.error(f"{options.results / name} holds no scores: run it without --time first")
    first = Scores.from_json(next(iter(found.values()))["scores"])
    tables = {"ladder": describe_ladder(found), "classes": describe_classes(first)}
    tables["coverage"] = describe_coverage(first)
    console = build_console()
    for table in tables.values():
        console.print(table, markup=False)
    fill(options.pages / f"{name}.md", tables)


if __name__ == "__main__":
    main()
