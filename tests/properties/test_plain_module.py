"""A network is an ordinary `nn.Module`: PyTorch's own tools take it as they take any other."""

from __future__ import annotations

import copy
import inspect
import io
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.export import Dim
from torch.func import functional_call, grad, jacrev, jvp, replace_all_batch_norm_modules_, vmap
from torch.nn import functional as F
from torchvision.models.feature_extraction import create_feature_extractor

import atrous
from atrous.networks import FAMILIES
from atrous.networks.layers import ways
from atrous.networks.layers.conv import Conv
from atrous.networks.layers.lean import set_lean
from atrous.networks.segmenter import Segmenter
from tiny import build_tiny

IMAGES = torch.randint(0, 256, (4, 3, 49, 70), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(0, 3, (4, 49, 70), generator=torch.Generator().manual_seed(1))
NORMS = {
    "group": lambda channels: nn.GroupNorm(1, channels),
    "instance": lambda channels: nn.InstanceNorm2d(channels, affine=True),
    "tracking instance": lambda channels: nn.InstanceNorm2d(channels, track_running_stats=True),
    "none": lambda channels: nn.Identity(),
}


def compute_loss(logits: Tensor) -> Tensor:
    return F.cross_entropy(logits, LABELS[: len(logits)])


def replace_norms(network: nn.Module, name: str) -> None:
    for module in list(network.modules()):
        for child, norm in list(module.named_children()):
            if isinstance(norm, nn.BatchNorm2d):
                setattr(module, child, NORMS[name](norm.num_features))


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "deeplabv3-cascade"])
def test_other_norms_train_and_predict(family: str, name: str) -> None:
    network = atrous.build(f"{family}-tiny", classes=3)
    replace_norms(network, name)
    images = F.interpolate(IMAGES.float(), size=(97, 129)).byte()
    network(images).square().mean().backward()
    gradients = {name: weight.grad for name, weight in network.named_parameters()}
    unused = {name for name, gradient in gradients.items() if gradient is None}
    assert all(".norm." in name for name in unused)  # instance norms of single cells
    assert all(gradient.isfinite().all() for name, gradient in gradients.items() if name not in unused)
    with torch.no_grad():
        assert network.eval()(images[:1]).isfinite().all()


@pytest.mark.parametrize("training", [False, True])
def test_a_network_can_be_built_and_run_on_the_meta_device(training: bool) -> None:
    with torch.device("meta"):
        built = atrous.build("deeplabv3-tiny", classes=3).train(training)
    for network in (built, build_tiny().to("meta").train(training)):
        for output_stride in (8, 16):
            network.output_stride = output_stride
            logits = network(torch.zeros(4, 3, 49, 70, device="meta"))
            assert (logits.device.type, tuple(logits.shape)) == ("meta", (4, 3, 49, 70))
    materialised = built.to_empty(device="cpu")
    materialised.load_state_dict({name: torch.zeros_like(t) for name, t in materialised.state_dict().items()})
    assert materialised(IMAGES).shape == (4, 3, 49, 70)


@pytest.mark.parametrize("dynamic", [{0: Dim.AUTO, 2: Dim.AUTO, 3: Dim.AUTO}, {2: Dim.AUTO, 3: Dim.AUTO}, {}])
def test_torch_export_takes_it_with_dynamic_sizes(tiny_network: Segmenter, dynamic: dict[int, object]) -> None:
    example = torch.zeros(2, 3, 75, 101, dtype=torch.uint8)
    with torch.no_grad():
        exported = torch.export.export(tiny_network, (example,), dynamic_shapes=({**dynamic},))
    unchecked = {"check_guards": False} if "check_guards" in inspect.signature(exported.module).parameters else {}
    program = exported.module(**unchecked)
    shapes = [(2, 3, 75, 101)]
    shapes += [(2, 3, 49, 70), (2, 3, 33, 300)] * bool(dynamic) + [(5, 3, 60, 60)] * (0 in dynamic)
    for shape in shapes:
        images = torch.randint(0, 256, shape, dtype=torch.uint8)
        with torch.no_grad():
            torch.testing.assert_close(program(images), tiny_network(images))


@pytest.mark.parametrize("training", [False, True])
def test_it_compiles_as_one_graph(tiny_network: Segmenter, training: bool) -> None:
    network = tiny_network.train(training)
    twin = copy.deepcopy(network)
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    for images in (IMAGES, IMAGES[:, :, :40], IMAGES[:, :, :, :37]):
        found, expected = (torch.manual_seed(0) and module(images) for module in (compiled, twin))  # of dropout
        torch.testing.assert_close(found, expected)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")  # of PyTorch itself
