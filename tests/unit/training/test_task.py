from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from atrous.core.labels import IGNORE_INDEX
from atrous.losses.contracts import count_weight
from atrous.losses.cross_entropy import CrossEntropy
from atrous.losses.ohem import OHEM
from atrous.networks.build import build_network_from
from atrous.networks.layers.resize import enlarge_logits
from atrous.training.task import TrainingTask


def build(name="fcn-resnet18", **options):
    torch.manual_seed(0)
    return build_network_from({"name": name, **options}, 3)


def build_task(network, loss=None, **options):
    return TrainingTask(network, loss or CrossEntropy(), **options)


def build_batch(size=65):
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (2, 3, size, size), generator=generator, dtype=torch.uint8)
    labels = torch.zeros(2, size, size, dtype=torch.int64)
    labels[0, :, 32:] = 1
    labels[1, 32:] = 2
    labels[:, :4] = IGNORE_INDEX
    return images, labels


def test_a_pass_on_a_cpu_keeps_no_copies_of_weights_and_maps_once():
    network = build("fcn-resnet18").train()
    images, labels = build_batch(129)

    def measure_kept(task):
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = task(images, labels, count_weight(labels))
        assert loss.requires_grad
        return sum(event.self_cpu_memory_usage for event in profiler.key_averages())

    def forward_keeping_all(images):
        with torch.autograd.graph.saved_tensors_hooks(lambda kept: kept, lambda kept: kept):
            return network.forward_cells(images)

    lean = measure_kept(build_task(network))
    assert lean < 0.8 * measure_kept(build_task(network, forward_cells=forward_keeping_all))


def test_the_loss_is_the_mean_over_valid_pixels_of_full_size_logits():
    network = build().eval()
    images, labels = build_batch()
    weights = (1.0, 2.0, 0.5)
    loss = build_task(network, class_weights=weights)(images, labels, count_weight(labels, torch.tensor(weights)))
    expected = F.cross_entropy(network(images), labels, torch.tensor(weights), ignore_index=IGNORE_INDEX)
    torch.testing.assert_close(loss, expected)


def test_the_auxiliary_head_adds_its_share_in_training_alone():
    network = build(auxiliary=True)
    images, labels = build_batch()
    total = count_weight(labels)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.Dropout | torch.nn.Dropout2d):
                module.p = 0.0
        losses = [
            build_task(network.train(), auxiliary_weight=weight)(images, labels, total).item()
            for weight in (0.0, 0.4, 1.0)
        ]
        cells = network.train().forward_cells(images)
        full = enlarge_logits(cells.auxiliary, cells.geometry)
        auxiliary = F.cross_entropy(full, labels, ignore_index=IGNORE_INDEX).item()
        assert build_task(network.eval())(images, labels, total).item() > 0  # no auxiliary logits, no failure
    assert losses[1] - losses[0] == pytest.approx(0.4 * auxiliary, rel=1e-4)
    assert losses[2] - losses[0] == pytest.approx(auxiliary, rel=1e-4)


def test_the_auxiliary_head_learns():
    network = build(auxiliary=True)
    images, labels = build_batch()
    build_task(network.train())(images, labels, count_weight(labels)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert network.auxiliary_head.classifier.weight.grad.any()


def test_a_step_without_a_valid_pixel_has_loss_zero_and_finite_gradients():
    network = build(auxiliary=True)
    images, labels = build_batch()
    labels[:] = IGNORE_INDEX
    loss = build_task(network.train())(images, labels, count_weight(labels))
    loss.backward()
    assert loss.item() == 0.0
    assert all(not p.grad.any() for p in network.parameters())


def test_at_the_cells_labels_are_shrunk_and_logits_are_not_upsampled():
    network = build().eval()
    images, labels = build_batch()
    task = build_task(network, resolution="cells")
    cells = network.forward_cells(images)
    shrunk = labels[:, ::16, ::16]  # 65 pixels at stride 16: cells stand at pixels 0, 16, ..., 64
    assert cells.logits.shape[2:] == shrunk.shape[1:]
    expected = F.cross_entropy(cells.logits, shrunk, ignore_index=IGNORE_INDEX)
    torch.testing.assert_close(task(images, labels, task.count_weight(labels)), expected)
    assert task.count_weight(labels).item() == (shrunk != IGNORE_INDEX).sum().item()


def test_the_loss_that_is_given_is_the_one_that_is_minimised():
    network = build(auxiliary=True)
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout | torch.nn.Dropout2d):
            module.p = 0.0
    images, labels = build_batch()
    loss = OHEM(threshold=0.3, min_kept_fraction=0.1)
    given = build_task(network.train(), loss)(images, labels, count_weight(labels))
    cells = network.forward_cells(images)
    main, auxiliary = (
        loss(enlarge_logits(logits, cells.geometry), labels) / count_weight(labels)
        for logits in (cells.logits, cells.auxiliary)
    )
    torch.testing.assert_close(given, main + 0.4 * auxiliary)


def test_class_weights_travel_with_the_task_and_are_not_saved():
    task = build_task(build(), class_weights=(1.0, 2.0, 3.0))
    assert task.to(torch.float64).class_weights.dtype == torch.float64
    assert [name for name in task.state_dict() if not name.startswith("network.")] == []


@pytest.mark.parametrize("name", ["fcn-tiny", "deeplabv3-tiny"])
def test_one_batch_can_be_learnt_by_heart(name):
    options = {"head": {"rates": [1, 2], "channels": 32}} if name.startswith("deeplabv3") else {}
    task = build_task(build(name, **options).train())
    images, labels = build_batch()
    optimizer = torch.optim.SGD(task.parameters(), lr=0.2, momentum=0.9)
    losses = []
    for _ in range(20):
        loss = task(images, labels, count_weight(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
