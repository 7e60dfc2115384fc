"""How often the intervals of scores hold the truth, and how often a comparison of equal models is wrong.

    python benchmarks/intervals.py
    python benchmarks/intervals.py --samples 200 --groups 30

Samples of groups of images (clips) are drawn from a population whose scores are known from very many groups. The images
of a group share what they show and how well they are labelled. Two models are equally good on the population, and both
find the same groups hard. OUT/intervals.csv has a row for each kind of population, number of groups and score: the
share of samples whose interval holds the truth, for our intervals and for plain percentiles of the draws; for the
difference of the two models, one minus this share is the rate of false alarms. `--panel` draws images from the pixel
counts of trained models instead, those that `benchmarks/learning.py` has stored.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from atrous.core.files import atomic_path
from atrous.metrics.bootstrap import ClassPixels, Ratios, Resampling
from atrous.metrics.confusion import compute_tally

RESULTS = Path(__file__).parent.parent / "results"
IMAGES_OF_A_GROUP = 5
NUM_CLASSES = 5
POPULATION = 20000
SPREADS = {
    "alike": (np.full(NUM_CLASSES, 2.0), 0.3, 0.5),
    "rare classes": (np.array([3.0, 1.0, 0.5, 0.2, 0.08]), 0.5, 1.0),
    "widely spread": (np.full(NUM_CLASSES, 0.3), 1.0, 1.2),
}
"""Of a population: evenness of classes in a group, spread of the sizes of groups, spread of the qualities (logits)."""
Draw = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]
"""Draws groups: the tallies of two models on them, (G, 3, K) each."""


def draw_groups(spread: str, generator: np.random.Generator, num_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw groups of images and count what two equally good models make of them.

    Args:
        spread: The kind of population.
        generator: Draws.
        num_groups: How many groups.
    Returns: Tallies of both models, (G, 3, K).
    """
    evenness, spread_of_sizes, spread_of_quality = SPREADS[spread]
    images = (num_groups, IMAGES_OF_A_GROUP, NUM_CLASSES)
    shares = generator.gamma(evenness, size=(num_groups, 1, NUM_CLASSES)) + 1e-12
    shares = generator.gamma(np.maximum(5 * shares / shares.sum(-1, keepdims=True), 1e-3), size=images) + 1e-12
    sizes = np.exp(
        generator.normal(0, spread_of_sizes, (num_groups, 1, 1)) + generator.normal(0, 0.2, (*images[:2], 1))
    )
    true = np.round(1000 * sizes * shares / shares.sum(-1, keepdims=True))
    quality = np.linspace(2.0, 0.3, NUM_CLASSES) + spread_of_quality * (
        generator.normal(0, 1, (num_groups, 1, 1)) + generator.normal(0, 0.5, (num_groups, 1, NUM_CLASSES))
    )
    tallies = []
    for _ in range(2):
        own = generator.normal(0, 0.4, (num_groups, 1, NUM_CLASSES)) + generator.normal(0, 0.5, images)
        hits = np.round(true / (1 + np.exp(-quality - spread_of_quality * own)))
        wrong = (true - hits).sum(-1, keepdims=True) * np.array([3, *[1] * (NUM_CLASSES - 1)]) / (NUM_CLASSES + 2)
        tallies.append(np.stack([part.sum(1) for part in (hits, true, hits + wrong)], axis=1))
    return tallies[0], tallies[1]


