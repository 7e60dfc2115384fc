"""Whether the default recipe diverges: short trainings over the panel, of small and large steps, in fp32 and bf16.

    python benchmarks/stability.py --data DATA
    python benchmarks/stability.py --smoke --out /tmp/stability

Each data set is trained on with two images of 129 pixels in a step, with 32 of them, and with two of 513 pixels; two
sets also with 32 images of 513 pixels, the others with 16 of 321. A step of more than eight images is accumulated.
Precisions alternate, so that each kind of step occurs in both. OUT/stability.csv says of each training whether a loss
or gradient was not finite, and compares its mIoU on validation images with that of always answering the most frequent
class.

A training that was cut off continues at its last checkpoint in the folder of `--work`; one that is finished is not
repeated: run the command again. DATA holds `camvid/` and `voc_animals/`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from learning import OURS, Task, Trial, describe_recipe, run_trial, write_rows
from learning_panel import PANEL, SMOKE, Member

from atrous.core.errors import TrainingDiverged
from atrous.core.provenance import describe_machine

RESULTS = Path(__file__).parent.parent / "results" / "learning"
SETS = ("camvid", "animals", "animals-50", "person", "person-grey", "shapes")
WITH_LARGEST = ("camvid", "animals")
"""Sets that are trained on with the largest steps, which take minutes each."""
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class Step:
    """What an optimizer step sees.

    Args:
        batch: Images at a time.
        accumulate: Batches in a step.
        crop: Side of the crops in pixels.
    """

    batch: int
    accumulate: int
    crop: int


SMALL = (Step(2, 1, 129), Step(8, 4, 129), Step(2, 1, 513))
MIDDLE, LARGEST = Step(8, 2, 321), Step(8, 4, 513)


def list_trainings() -> Iterator[tuple[str, Step, str]]:
    """Yield the data set, the step and the precision of each training."""
    for number, name in enumerate(SETS):
        last = LARGEST if name in WITH_LARGEST else MIDDLE
        for position, step in enumerate((*SMALL, last)):
            yield name, step, PRECISIONS[(number + position) % 2]


def train(name: str, member: Member, step: Step, precision: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train and score, or read what an earlier call found; return the row of the table.

    Args:
        name: Name of the data set.
        member: The data set.
        step: What a step sees.
        precision: "fp32" or "bf16".
        options: The command's options.
    """
    task = Task(name, member, member.build(options.data), step.batch, options.model, step.crop)
    settings = {"training.accumulate": step.accumulate, "training.precision": precision}
    steps = options.largest_steps if step == LARGEST else options.steps
    trial = Trial(OURS, settings, describe_recipe(task, OURS, settings), steps, options.seed)
    row = {
        "data": name,
        "model": options.model,
        "images": step.batch * step.accumulate,
        "crop": step.crop,
        "precision": precision,
        "steps": steps,
        "seed": options.seed,
        "recipe": trial.recipe,
        "cpu": describe_machine()["processor"],
    }
    work = options.work / f"{name}-{options.model}-crop{step.crop}-batch{step.batch}"
    try:
        result = run_trial(task, trial, work, work / "counts")
    except TrainingDiverged as error:
        print(f"{name}: diverged: {error}", flush=True)
        return {**row, "is_finite": "no", "miou": "", "baseline": "", "is_better": "no"}
    scores = {"miou": f"{result.miou:.4f}", "baseline": f"{result.baseline:.4f}"}
    is_better = "yes" if result.miou > result.baseline else "no"
    return {**row, "cpu": result.cpu, "is_finite": "yes", **scores, "is_better": is_better}


def main() -> None:
    """Make the trainings that are missing, and say how many were right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that holds camvid/ and voc_animals/")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS, metavar="SET")
    parser.add_argument("--steps", type=int, default=60, help="optimizer steps of each training")
    parser.add_argument("--largest-steps", type=int, default=20, help="those of the largest steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="deeplabv3-lite0")
    parser.add_argument("--work", type=Path, default=Path("runs/stability"), help="folder of the trainings")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the table")
    parser.add_argument("--smoke", action="store_true", help="two steps on a few small images, to test the script")
    options = parser.parse_args()
    trainings = [(name, PANEL[name], step, precision) for name, step, precision in list_trainings()]
    if options.smoke:
        options.steps = 2
        trainings = [("smoke", SMOKE, Step(2, number, 65), PRECISIONS[number - 1]) for number in (1, 2)]
    elif options.data is None:
        parser.error("--data is missing")
    else:
        trainings = [training for training in trainings if training[0] in options.sets]
    rows = []
    for name, member, step, precision in trainings:
        rows.append(train(name, member, step, precision, options))
        write_rows(options.out / "stability.csv", rows[-1:])
    right = sum(row["is_better"] == "yes" for row in rows)
    print(f"{right} of {len(rows)} trainings: all losses finite, and better than the most frequent class")


if __name__ == "__main__":
    main()
