"""What tests share: a tiny network and its exported files, a folder of data, and a finished run on it."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing
from PIL import Image

import gloo
from atrous.api import build
from atrous.cli.main import main
from atrous.core import shipped
from atrous.core.shipped import DEFAULT_MODEL
from atrous.data.datasets.shapes import build_shapes
from atrous.exporting import FORMATS
from atrous.exporting.export import export_network
from atrous.graphs.trace import Output, trace_network
from atrous.inference.backends.folding import fold_norms
from atrous.networks import BACKBONES
from atrous.networks.layers import conv
from atrous.networks.layers.atrous import LIBRARY, Taps, Ways
from atrous.networks.model_card import ModelCard
from atrous.networks.model_file import describe_network_card, save_model
from atrous.networks.segmenter import Segmenter
from atrous.runs.half_model import round_weights
from tiny import RUN_OPTIONS, RUN_SIDE, TINY, TINY_SPACE, build_tiny

torch.set_num_threads(1)  # tests compute little: threads would wait for each other, and two workers share two cores
os.environ["OMP_NUM_THREADS"] = "1"  # in the processes that tests start
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:  # inherited from nohup, or from a shell's `&`
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def _tiny_models() -> Iterator[None]:
    """Names such as `deeplabv3-tiny` build in every test."""
    with BACKBONES.including(TINY):
        yield


@pytest.fixture(scope="session")
def shapes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shapes as files, with a space in their path: eight pairs to train on, three to score on. Not to be changed."""
    folder = tmp_path_factory.mktemp("data") / "shapes files"
    splits = build_shapes(num_train=8, num_val=3, size=RUN_SIDE)
    for split in (splits.train, splits.val):
        for index in range(len(split)):
            sample = split.get(index)
            for kind, pixels in (("images", sample.image), ("masks", split.mask(index))):
                path = folder / kind / f"{sample.key}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture(scope="session")
def trained_run(shapes_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run on `shapes_folder`. Not to be changed: copy it for that."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert main(["train", str(shapes_folder), *RUN_OPTIONS, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def shipped_tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a tiny network that has the name of a shipped model, and terms of use, while a test runs."""
    torch.manual_seed(0)
    network = build("fcn-tiny", classes=["background", "cat"])
    card = replace(describe_network_card(network, network.label_space), data="tiny train", num_images=12)
    card = replace(card, data_terms=("tiny is for tests",), score=0.5, scored_data="tiny val", num_scored=3)
    folder = tmp_path / "shipped"
    folder.mkdir()
    save_model(folder / f"{DEFAULT_MODEL}.safetensors", network, card, round_weights(network))
    monkeypatch.setattr(shipped, "FOLDER", folder)
    return folder / f"{DEFAULT_MODEL}.safetensors"


@pytest.fixture(scope="session")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes found that met over gloo, see `gloo.work`."""
    folder = tmp_path_factory.mktemp("gloo")
    torch.multiprocessing.spawn(gloo.work, args=(str(folder),), nprocs=gloo.SIZE)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(gloo.SIZE)]


@pytest.fixture(params=["taps", "phases"])
def one_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Every atrous convolution that can be is computed in one way, whatever the machine; one at least must be."""
    computed: list[Taps] = []

    def choose(taps: Taps, features: torch.Tensor, **_: object) -> Ways:
        if max(taps.rate) == 1 or (request.param == "taps" and taps.groups > 1):
            return LIBRARY
        computed.append(taps)
        return Ways(request.param, request.param, request.param)

    monkeypatch.setattr(conv, "choose_ways", choose)
    yield request.param
    assert computed


@pytest.fixture
def small_files() -> Iterator[None]:
    """Let this process write files of at most 16 KiB, as a disk that is nearly full does."""
    resource = pytest.importorskip("resource")
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**14, former[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, former)


@pytest.fixture
def tiny_network() -> Segmenter:
    """A network of three classes."""
    return build_tiny()


@pytest.fixture(scope="session")
def tiny_card() -> ModelCard:
    """What is known of it; its ids are not its indices."""
    return ModelCard(model={"name": "tiny"}, label_space=TINY_SPACE, score=0.5, data="shapes")


@pytest.fixture(scope="session")
def converting_once() -> Callable[[], AbstractContextManager[None]]:
    """A block in which whatever is exported gets the graph of the tiny network, made once for each output.

    Tracing and converting take seconds: for tests of what comes before and after. tests/contracts/test_formats.py
    tests the conversions themselves.
    """

    from atrous.graphs.onnx_file import convert_to_onnx  # which needs packages of an extra

    @cache
    def trace(output: Output) -> torch.export.ExportedProgram:
        return trace_network(fold_norms(build_tiny(), torch.device("cpu")), output)

    convert = cache(convert_to_onnx)

    @contextmanager
    def convert_once() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("atrous.exporting.export.trace_network", lambda _, output: trace(output))
            patch.setattr("atrous.exporting.onnx_file.convert_to_onnx", lambda program: deepcopy(convert(program)))
            yield

    return convert_once


@pytest.fixture
def _converted_once(converting_once: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """The same for a whole test."""
    with converting_once():
        yield


@pytest.fixture(scope="session")
def export_tiny(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_card: ModelCard,
    converting_once: Callable[[], AbstractContextManager[None]],
) -> Callable[..., Path]:
    """The tiny network as a file, made once: by format and whether it gives labels alone."""
    folder = tmp_path_factory.mktemp("exported")

    def export(format: str, *, argmax: bool = False) -> Path:
        path = folder / f"{'labels' if argmax else 'logits'}{FORMATS.load(format).suffix}"
        if not path.exists():
            with warnings.catch_warnings(), converting_once():
                warnings.simplefilter("ignore")  # the exporters' own
                export_network(build_tiny(), tiny_card, path, format=format, argmax=argmax)
        return path

    return export


@pytest.fixture(scope="session", autouse=True)
def _own_cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep facts of the files of tests out of the user's cache folder; processes that tests start inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
