"""DenseCRF compared with pydensecrf2, on the same images and probabilities in one process.

    python benchmarks/densecrf.py voc_animals/
    python benchmarks/densecrf.py camvid/ --model runs/camvid
    python benchmarks/densecrf.py voc_animals/ --device cuda

Times are per image, from probabilities to marginals, including the construction of the lattices: bilateral kernel (67
pixels, 3 grey levels) of weight 4, Gaussian kernel (1 pixel) of weight 3, 10 iterations. Each candidate runs once to
warm up; then the candidates take turns. pydensecrf2 uses one thread. Without `--model`, the images are those of a
folder in VOC's layout, and the probabilities of 21 classes are made from a blurred mask and noise on a grid of 8
pixels. With it, the probabilities are those of the model. Memory is the peak of one run above the memory in use before
it. Prints one row per image and the medians, and writes results/densecrf.csv. Without pydensecrf2, only `atrous` is
timed.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import atrous
from atrous.crf.dense import DenseCRF
from atrous.scoring.bench import measure_peak_mib

try:
    import pydensecrf.densecrf as peer
except ImportError:
    peer = None

RESULTS = Path(__file__).parent.parent / "results" / "densecrf.csv"
VOC_CLASSES = 21
Case = tuple[str, np.ndarray, np.ndarray]
"""Name, image (H, W, 3) uint8, probabilities (K, H, W) float32."""


def compute_probabilities(mask: np.ndarray, seed: int) -> np.ndarray:
    """Imitate the probabilities of an uncertain network at output stride 8: (H, W) labels -> (21, H, W)."""
    truth = F.one_hot(torch.from_numpy(mask).long().clamp_(max=VOC_CLASSES), VOC_CLASSES + 1)[..., :VOC_CLASSES]
    height, width = mask.shape
    cells = F.adaptive_avg_pool2d(truth.permute(2, 0, 1)[None].float(), (height // 8 + 1, width // 8 + 1))
    smooth = F.avg_pool2d(cells, 3, stride=1, padding=1, count_include_pad=False)
    noise = torch.randn(smooth.shape, generator=torch.Generator().manual_seed(seed))
    logits = F.interpolate(6 * smooth + noise, size=(height, width), mode="bilinear", align_corners=True)
    return logits[0].softmax(0).numpy()


def load_cases(folder: Path, model: str | None, count: int) -> list[Case]:
    """Return the first images of VOC's val, or images spread over a folder's `val` with the model's probabilities."""
    if model is None:
        names = (folder / "ImageSets" / "Segmentation" / "val.txt").read_text(encoding="ascii").split()[:count]
        cases = []
        for seed, name in enumerate(names):
            image = np.array(Image.open(folder / "JPEGImages" / f"{name}.jpg").convert("RGB"))
            mask = np.array(Image.open(folder / "SegmentationClass" / f"{name}.png"))
            cases.append((name, image, compute_probabilities(mask, seed)))
        return cases
    network = atrous.load(model)
    files = sorted((folder / "val").glob("*.jpg"))
    cases = []
    for file in files[:: max(len(files) // count, 1)][:count]:
        seen = network.predict(file, probabilities=True)
        cases.append((file.stem, seen.image, np.maximum(seen.probabilities.astype(np.float32), 1e-7)))
    return cases


def run_ours(image: np.ndarray, probs: np.ndarray, device: str) -> np.ndarray:
    """Return the marginals of `atrous`, (K, H, W)."""
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    with torch.inference_mode():
        logits: Tensor = torch.from_numpy(probs).to(device).log()
        return DenseCRF().to(device)(logits, pixels.to(device)).cpu().numpy()


def run_peer(image: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """Return pydensecrf2's marginals, (K, H, W)."""
    num_classes, height, width = probs.shape
    crf = peer.DenseCRF2D(width, height, num_classes)
    crf.setUnaryEnergy(np.ascontiguousarray(-np.log(probs.reshape(num_classes, -1))))
    crf.addPairwiseGaussian(sxy=1, compat=3)
    crf.addPairwiseBilateral(sxy=67, srgb=3, rgbim=np.ascontiguousarray(image), compat=4)
    return np.array(crf.inference(10)).reshape(probs.shape)


def measure(run: Callable[[], np.ndarray], threads: int) -> tuple[np.ndarray, float]:
    """Return the result of a call and its duration in seconds."""
    torch.set_num_threads(threads)
    start = time.perf_counter()
    marginals = run()
    return marginals, time.perf_counter() - start


def compare(case: Case, device: str, rounds: int) -> dict[str, Any]:
    """Time all candidates on one image, in turns."""
    name, image, probs = case

    def ours() -> np.ndarray:
        return run_ours(image, probs, device)

    def theirs() -> np.ndarray:
        return run_peer(image, probs)

    sides = {"ours_1": (ours, 1), "ours_2": (ours, 2)} | ({"peer": (theirs, 1)} if peer else {})
    times: dict[str, list[float]] = {side: [] for side in sides}
    marginals = {}
    for turn in range(rounds + 1):
        for side, (run, threads) in sides.items():
            marginals[side], seconds = measure(run, threads)
            if turn > 0:
                times[side].append(seconds)
    row: dict[str, Any] = {"image": name, "height": len(image), "width": image.shape[1], "classes": len(probs)}
    row |= {f"{side}_s": statistics.median(values) for side, values in times.items()}
    torch.set_num_threads(1)
    row["ours_mib"] = measure_peak_mib(ours, torch.device(device))
    if peer:
        row["peer_mib"] = measure_peak_mib(theirs, torch.device("cpu"))
        difference = np.abs(marginals["ours_1"] - marginals["peer"])
        row["mean_difference"], row["max_difference"] = float(difference.mean()), float(difference.max())
        row["equal_labels"] = float((marginals["ours_1"].argmax(0) == marginals["peer"].argmax(0)).mean())
        row |= {f"ratio_{threads}": row[f"ours_{threads}_s"] / row["peer_s"] for threads in (1, 2)}
    return row


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder in VOC's layout, or with --model a folder with val/*.jpg")
    parser.add_argument("--model", help="model that computes the probabilities; default: masks and noise")
    parser.add_argument("--count", type=int, default=6, help="images")
    parser.add_argument("--rounds", type=int, default=3, help="timed turns per candidate")
    parser.add_argument("--device", default="cpu", help="device of atrous: cpu or cuda")
    options = parser.parse_args()
    if peer is None:
        print("pydensecrf2 is not installed: only atrous is timed (to compare: pip install pydensecrf2)")
    rows = []
    for case in load_cases(options.folder, options.model, options.count):
        rows.append({"device": options.device, **compare(case, options.device, options.rounds)})
        print(
            ", ".join(
                f"{key} {value:.3g}" if isinstance(value, float) else f"{value}" for key, value in rows[-1].items()
            ),
            flush=True,
        )
    for key in ("ours_1_s", "ours_2_s", "peer_s", "ours_mib", "peer_mib"):
        if key in rows[0]:
            print(f"median {key}: {statistics.median(row[key] for row in rows):.3f}")
    if peer:
        base = statistics.median(row["peer_s"] for row in rows)
        for threads in (1, 2):
            ratio = statistics.median(row[f"ours_{threads}_s"] for row in rows) / base
            print(f"ours with {threads} thread(s) / pydensecrf2: {ratio:.2f}")
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in row.items()} for row in rows
        )


if __name__ == "__main__":
    main()
