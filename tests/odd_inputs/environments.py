"""Odd environments and signals: each command runs in a process of its own."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
from PIL import Image

from odd_inputs.case import Case, Place

MACHINE = 5
OTHER_FAILED = 7
INTERRUPTED = 130


def shell(script: str) -> tuple[str, ...]:
    """Return the words that run a command as `"$@"` of a script."""
    return ("bash", "-c", script, "bash")


def in_namespace(script: str) -> tuple[str, ...]:
    """Return the words that run a command with file systems of its own."""
    return ("unshare", "--mount", *shell(script))


@cache
def find_no_mounts() -> str:
    """Return why this machine cannot mount a small file system for one process; nothing if it can."""
    if shutil.which("unshare") is None:
        return "unshare is not installed"
    script = "mount -t tmpfs -o size=64k tmpfs /mnt"
    done = subprocess.run([*in_namespace(script)], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"no mounts here: {done.stderr.strip()}"


@cache
def find_no_other_user() -> str:
    """Return why no process can run here as a user without an entry; nothing if one can."""
    words = ["unshare", "--user", "--map-user=54321", "true"]
    if shutil.which("unshare") is None or subprocess.run(words, capture_output=True, check=False).returncode:
        return "no user namespaces here"
    return ""


def predict(place: Place) -> list[str]:
    place.image("in/a.png")
    return place.predict()


def train(place: Place) -> list[str]:
    place.copy_data()
    return place.train()


def predicting(name: str, code: int | tuple[int, ...] = 0, **rest: object) -> Case:
    makes = ("out/a.png",) if code == 0 else ()
    return Case(f"predict {name}", predict, code, **{"makes": makes, **rest})


def training(name: str, code: int | tuple[int, ...] = 0, **rest: object) -> Case:
    makes = ("new/metrics.json", "new/report.html") if code == 0 else ()
    return Case(f"train {name}", train, code, **{"makes": makes, **rest})


def with_named_classes(place: Place) -> list[str]:
    data = place.copy_data()
    found = {
        split: {
            int(i) for path in (data / "masks" / split).glob("*.png") for i in np.unique(np.asarray(Image.open(path)))
        }
        for split in ("train", "val")
    }
    classes = ", ".join(f"{number}: 空{number}" for number in sorted(found["train"] - {255}))
    ignored = sorted(found["val"] - found["train"] | {255})
    text = f"data: {{classes: {{{classes}}}, ignore: {ignored}}}\n"
    (data / "atrous.yaml").write_text(text, encoding="utf-8")
    return place.train()


def many_images(place: Place) -> list[str]:
    for number in range(400):
        place.image(f"in/{number}.png", (200, 200))
    return place.predict()


def long_training(place: Place) -> list[str]:
    place.copy_data()
    return exchange(place.train("--set", "training.validations=400"), "--iterations", "5000")


def train_with_workers(place: Place) -> list[str]:
    """Return a training whose batches are larger than a small /dev/shm."""
    place.copy_data()
    words = exchange(exchange(place.train(), "--workers", "2"), "--crop", "257")
    return exchange(words, "--iterations", "2")


def exchange(words: Sequence[str], option: str, value: str) -> list[str]:
    """Return a command with another value of an option."""
    place = words.index(option) + 1
    return [*words[:place], value, *words[place + 1 :]]


def has(pattern: str) -> Callable[[Place], bool]:
    """Whether a file exists."""
    return lambda place: any(place.path.glob(pattern))


def variables(values: Mapping[str, str | None]) -> str:
    return ", ".join(f"{name}={value}" if value is not None else f"no {name}" for name, value in values.items())


VARIABLES: Sequence[tuple[Mapping[str, str | None], bool]] = (
    ({"HOME": None, "XDG_CACHE_HOME": None}, True),
    ({"HOME": "/nonexistent", "XDG_CACHE_HOME": None}, False),
    ({"HOME": "", "XDG_CACHE_HOME": ""}, False),
    ({"XDG_CACHE_HOME": "/proc/nothing"}, False),
    ({"TMPDIR": "/nonexistent"}, False),
    ({"MPLCONFIGDIR": "/proc/nothing"}, False),
    ({"LC_ALL": "C", "PYTHONUTF8": "0"}, False),
    ({"PYTHONIOENCODING": "ascii"}, False),
    ({"COLUMNS": "1", "TERM": "dumb"}, False),
    ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
    ({"ATROUS_DATA": "/nonexistent"}, False),
    ({"TZ": "Nowhere/Nothing"}, False),
    ({"PYTHONOPTIMIZE": "2"}, False),
    ({"USER": None, "LOGNAME": None, "SHELL": None, "LANG": None}, False),
)
PREDICTIONS = [
    predicting(f"with {variables(values)}", environment=values, never_makes=("~*", "in/~*"), quick=quick)
    for values, quick in VARIABLES
]
TRAININGS = [
    training(f"with {variables(values)}", environment=values, never_makes=("~*",))
    for values, _ in (VARIABLES[0], VARIABLES[1], VARIABLES[5], VARIABLES[6], VARIABLES[12])
]

LANGUAGES = [
    Case(
        f"classes in Japanese with {variables(values)}",
        with_named_classes,
        0,
        environment=values,
        makes=("new/metrics.json", "new/report.html"),
    )
    for values in ({"PYTHONIOENCODING": "latin-1"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
]

STREAMS = [
    predicting("without standard input", wrap=shell('exec "$@" <&-')),
    predicting("without standard output", wrap=shell('exec "$@" >&-')),
    predicting("without both outputs", wrap=shell('exec "$@" >&- 2>&-')),
    predicting("into a full device", (0, MACHINE), wrap=shell('exec "$@" >/dev/full'), makes=("out/a.png",)),
    predicting(
        "into a pipe that closes",
        (0, 141, INTERRUPTED),
        wrap=shell('"$@" | true; exit ${PIPESTATUS[0]}'),
        makes=("out/a.png",),
    ),
    Case(
        "--json into a full device",
        lambda place: [*predict(place), "--json"],
        MACHINE,
        wrap=shell('exec "$@" >/dev/full'),
        makes=("out/a.png",),
    ),
]

LIMITS = [
    predicting("with a umask of 077", wrap=shell('umask 077; exec "$@"')),
    training("with a umask of 077", wrap=shell('umask 077; exec "$@"')),
    predicting(
        "from a folder that is gone", (0, 2, MACHINE), wrap=shell('mkdir gone; cd gone; rmdir ../gone; exec "$@"')
    ),
    training("with files of 8 kB at most", MACHINE, says=("new",), wrap=shell('ulimit -f 8; exec "$@"')),
    predicting("as a user without an entry", wrap=("unshare", "--user", "--map-user=54321"), needs=find_no_other_user),
    training("as a user without an entry", wrap=("unshare", "--user", "--map-user=54321"), needs=find_no_other_user),
]


def small_disk(name: str, lay_out: Callable[[Place], Sequence[str]], size: str, target: str, **rest: object) -> Case:
    """A command whose results go to a disk of a certain size."""
    mount = f'mkdir -p {target}; mount -t tmpfs -o size={size} tmpfs {target}; exec "$@"'
    says = ("(?i)no space left", *rest.pop("says", ()))
    return Case(name, lay_out, MACHINE, says=says, wrap=in_namespace(mount), needs=find_no_mounts, **rest)


def sharing(name: str, options: str, reason: str) -> Case:
    """A training whose worker processes cannot pass images on, for the options with which shared memory is mounted."""
    wrap = in_namespace(f'mount -t tmpfs -o {options} tmpfs /dev/shm; exec "$@"')
    says = (reason, "--workers 0")
    never_says = ("--out", "standard output")
    return Case(
        f"train with workers {name}", train_with_workers, MACHINE, says, never_says, wrap=wrap, needs=find_no_mounts
    )


SHARING = [
    sharing("and 256 kB of shared memory", "size=256k", "0 MiB of shared memory are free"),
    sharing("and a page of shared memory", "size=4k", "0 MiB of shared memory are free"),
    sharing("and shared memory that cannot be written to", "ro", "(?i)read-only"),
    Case(
        "train with workers and few open files",
        train_with_workers,
        MACHINE,
        says=("(?i)too many open files", "--workers"),
        wrap=shell('ulimit -n 12; exec "$@"'),
    ),
]


def redirect(words: Sequence[str], folder: str) -> list[str]:
    return [*words[:-1], f"{folder}/{words[-1]}"]


DISKS = [
    small_disk("train on a full disk", lambda p: redirect(train(p), "small"), "200k", "small", says=("small",)),
    small_disk("train on a disk of no space", lambda p: redirect(train(p), "small"), "4k", "small"),
    small_disk("predict on a full disk", lambda p: redirect(many_images(p), "small"), "300k", "small"),
    small_disk(
        "predict probabilities on a full disk",
        lambda p: redirect([*many_images(p)[:-2], "--probabilities", "--out", "out"], "small"),
        "300k",
        "small",
    ),
    *(
        small_disk(
            f"export to {format} on a full disk",
            lambda p, format=format, suffix=suffix: [
                "export",
                str(p.run),
                "--format",
                format,
                "--out",
                f"small/m{suffix}",
            ],
            "16k",
            "small",
        )
        for format, suffix in (("onnx", ".onnx"), ("openvino", ".xml"), ("pt2", ".pt2"))
    ),
    Case(
        "train on a disk that cannot be written to",
        lambda p: redirect(train(p), "small"),
        MACHINE,
        says=("(?i)read-only",),
        never_says=("(?i)free some space",),
        wrap=in_namespace('mkdir small; mount -t tmpfs -o ro tmpfs small; exec "$@"'),
        needs=find_no_mounts,
    ),
]


STARTED = has("new/metrics.csv")
STOPPED = {
    "code": INTERRUPTED,
    "says": ("--resume",),
    "makes": ("new/last.ckpt", "new/model.safetensors", "new/config.yaml"),
}
SIGNALS = [
    *(
        Case(f"{number.name} in a training", long_training, signals=((number, STARTED),), quick=quick, **STOPPED)
        for number, quick in ((signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGHUP, False))
    ),
    Case(
        "SIGKILL in a training",
        long_training,
        -9,
        signals=((signal.SIGKILL, STARTED),),
        makes=("new/last.ckpt", "new/config.yaml"),
    ),
    Case(
        "SIGINT in a prediction",
        many_images,
        INTERRUPTED,
        says=("(?i)labelled|done",),
        signals=((signal.SIGINT, lambda place: len(list(place.path.glob("out/*.png"))) > 9),),
        makes=("out/*.png",),
    ),
    Case("SIGTERM in a prediction", many_images, INTERRUPTED, signals=((signal.SIGTERM, has("out/*.png")),)),
    Case("SIGHUP in a prediction", many_images, INTERRUPTED, signals=((signal.SIGHUP, has("out/*.png")),)),
]


def over_two(case: Case) -> Case:
    """The same command in two processes, as a launcher starts them; its exit code is that of the first."""
    script = (
        "export WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=$((20000 + $$ % 20000)); "
        'RANK=1 "$@" & RANK=0 "$@"; code=$?; wait; exit $code'
    )
    codes = case.code if isinstance(case.code, tuple) else (case.code,)
    # Where it is the other one that fails, the first one says so.
    codes = (*codes, OTHER_FAILED) if MACHINE in codes else codes
    return replace(
        case, name=f"{case.name}, in two processes", code=codes, wrap=(*case.wrap, *shell(script)), quick=False
    )


ALONE = [*PREDICTIONS, *TRAININGS, *LANGUAGES, *STREAMS, *LIMITS, *DISKS, *SHARING, *SIGNALS]
TOGETHER = [*PREDICTIONS[:7], *TRAININGS, *LIMITS, *DISKS, *SHARING[:-1]]  # two of so few open files cannot even meet
IN_TWO = [over_two(case) for case in TOGETHER if "export" not in case.name]

CASES = [*ALONE, *IN_TWO]
