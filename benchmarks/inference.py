"""Inference compared with other ways to run a network: the same weights and image, in turns, in one process.

    python benchmarks/inference.py
    python benchmarks/inference.py --model lite0 --size 480 360
    python benchmarks/inference.py --model lite0 --output-stride 8 --size 512 512
    python benchmarks/inference.py --allocator tuned        # glibc keeps freed memory

`resnet50` is torchvision's deeplabv3_resnet50 with 21 classes at output stride 8, with random batch norms so that
logits differ. `lite0` is the default network; it is compared with the same network run plainly and, if it is
installed, with segmentation_models_pytorch's DeepLabV3 with the same encoder. Times are from an image in memory, uint8,
to a map of labels of its size. The other candidates use the usual code: normalisation in NumPy, upsampling in the
network, argmax. `equal_labels` is the share of pixels with the same label as plain PyTorch. OpenVINO and ONNX Runtime
are skipped if they are not installed.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import io
import tempfile
from pathlib import Path

import numpy as np
import torch
from harness import Side, parse_options, report, take_turns
from torch import Tensor, nn
from torch.nn import functional as F

import atrous
from atrous.core.inference_options import Opening
from atrous.core.labels import LabelSpace
from atrous.core.records import Protocol
from atrous.inference import BACKENDS
from atrous.inference.backends.folding import fold_norms
from atrous.inference.engine import ConvertedNetwork
from atrous.inference.labelling.labeller import Labeller
from atrous.model import Model
from atrous.networks.model_card import ModelCard
from atrous.scoring.bench import draw_image

NUM_CLASSES = 21
MEAN, STD = (np.array(values, dtype=np.float32) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
PLAIN = "plain PyTorch"


def draw_norms(network: nn.Module) -> None:
    """Randomise batch norms, keeping the magnitude of features, so that logits differ."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            module.weight.data.uniform_(0.7, 1.3, generator=generator)
            module.bias.data.uniform_(-0.1, 0.1, generator=generator)


class Plain(nn.Module):
    """A network as usual code runs it: a tensor in, the logits of every pixel out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """(1, 3, H, W) -> (1, K, H, W)."""
        found = self.network(image)
        return found["out"] if isinstance(found, dict) else found


def normalise(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> (1, 3, H, W) float32, ImageNet's statistics."""
    floats = (image.astype(np.float32) / 255 - MEAN) / STD
    return np.ascontiguousarray(floats.transpose(2, 0, 1)[None])


def build_resnet50() -> tuple[nn.Module, Model]:
    """Return torchvision's network and an `atrous` model with its weights, at output stride 8."""
    from torchvision.models.segmentation import deeplabv3_resnet50

    torch.manual_seed(0)
    plain = deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=NUM_CLASSES).eval()
    draw_norms(plain)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(plain.state_dict(), Path(folder) / "plain.pth")
        return plain, atrous.load(Path(folder) / "plain.pth", device="cpu")


def build_lite0(output_stride: int) -> tuple[nn.Module, Model]:
    """Return the default network twice: as a plain module, and as an `atrous` model."""
    network = atrous.build("deeplabv3-lite0", classes=NUM_CLASSES, weights="imagenet", output_stride=output_stride)
    space = LabelSpace(tuple(f"class {number}" for number in range(NUM_CLASSES)))
    return copy.deepcopy(network).eval(), Model(
        network.eval(), ModelCard(model={}, label_space=space), Opening(device="cpu")
    )


def build_plain_sides(plain: nn.Module, image: np.ndarray, *, own_statistics: bool) -> dict[str, Side]:
    """Return the candidates in plain PyTorch; a network that normalises its input gets bytes."""

    def prepare(memory_format: torch.memory_format) -> Tensor:
        given = image.transpose(2, 0, 1)[None] if own_statistics else normalise(image)
        return torch.from_numpy(given).contiguous(memory_format=memory_format)

    def build(network: nn.Module, memory_format: torch.memory_format, *, bf16: bool = False) -> Side:
        def run() -> np.ndarray:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                return network(prepare(memory_format)).float().argmax(1)[0].numpy()

        return run

    last = Plain(copy.deepcopy(plain).to(memory_format=torch.channels_last))
    return {
        PLAIN: build(Plain(plain), torch.contiguous_format),
        "channels-last": build(last, torch.channels_last),
        "channels-last bf16": build(last, torch.channels_last, bf16=True),
    }


