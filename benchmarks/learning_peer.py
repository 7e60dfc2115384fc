"""The peer of the benchmark of learning: DeepLabV3 of segmentation_models_pytorch, trained as its users would.

Plain SGD with momentum 0.9, one learning rate for the whole network that falls by the poly rule, weight decay 1e-4 on
all weights, cross-entropy at every pixel. It starts from the same ImageNet weights, sees the same augmented crops in
the same order as atrous does, trains in the same precision, and is scored in fp32.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atrous.config.schema import TrainingConfig
from atrous.core.labels import IGNORE_INDEX
from atrous.data.build import build_loader
from atrous.data.contracts import SegmentationDataset
from atrous.inference.precision import computes_bf16
from atrous.networks.backbones.efficientnet_lite import LITE0_FILE
from atrous.networks.weights import load_state

STRIDE = 16
POWER = 0.9
CHECKPOINT_S = 120.0


def build_peer(num_classes: int, *, weights: str) -> nn.Module:
    """Build DeepLabV3 at output stride 16 on EfficientNet-Lite0.

    Args:
        num_classes: Classes.
        weights: "imagenet" for the weights that atrous takes, or "none".
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the encoder's name
        network: nn.Module = smp.DeepLabV3(
            "timm-tf_efficientnet_lite0",
            encoder_weights=None,
            encoder_output_stride=STRIDE,
            decoder_atrous_rates=(6, 12, 18),
            classes=num_classes,
        )
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3  # as these weights were trained
    if weights == "imagenet":
        published = load_state(LITE0_FILE.fetch())
        own = network.encoder.state_dict()  # in the order of the published tensors, under other names
        renamed = dict(zip(own, published.values(), strict=False))
        network.encoder.load_state_dict(renamed)
    return network


def forward(network: nn.Module, images: Tensor) -> Tensor:
    """Return logits of every pixel; sides are padded to whole cells, and the padding is cut off again.

    Shapes:
        in (B, 3, H, W) uint8; out (B, K, H, W).
    """
    height, width = images.shape[-2:]
    normalised = images.float() / 127.5 - 1.0
    padded = F.pad(normalised, (0, -width % STRIDE, 0, -height % STRIDE))
    with torch.autocast("cpu", torch.bfloat16, enabled=network.training and computes_bf16("cpu")):
        logits: Tensor = network(padded)
    return logits[..., :height, :width].float()


def train_peer(
    dataset: SegmentationDataset,
    training: TrainingConfig,
    steps: int,
    folder: Path,
    *,
    weights: str,
    on_step: Callable[[int], None],
) -> nn.Module:
    """Train the peer, or continue where an earlier call was cut off.

    Args:
        dataset: What is trained on.
        training: Batch, crop, augmentation, seed and learning rate.
        steps: Steps of the whole training.
        folder: Where its checkpoint lies.
        weights: See `build_peer`.
        on_step: Receives the number of steps done after each.
    """
    torch.manual_seed(training.seed)
    network = build_peer(dataset.label_space.num_classes, weights=weights)
    optimizer = torch.optim.SGD(network.parameters(), lr=training.lr, momentum=0.9, weight_decay=1e-4)
    checkpoint, start = folder / "peer.ckpt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    batch = training.batch
    loader = build_loader(dataset, training, start_place=start * batch, num_places=(steps - start) * batch, workers=0)
    network.train()
    saved = time.monotonic()
    for step, item in enumerate(loader, start):
        for group in optimizer.param_groups:
            group["lr"] = training.lr * (1.0 - step / steps) ** POWER
        torch.manual_seed(training.seed * 1_000_003 + step)  # so that a continued training drops the same values
        loss = F.cross_entropy(forward(network, item.images), item.labels, ignore_index=IGNORE_INDEX)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        on_step(step + 1)
        if time.monotonic() - saved > CHECKPOINT_S or step + 1 == steps:
            save(checkpoint, network, optimizer, step + 1)
            saved = time.monotonic()
    return network.eval()


def save(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Write a checkpoint, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    torch.save({"network": network.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, unfinished)
    os.replace(unfinished, path)


@torch.inference_mode()
def label(network: nn.Module, image: np.ndarray) -> np.ndarray:
    """Return class indices of a whole image.

    Shapes:
        in (H, W, 3) uint8 RGB; out (H, W) int64.
    """
    images = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
    labels: np.ndarray = forward(network, images)[0].argmax(0).numpy()
    return labels
