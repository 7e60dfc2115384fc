"""What starting from a model of related images gives over starting from ImageNet, with the same few steps.

    python benchmarks/fine_tuning.py --data DATA                    # from the shipped model `animals`
    python benchmarks/fine_tuning.py --data DATA --start runs/x --steps 100 --seeds 0

Two classes, person and the rest, on PASCAL VOC's photographs of animals: the default recipe is trained from each of
both starts with each seed, and val is scored once, after the last step. Trainings go on where they were cut off, and
those that are finished are not repeated, as in `learning.py`. OUT/fine_tuning.csv has a row for each training, with the
seconds of its steps; the last line is the difference of the means, with its 95 % interval over images.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from pathlib import Path

from harness import read_table
from learning import OURS, RESULTS, Result, Task, Trial, describe_recipe, resample_difference, run_trial, write_rows
from learning_panel import PANEL


def main() -> None:
    """Run the trainings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds voc_animals/")
    parser.add_argument("--start", default="animals", help="the related model: its name, a run or a file")
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=Path("runs/fine_tuning"), help="folder of checkpoints")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the table and counts")
    options = parser.parse_args()
    splits = PANEL["person"].build(options.data)
    found: dict[str, list[Result]] = {}
    for seed in options.seeds:
        for weights in ("imagenet", options.start):
            task = Task("person", replace(PANEL["person"], weights=weights), splits)
            trial = Trial(OURS, {}, describe_recipe(task, OURS, {}), options.steps, seed)
            result = run_trial(task, trial, options.work, options.out / "counts" / "fine_tuning")
            found.setdefault(weights, []).append(result)
            curve = read_table(options.work / trial.name / "run" / "metrics.csv")
            figures = {"seconds": curve[-1]["seconds"] if curve else "", "miou": f"{result.miou:.4f}"}
            what = {"weights": weights, "steps": trial.steps, "seed": seed, "cpu": result.cpu, "recipe": trial.recipe}
            write_rows(options.out / "fine_tuning.csv", [what | figures])
    plain, related = found.values()
    difference = resample_difference([each.counts for each in related], [each.counts for each in plain])
    means = [statistics.fmean(each.miou for each in results) for results in (plain, related)]
    print(
        f"mIoU from imagenet {means[0]:.4f}, from {options.start} {means[1]:.4f}: {difference.value:+.4f}, "
        f"95 % {difference.low:+.4f} to {difference.high:+.4f}"
    )


if __name__ == "__main__":
    main()
