"""Inference beside other ways to run one network: the same weights and picture through all, in turns, in one process.

    python benchmarks/inference.py
    python benchmarks/inference.py --model lite0 --size 480 360
    MALLOC_TRIM_THRESHOLD_=-1 MALLOC_MMAP_MAX_=0 python benchmarks/inference.py     # the allocator keeps its memory

`resnet50` is torchvision's deeplabv3_resnet50 at output stride 8 with 21 classes, batch norms drawn at random; `lite0`
is the default network at output stride 16, whose peer is the same network run plainly. A time is that of a picture,
uint8 in memory, to a map of labels of its size. Each side runs twice to warm up; then all take turns. Prints medians
with the spread, and each side's ratio to plain PyTorch, and writes results/inference.csv. OpenVINO and ONNX Runtime are
left out where they are not installed.
"""

from __future__ import annotations

import argparse
import copy
import csv
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import atrous
from atrous.model import Model

RESULTS = Path(__file__).parent.parent / "results" / "inference.csv"
NUM_CLASSES = 21
Side = Callable[[], np.ndarray]


def draw_norms(network: nn.Module) -> None:
    """Give batch norms statistics that keep the size of features, so that logits differ."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            module.weight.data.uniform_(0.7, 1.3, generator=generator)
            module.bias.data.uniform_(-0.1, 0.1, generator=generator)


class Plain(nn.Module):
    """A network as its peer's code runs it: normalised floats in, the logits of every pixel out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, picture: Tensor) -> Tensor:
        """(1, 3, H, W) -> (1, K, H, W)."""
        found = self.network(picture)
        return found["out"] if isinstance(found, dict) else found


def normalise(picture: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 -> (1, 3, H, W) floats, ImageNet's statistics."""
    mean, std = (np.array(values, dtype=np.float32) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    floats = (picture.astype(np.float32) / 255 - mean) / std
    return torch.from_numpy(floats).permute(2, 0, 1)[None].contiguous()


def build_models(name: str, folder: Path) -> tuple[nn.Module, Model]:
    """Return a plain network and our model with the same weights."""
    torch.manual_seed(0)
    if name == "resnet50":
        from torchvision.models.segmentation import deeplabv3_resnet50

        plain = deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=NUM_CLASSES).eval()
        draw_norms(plain)
        torch.save(plain.state_dict(), folder / "plain.pth")
        return plain, atrous.load(folder / "plain.pth")
    from atrous.core.labels import LabelSpace
    from atrous.networks.model_file import ModelCard

    network = atrous.build("deeplabv3-lite0", classes=NUM_CLASSES, weights="imagenet").eval()
    space = LabelSpace(tuple(f"class {number}" for number in range(NUM_CLASSES)))
    return network, Model(network, ModelCard(model={}, label_space=space))


def build_sides(plain: nn.Module, model: Model, picture: np.ndarray, *, own_normalisation: bool) -> dict[str, Side]:
    """Return every way to label the picture that is installed."""
    wrapped = Plain(plain)

    def prepare() -> Tensor:
        return torch.from_numpy(picture).permute(2, 0, 1)[None] if own_normalisation else normalise(picture)

    def run_torch(network: nn.Module, *, channels_last: bool = False, bf16: bool = False) -> Side:
        def run() -> np.ndarray:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                given = prepare()
                given = given.contiguous(memory_format=torch.channels_last) if channels_last else given.contiguous()
                return network(given).float().argmax(1)[0].numpy()

        return run

    def run_ours(precision: str) -> Side:
        predictor = model.build_predictor(precision=precision)
        return lambda: predictor.label_picture(picture, confidence=False)[0]

    sides = {"plain PyTorch": run_torch(wrapped)}
    if not own_normalisation:
        last = Plain(copy.deepcopy(plain).to(memory_format=torch.channels_last))
        sides["channels-last"] = run_torch(last, channels_last=True)
        sides["channels-last bf16"] = run_torch(last, channels_last=True, bf16=True)
    if importlib.util.find_spec("openvino") and not own_normalisation:
        import openvino

        converted = openvino.convert_model(wrapped, example_input=prepare(), input=list(prepare().shape))
        for precision, hint in (("fp32", "f32"), ("bf16", "bf16")):
            compiled = openvino.compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": hint})
            sides[f"OpenVINO {precision}"] = lambda compiled=compiled: compiled(prepare().numpy())[0].argmax(1)[0]
    for precision in ("fp32", "bf16"):
        sides[f"atrous {precision}"] = run_ours(precision)
    return sides


def main() -> None:
    """Run the comparison named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["resnet50", "lite0"], default="resnet50")
    parser.add_argument("--size", type=int, nargs=2, default=(513, 513), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    width, height = options.size
    picture = np.random.default_rng(0).integers(0, 256, (height // 16 + 1, width // 16 + 1, 3)).astype(np.float32)
    smooth = F.interpolate(torch.from_numpy(picture).permute(2, 0, 1)[None], size=(height, width), mode="bicubic")
    picture = smooth[0].permute(1, 2, 0).clamp(0, 255).byte().numpy()
    with tempfile.TemporaryDirectory() as folder:
        plain, model = build_models(options.model, Path(folder))
    sides = build_sides(plain, model, picture, own_normalisation=options.model == "lite0")
    labels = {name: [run() for _ in range(2)][1] for name, run in sides.items()}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, run in sides.items():
            begun = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - begun)
    reference = next(iter(sides))
    rows = []
    for name, values in times.items():
        ratio = statistics.median(a / b for a, b in zip(times[reference], values, strict=True))
        rows.append(
            {
                "model": options.model,
                "width": width,
                "height": height,
                "side": name,
                "median_ms": round(1e3 * statistics.median(values), 1),
                "least_ms": round(1e3 * min(values), 1),
                "most_ms": round(1e3 * max(values), 1),
                "times_as_fast": round(ratio, 3),
                "equal_labels": round(float((labels[name] == labels[reference]).mean()), 6),
            }
        )
        print(", ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
