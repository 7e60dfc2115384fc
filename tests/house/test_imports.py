from __future__ import annotations

import os
import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "timm", "lightning", "cv2")


def find_loaded(code: str, names: tuple[str, ...]) -> list[str]:
    """Run `code` in a fresh interpreter and return which of `names` it has imported."""
    script = f"import sys\n{code}\nprint('loaded:', *(name for name in {names!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split()[1:]


def test_the_package_alone_loads_neither_torch_nor_numpy():
    assert find_loaded("import atrous; atrous.__version__; dir(atrous)", (*HEAVY, "numpy", "pydantic", "rich")) == []


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(words):
    code = f"from atrous.cli.main import main\nmain({words!r})"
    assert find_loaded(code, (*HEAVY, "numpy")) == []


MODEL, IMAGE = "model.safetensors", "photo.png"
REFUSED = {
    "train nowhere": 3,
    "train voc=nowhere": 3,
    "train shapes --model deeplabv3-lite9": 2,
    "train shapes --model deeplab": 2,
    "train shapes --weights no.pth": 4,
    "train shapes --weights torchvision/no": 4,
    "train shapes --recipe no": 2,
    "train shapes --recipe no.yaml": 2,
    "train shapes --device no": 2,
    "train shapes --logger no": 2,
    "train shapes --set training.loss=no": 2,
    "train shapes --set training.optimizer=no": 2,
    "train shapes --set evaluation.backend=no": 2,
    "train shapes --set training.no=1": 2,
    "train --resume nowhere": 2,
    "eval nowhere": 4,
    f"eval {MODEL} nowhere": 3,
    f"eval {MODEL} {MODEL}": 2,
    f"eval {MODEL} shapes --window no": 2,
    f"predict nofile.jpg --model {MODEL}": 2,
    f"predict no*.jpg --model {MODEL}": 2,
    f"predict {IMAGE} --model nowhere": 4,
    f"predict {IMAGE} --model torchvision/no": 4,
    f"predict {IMAGE} --model {MODEL} --format no": 2,
    "export nowhere": 4,
    f"export {MODEL} --format no": 2,
    f"export {MODEL} --int8 --calibrate nowhere": 2,
    "bench nowhere": 4,
    f"bench {MODEL} --data nowhere": 3,
    f"bench {MODEL} --backends no": 2,
    "models show no": 2,
    "datasets show nowhere": 3,
    "config show nowhere": 3,
    "reproduce table99": 2,
    "reproduce table1 --data nowhere": 3,
    "reproduce table1 --backbone no": 2,
}
"""Command lines with a path or a name that does not exist, and their exit codes. They are refused without PyTorch."""
PEERS = (
    "lightning",
    "torchmetrics",
    "torchvision",
    "timm",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "openvino",
    "matplotlib",
)
NEEDED = {
    "models": ("torch",),
    "datasets": ("torch",),
    "config show --recipe demo": ("torch",),
    f"predict {IMAGE} --model {MODEL} --out out": ("numba", *PEERS),
    f"eval {MODEL} photos": PEERS,
    f"export {MODEL} --format pt2": ("lightning", "torchmetrics", "torchvision", "timm", "openvino", "matplotlib"),
    "models show fcn-resnet18": ("numba", *PEERS),
    "datasets show photos": ("torchvision", *PEERS),
    "train photos --dry-run": ("torchvision", "timm", "onnx", "onnxruntime", "openvino", "matplotlib"),
}
"""Commands, and the packages that they do not need and so do not import."""


def test_paths_and_names_that_do_not_exist_are_refused_without_pytorch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (MODEL, IMAGE):
        (tmp_path / name).touch()
    code = (
        "from atrous.cli.main import main\n"
        f"for words, code in {REFUSED!r}.items():\n"
        "    found = main(words.split())\n"
        "    if found != code or 'torch' in sys.modules:\n"
        "        sys.exit(f'{words}: {found}, torch' if 'torch' in sys.modules else f'{words}: {found}')"
    )
    assert find_loaded(code, HEAVY) == []


@pytest.mark.parametrize("folder", ["core", "config", "reports"])
def test_torch_stays_out_of_the_lowest_folders(folder):
    code = (
        "import importlib, pkgutil, atrous\n"
        f"package = importlib.import_module('atrous.{folder}')\n"
        f"for found in pkgutil.walk_packages(package.__path__, 'atrous.{folder}.'):\n"
        "    importlib.import_module(found.name)"
    )
    assert find_loaded(code, HEAVY) == []


def test_the_tables_of_parts_load_without_torch():
    assert find_loaded("import atrous.networks, atrous.data, atrous.cli.main", ("torch", "timm", "lightning")) == []


def test_help_answers_at_once():
    """Processor time is measured, which other programs on the machine do not change."""
    seconds = []
    for _ in range(3):
        before = os.times()
        subprocess.run([sys.executable, "-m", "atrous", "--help"], capture_output=True, check=True)
        after = os.times()
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(seconds) < 0.3