def read_panel(folder: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield the stored tallies of two trainings of one recipe with different seeds, image by image."""
    for path in sorted(folder.glob("*/atrous-*-seed0.npz")):
        other = path.with_name(path.name.replace("seed0", "seed1"))
        if other.exists():
            with np.load(path) as first, np.load(other) as second:
                tallies = [compute_tally(arrays["counts"].astype(np.int64)) for arrays in (first, second)]
            yield f"images of {path.parent.name.partition('-deeplab')[0]}", *tallies


def find_percentiles(resampling: Resampling, terms: list[tuple[float, Ratios]]) -> tuple[float, float]:
    """Return the plain percentile interval of the same draws, which ours is compared with."""
    low, high = np.nanquantile(resampling.evaluate(terms).drawn, (0.025, 0.975))
    return float(low), float(high)


def measure(
    name: str, draw: Draw, truth: tuple[np.ndarray, np.ndarray], groups: int, samples: int
) -> list[dict[str, object]]:
    """Return a row for each score: how often its intervals hold the truth.

    Args:
        name: Name of the population.
        draw: Draws samples.
        truth: Tallies of the whole population, summed over its groups, (1, 3, K) for each model.
        groups: Groups in a sample.
        samples: How many samples.
    """
    inside: dict[str, list[tuple[bool, bool, float]]] = {}
    first, second = (ClassPixels(*each.transpose(1, 0, 2)) for each in truth)
    rarest = int(np.argmin(first.true[0]))
    expected = {
        "mIoU": _divide(first.iou),
        "IoU of the rarest class": _divide(first.iou.select(rarest)),
        "pixel accuracy": _divide(first.pixel_accuracy),
        "difference of mIoU": _divide(second.iou) - _divide(first.iou),
    }
    resampling = Resampling(range(groups))  # as every evaluation of so many groups draws them
    for seed in range(samples):
        tallies = draw(np.random.default_rng(seed), groups)
        first, second = (ClassPixels.sum_groups(each, resampling) for each in tallies)
        scores = {
            "mIoU": first.iou,
            "IoU of the rarest class": first.iou.select(rarest),
            "pixel accuracy": first.pixel_accuracy,
        }
        found = {key: (resampling.estimate(score), [(1.0, score)]) for key, score in scores.items()}
        difference = resampling.estimate_difference([second.iou], [first.iou])
        found["difference of mIoU"] = difference, [(1.0, second.iou), (-1.0, first.iou)]
        for key, (estimate, terms) in found.items():
            if estimate.low is not None and estimate.high is not None:
                low, high = find_percentiles(resampling, terms)
                holds = estimate.low <= expected[key] <= estimate.high
                inside.setdefault(key, []).append((holds, low <= expected[key] <= high, estimate.high - estimate.low))
    return [
        {
            "population": name,
            "groups": groups,
            "score": key,
            "samples": len(found),
            "truth": f"{expected[key]:+.4f}",
            "holds_truth": f"{np.mean([row[0] for row in found]):.3f}",
            "percentiles_hold_truth": f"{np.mean([row[1] for row in found]):.3f}",
            "mean_width": f"{np.mean([row[2] for row in found]):.4f}",
        }
        for key, found in inside.items()
    ]


def _divide(score: Ratios) -> float:
    hits, totals = score.hits.sum(0), score.totals.sum(0)
    return float((hits[totals > 0] / totals[totals > 0]).mean())


def main() -> None:
    """Measure all kinds of populations and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1000, help="samples of each population")
    parser.add_argument("--groups", type=int, nargs="+", default=[30], help="groups in a sample")
    parser.add_argument("--panel", type=Path, help="folder of counts, such as results/learning/counts")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the table")
    options = parser.parse_args()
    populations: dict[str, tuple[Draw, tuple[np.ndarray, np.ndarray]]] = {}
    if options.panel is None:
        for spread in SPREADS:
            whole = draw_groups(spread, np.random.default_rng(2**32), POPULATION)
            populations[spread] = (
                lambda generator, size, spread=spread: draw_groups(spread, generator, size),
                tuple(tallies.sum(0, keepdims=True) for tallies in whole),
            )
    else:
        for name, first, second in read_panel(options.panel):

            def draw(generator: np.random.Generator, size: int, first=first, second=second):  # type: ignore[no-untyped-def]
                chosen = generator.integers(0, len(first), size)
                return first[chosen], second[chosen]

            populations[name] = draw, (first.sum(0, keepdims=True), second.sum(0, keepdims=True))
    rows = []
    for (name, (draw_some, truth)), groups in itertools.product(populations.items(), options.groups):
        for row in measure(name, draw_some, truth, groups, options.samples):
            print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
            rows.append(row)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / ("intervals.csv" if options.panel is None else "intervals_panel.csv")
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