def build_runtime_sides(plain: nn.Module, image: np.ndarray) -> dict[str, Side]:
    """Return other runtimes, with the network converted for the size of the image, their best case."""
    sides: dict[str, Side] = {}
    example = torch.from_numpy(normalise(image))
    wrapped = Plain(copy.deepcopy(plain))  # converters modify the module they trace
    if importlib.util.find_spec("openvino"):
        import openvino

        converted = openvino.convert_model(wrapped, example_input=example, input=list(example.shape))
        for precision, hint in (("fp32", "f32"), ("bf16", "bf16")):
            settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
            compiled = openvino.compile_model(converted, "CPU", settings)
            sides[f"OpenVINO {precision}"] = lambda run=compiled: run(normalise(image))[0].argmax(1)[0]
    if importlib.util.find_spec("onnxruntime"):
        import onnxruntime

        file = io.BytesIO()
        torch.onnx.export(
            Plain(copy.deepcopy(plain)), (example,), file, dynamo=False, input_names=["image"], opset_version=18
        )
        session_options = onnxruntime.SessionOptions()
        session_options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(file.getvalue(), session_options, providers=["CPUExecutionProvider"])
        sides["ONNX Runtime fp32"] = lambda: session.run(None, {"image": normalise(image)})[0].argmax(1)[0]
    return sides


def build_smp_side(image: np.ndarray, output_stride: int) -> dict[str, Side]:
    """Return segmentation_models_pytorch's network with the default encoder, if the package is installed.

    It refuses sides that are no multiple of 16, so the image is padded as its message says.
    """
    if not importlib.util.find_spec("segmentation_models_pytorch"):
        return {}
    import segmentation_models_pytorch as smp

    network = smp.DeepLabV3(
        "tu-tf_efficientnet_lite0", encoder_weights=None, classes=NUM_CLASSES, encoder_output_stride=output_stride
    ).eval()

    height, width = image.shape[:2]

    def run() -> np.ndarray:
        with torch.inference_mode():
            given = F.pad(torch.from_numpy(normalise(image)), (0, -width % 16, 0, -height % 16))
            return network(given)[:, :, :height, :width].argmax(1)[0].numpy()

    return {"segmentation_models_pytorch": run}


def build_own_sides(model: Model, image: np.ndarray, output_stride: int) -> dict[str, Side]:
    """Return the candidates of `atrous`: each installed backend in each precision."""
    labellers = {}
    for precision in ("fp32", "bf16"):
        labellers[f"atrous torch {precision}"] = model.reopen(backend="torch", precision=precision).build_labeller()
        if importlib.util.find_spec("openvino"):
            labellers[f"atrous openvino {precision}"] = model.reopen(
                backend="openvino", precision=precision
            ).build_labeller()
    if importlib.util.find_spec("openvino") and importlib.util.find_spec("onnxruntime"):
        graph = quantise_network(model, [image], output_stride)
        for runtime in ("openvino", "onnxruntime"):
            backend = BACKENDS.load(runtime)(graph, device=torch.device("cpu"), precision="int8")
            backend.hold = lambda backend=backend: backend  # a graph alone has one state
            protocol = Protocol(output_stride=output_stride, precision="int8")
            labellers[f"atrous {runtime} int8"] = Labeller(backend, model.label_space, protocol)
    return {
        name: lambda labeller=labeller: labeller.label_image(image, confidence=False)[0]
        for name, labeller in labellers.items()
    }


def quantise_network(model: Model, images: list[np.ndarray], output_stride: int) -> ConvertedNetwork:
    """Return the network in 8 bits; its effect on labels is meaningful for trained networks only."""
    import onnx

    from atrous.exporting.int8 import quantise

    folded = fold_norms(model.network, torch.device("cpu"))
    folded.output_stride = output_stride
    graph = ConvertedNetwork(folded)
    graph.source = quantise(onnx.load_from_string(graph.source), images).SerializeToString()
    return graph


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this script."""
    parser.add_argument("--model", choices=["resnet50", "lite0"], default="resnet50")
    parser.add_argument("--size", type=int, nargs=2, default=(513, 513), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument(
        "--output-stride", type=int, choices=[8, 16], default=16, help="output stride of lite0; resnet50 uses 8"
    )


def main() -> None:
    """Run the comparison."""
    options = parse_options(__doc__, add_options)
    width, height = options.size
    image = draw_image(height, width)
    is_own = options.model == "lite0"
    output_stride = options.output_stride if is_own else 8
    plain, model = build_lite0(output_stride) if is_own else build_resnet50()
    sides = build_plain_sides(plain, image, own_statistics=is_own)
    sides |= build_smp_side(image, output_stride) if is_own else build_runtime_sides(plain, image)
    sides |= build_own_sides(model, image, output_stride)
    labels = {name: run() for name, run in sides.items()}
    same = {
        name: {} if "segmentation" in name else {"equal_labels": f"{float((found == labels[PLAIN]).mean()):.6f}"}
        for name, found in labels.items()
    }
    context = {"model": options.model, "output_stride": output_stride, "width": width, "height": height}
    times = take_turns(sides, options.rounds)
    report("inference", context, times, reference=PLAIN, options=options, more=same)


if __name__ == "__main__":
    main()
