from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import atrous
from atrous.core.labels import LabelSpace
from atrous.networks.model_card import ModelCard
from atrous.networks.model_file import save_model

HEAVY = ("torch", "torchvision", "timm", "lightning", "cv2")


def find_loaded(code: str, names: tuple[str, ...]) -> list[str]:
    """Run `code` in a fresh interpreter and return which of `names` it has imported."""
    script = f"import sys\n{code}\nprint('loaded:', *(name for name in {names!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
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
    "convert nowhere --out x": 3,
    f"export {MODEL} --format no": 2,
    f"export {MODEL} --int8 --calibrate nowhere": 2,
    "bench nowhere": 4,
    f"bench {MODEL} --data nowhere": 3,
    f"bench {MODEL} --backends no": 2,
    "models show no": 2,
    "datasets show nowhere": 3,
    "config show nowhere": 3,
    "check nowhere": 3,
    "check shapes --set data.no=1": 2,
    f"predict {IMAGE} --model {MODEL} --out {MODEL}/below": 2,
    f"export {MODEL} --out {IMAGE}/below/a.onnx": 2,
    f"bench {MODEL} --out {IMAGE}/below": 2,
    f"train shapes --out {IMAGE}/below": 2,
    f"train shapes --preview --out {IMAGE}/below": 2,
    "reproduce table99": 2,
    "reproduce table1 --data nowhere": 3,
    "reproduce table1 --backbone no": 2,
}
"""Command lines with a path or a name that does not exist or cannot be written, and their exit codes: they are refused
without PyTorch."""
LISTED = ("models", "datasets", "config show --recipe demo", "config show photos --why", "models --json")
"""Commands that need no PyTorch when they succeed either."""
COMPILERS = ("torch._dynamo", "sympy")
RUNTIMES = ("onnx", "onnxscript", "onnxruntime", "openvino")
TRAINING = ("lightning", "torchmetrics")
OTHERS = ("torchvision", "timm", "matplotlib")
UNNEEDED = {
    f"predict {IMAGE} --model {MODEL} --out out": (*COMPILERS, *TRAINING, *RUNTIMES, *OTHERS),
    f"eval {MODEL} photos": (*COMPILERS, *TRAINING, *RUNTIMES, *OTHERS),
    "datasets show photos": (*COMPILERS, *TRAINING, *RUNTIMES, *OTHERS),
    "models show fcn-resnet18": (*TRAINING, *RUNTIMES, *OTHERS),
    "train photos --model fcn-resnet18 --weights none --crop 65 --dry-run": (
        "onnx",
        "openvino",
        "timm",
    ),  # Lightning imports the others
}
"""Command lines in the order in which one process runs them, and the packages that they do without."""


def test_paths_and_names_that_do_not_exist_are_refused_without_pytorch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (MODEL, IMAGE):
        (tmp_path / name).touch()
    (tmp_path / "photos").mkdir()
    code = (
        "from atrous.cli.main import main\n"
        f"for words, code in ({REFUSED!r} | dict.fromkeys({LISTED!r}, 0)).items():\n"
        "    found = main(words.split())\n"
        "    if found != code or 'torch' in sys.modules:\n"
        "        sys.exit(f'{words}: {found}, torch' if 'torch' in sys.modules else f'{words}: {found}')"
    )
    assert find_loaded(code, HEAVY) == []


def test_a_command_imports_what_it_needs_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for kind, shape, most in (("images", (65, 65, 3), 256), ("masks", (65, 65), 2)):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for number in range(4):
            pixels = generator.integers(0, most, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / kind / f"{number}.png")
    shutil.copy(tmp_path / "photos" / "images" / "0.png", tmp_path / IMAGE)
    card = ModelCard(model={"name": "fcn-lite0"}, label_space=LabelSpace(("class 0", "class 1")))
    save_model(tmp_path / MODEL, atrous.build("fcn-lite0", classes=2), card)
    code = (
        "from atrous.cli.main import main\n"
        f"for words, names in {UNNEEDED!r}.items():\n"
        "    code = main(words.split())\n"
        "    if code or (loaded := [name for name in names if name in sys.modules]):\n"
        "        sys.exit(f'{words}: {code or loaded}')"
    )
    find_loaded(code, ())  # which fails if the script exits with a complaint


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


COUNT_CALLS = """
import sys
calls = 0
def count(frame, event, argument):
    global calls
    calls += event in ("call", "c_call")
sys.setprofile(count)
try:
    {}
except SystemExit:
    pass
sys.setprofile(None)
print(calls, file=sys.stderr)
"""


def count_calls(code: str) -> int:
    """Return how many functions a fresh interpreter calls in `code`: its work, whatever else the machine does."""
    counts = []
    for _ in range(2):  # the first time may compile what it imports
        run = subprocess.run(
            [sys.executable, "-c", COUNT_CALLS.format(code)], capture_output=True, text=True, check=True
        )
        counts.append(int(run.stderr.splitlines()[-1]))
    return min(counts)


def test_calls_are_counted():
    once, twice = (count_calls(f"for number in range({times}): abs(number)") for times in (1000, 2000))
    assert twice - once == 1000


def test_help_answers_at_once():
    """It takes less than three times what the library of commands alone takes to load."""
    ours = count_calls("import atrous.cli.main; sys.exit(atrous.cli.main.main(['--help']))")
    assert ours < 3 * count_calls("import typer")