def test_torch_func_transforms_it(tiny_network: Segmenter) -> None:
    parameters = {name: value.detach() for name, value in tiny_network.named_parameters()}

    def loss_of(parameters: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(tiny_network, parameters, (image[None],)), label[None])

    per_sample = vmap(grad(loss_of), in_dims=(None, 0, 0))(parameters, IMAGES, LABELS)
    compute_loss(tiny_network(IMAGES)).backward()
    for name, value in tiny_network.named_parameters():
        torch.testing.assert_close(per_sample[name].mean(0), value.grad, rtol=1e-3, atol=1e-5)
    image = IMAGES[:1, :, :5, :5] / 255

    def average(image: Tensor) -> Tensor:
        return tiny_network(image).mean(dim=(0, 2, 3))

    jacobian = jacrev(average)(image)
    assert jacobian.shape == (3, 1, 3, 5, 5)
    forwards = jvp(average, (image,), (torch.ones_like(image),))[1]
    torch.testing.assert_close(forwards, jacobian.sum(dim=(1, 2, 3, 4)), rtol=1e-3, atol=1e-5)
    grad(loss_of)(parameters, IMAGES[0], LABELS[0])


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")  # of PyTorch itself
def test_dual_tensors_pass_without_the_functions_of_the_project(tiny_network: Segmenter) -> None:
    set_lean(tiny_network, False)
    with forward_ad.dual_level():
        images = forward_ad.make_dual(IMAGES / 255, torch.ones(IMAGES.shape))
        assert forward_ad.unpack_dual(tiny_network(images)).tangent.isfinite().all()


def test_training_modules_are_transformed_too(tiny_network: Segmenter) -> None:
    network = replace_all_batch_norm_modules_(tiny_network.train())  # PyTorch transforms no running statistics
    parameters = {name: value.detach() for name, value in network.named_parameters()}
    torch.manual_seed(0)  # of dropout
    found = grad(lambda p: compute_loss(functional_call(network, p, (IMAGES,))))(parameters)
    torch.manual_seed(0)
    compute_loss(network(IMAGES)).backward()
    for name, value in network.named_parameters():
        torch.testing.assert_close(found[name], value.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_gradients_of_gradients_are_those_without_the_functions_of_the_project(
    tiny_network: Segmenter, training: bool
) -> None:
    networks = tiny_network.train(training), copy.deepcopy(tiny_network)
    set_lean(networks[1], False)
    for network in networks:
        torch.manual_seed(0)  # of dropout
        loss = compute_loss(network(IMAGES))
        gradients = torch.autograd.grad(loss, list(network.parameters()), create_graph=True)
        sum(gradient.square().sum() for gradient in gradients).backward()
    found, expected = ([value.grad for value in network.parameters()] for network in networks)
    assert any(gradient is not None and gradient.any() for gradient in expected)
    for ours, plain in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-2, atol=1e-3)


def test_a_convolution_by_taps_is_differentiable_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "KIND", "avx2")
    monkeypatch.setitem(ways.MEASURED, "avx2", (torch.float64,))  # in fp32 differences are too small to be compared
    torch.manual_seed(0)
    conv = Conv(2, 3, 3, padding=6, dilation=6).double()
    features = torch.rand(2, 2, 7, 7, dtype=torch.float64, requires_grad=True)

    def run(features: Tensor, weight: Tensor) -> Tensor:
        return functional_call(conv, {"weight": weight}, (features,))

    weight = conv.weight.detach().requires_grad_()
    assert type(conv(features).grad_fn).__name__ != "ConvolutionBackward0"  # it is by taps
    torch.autograd.gradcheck(run, (features, weight))
    torch.autograd.gradgradcheck(run, (features, weight))


def test_copies_and_files_are_whole(tiny_network: Segmenter) -> None:
    buffer = io.BytesIO()
    torch.save(tiny_network, buffer)
    buffer.seek(0)
    twins = (
        copy.deepcopy(tiny_network),
        pickle.loads(pickle.dumps(tiny_network)),
        torch.load(buffer, weights_only=False),
        torch.optim.swa_utils.AveragedModel(tiny_network).module,
    )
    with torch.no_grad():
        for twin in twins:
            twin.output_stride = 8
            assert tiny_network.output_stride == 16
            twin.output_stride = 16
            assert torch.equal(twin(IMAGES), tiny_network(IMAGES))
        torch.testing.assert_close(tiny_network.double()(IMAGES), twins[0](IMAGES).double(), rtol=1e-4, atol=1e-4)


def test_features_are_taken_from_the_backbone(tiny_network: Segmenter) -> None:
    extractor = create_feature_extractor(tiny_network.backbone, {"blocks.2": "features"})
    image = tiny_network.normalise(IMAGES)
    with torch.no_grad():
        assert torch.equal(extractor(image)["features"], tiny_network.backbone(image)[2])
