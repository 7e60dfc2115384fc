"""What it costs to notice that weights have changed: the digest of a network beside a whole prediction with it.

    python benchmarks/digest.py --rounds 20

The two take turns, so that each digest finds the caches as a prediction leaves them. 50 times as fast as the prediction
means that the digest is 2 % of it. `machine` is the least time in which NumPy reads as many bytes.
"""

from __future__ import annotations

import numpy as np
from harness import parse_options, report, take_turns

import atrous
from atrous.core.inference_options import Opening
from atrous.core.labels import LabelSpace
from atrous.inference.weights_digest import NetworkDigest
from atrous.model import Model
from atrous.networks.model_card import ModelCard
from atrous.scoring.bench import draw_image

NUM_CLASSES = 21
SIZES = (129, 513)


def main() -> None:
    """Run the comparison for two networks, in fp32."""
    options = parse_options(__doc__)
    for name in ("deeplabv3-lite0", "deeplabv3-resnet50"):
        network = atrous.build(name, classes=NUM_CLASSES).eval()
        digest = NetworkDigest(network)
        num_bytes = sum(tensor.nbytes for tensor in network.state_dict().values())
        other = np.ones(num_bytes // 8)
        card = ModelCard({"name": name}, LabelSpace(tuple(f"class {number}" for number in range(NUM_CLASSES))))
        for backend in ("torch", "openvino"):
            labeller = Model(network, card, Opening(precision="fp32", backend=backend)).build_labeller()
            for size in SIZES:
                image = draw_image(size, size)
                sides = {
                    "prediction": lambda labeller=labeller, image=image: labeller.label([image]),
                    "digest": digest.compute,
                    "machine": lambda other=other: float(other.sum()),
                }
                context = {"model": name, "mib": round(num_bytes / 2**20), "backend": backend, "size": size}
                report("digest", context, take_turns(sides, options.rounds), reference="prediction", options=options)


if __name__ == "__main__":
    main()
