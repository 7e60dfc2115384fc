"""Odd arguments of public calls in Python: each is refused with a sentence, never with another package's error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

import atrous
from atrous import api
from odd_inputs.case import Place, draw_noise


@dataclass(frozen=True)
class Call:
    """A call with odd arguments.

    Args:
        name: What is odd.
        run: Makes the call.
        error: What it raises.
        says: A regular expression that the message contains.
        quick: Whether `make test` has it.
    """

    name: str
    run: Callable[[Place], object]
    error: type[atrous.AtrousError]
    says: str = ""
    quick: bool = True


def load(place: Place) -> atrous.Model:
    return atrous.load(place.run)


def predict(source: object) -> Callable[[Place], object]:
    return lambda place: list(load(place).predict(source))


class Floats(torch.utils.data.Dataset):
    """A plain data set of PyTorch."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.rand(3, 65, 65), torch.full((65, 65), -100)


Usage, Config, Data, Any = (atrous.UsageError, atrous.ConfigError, atrous.DataError, atrous.AtrousError)
CASES = [
    Call("load nothing", lambda _: atrous.load(None), Usage, "None|NoneType"),
    Call("load a number", lambda _: atrous.load(3), Usage, "int"),
    Call("load an empty name", lambda _: atrous.load(""), Usage, "path is empty"),
    Call("load a blank name", lambda _: atrous.load("  "), Usage, "path is empty"),
    Call("build from an empty name", lambda _: atrous.build(classes=2, weights=""), Usage, "weights is empty"),
    Call("predict an empty path", predict(""), Usage, "empty"),
    Call("predict a list of an empty path", predict([""]), Usage, "empty"),
    Call("label an empty path", lambda place: atrous.predict(["", "x"], place.run, "q"), Usage, "inputs is empty"),
    Call("label into an empty path", lambda place: atrous.predict(place.data, place.run, ""), Usage, "out is empty"),
    Call("train into an empty path", lambda place: atrous.train(place.data, out=""), Usage, "out is empty"),
    Call("train from empty weights", lambda place: atrous.train(place.data, weights=""), Config, "not empty"),
    Call("train below an empty root", lambda place: atrous.train(place.data, data_root=" "), Config, "not empty"),
    Call("continue an empty path", lambda _: atrous.train(resume=""), Usage, "resume is empty"),
    Call("bench into an empty path", lambda _: api.bench(["x"], [(33, 33)], out=""), Usage, "out is empty"),
    Call("calibrate by an empty path", lambda place: atrous.export(place.run, int8=True, calibrate=""), Usage, "empty"),
    Call("load a network", lambda _: atrous.load(nn.Conv2d(3, 2, 1)), Usage),
    Call("load on a device that does not exist", lambda place: atrous.load(place.run, device="tpu"), Any, "tpu"),
    Call("load in a precision that does not exist", lambda place: atrous.load(place.run, precision="fp8"), Any),
    Call("load with trust in words", lambda place: atrous.load(place.run, trust="yes"), Usage, "trust"),
    Call("build classes as a text", lambda _: atrous.build("deeplabv3-tiny", classes="a"), Usage, "classes"),
    Call("build no classes", lambda _: atrous.build("deeplabv3-tiny", classes=0), Config, "0"),
    Call("build fewer than none", lambda _: atrous.build("deeplabv3-tiny", classes=-3), Config),
    Call("build a half", lambda _: atrous.build("deeplabv3-tiny", classes=2.5), Usage, "classes"),
    Call("build what does not exist", lambda _: atrous.build("deeplabv3-tinny", classes=2), Config, "tiny"),
    Call("build nothing", lambda _: atrous.build(None, classes=2), Usage),
    Call("build an unknown option", lambda _: atrous.build("deeplabv3-tiny", classes=2, rate=3), Config),
    Call("build a stride of 7", lambda _: atrous.build("deeplabv3-tiny", classes=2, output_stride=7), Config, "7"),
    Call("predict nothing", predict(None), Usage),
    Call("predict a number", predict(3), Usage),
    Call("predict an empty array", predict(np.zeros((0, 0, 3), np.uint8)), Any),
    Call("predict an array of one dimension", predict(np.zeros(5, np.uint8)), Any),
    Call("predict an array of seven bands", predict(np.zeros((5, 5, 7), np.uint8)), Any),
    Call("predict floats of an array", predict(np.zeros((5, 5, 3))), Any, "float"),
    Call("predict complex numbers", predict(np.zeros((5, 5, 3), complex)), Any),
    Call("predict objects", predict(np.full((5, 5, 3), None)), Any),
    Call("predict a tensor of values above 1", predict(torch.full((3, 5, 5), 200.0)), Any, r"\[0, 1\]"),
    Call("predict a tensor of no numbers", predict(torch.full((3, 5, 5), float("nan"))), Any),
    Call("predict a tensor without data", predict(torch.zeros(3, 5, 5, device="meta")), Any),
    Call("predict bytes of no image", predict(b"no image"), Data),
    Call("predict a dictionary", predict({"image": 3}), Usage),
    Call("predict a path that is not there", predict("nowhere.png"), Usage, "nowhere.png"),
    Call("predict at scale 0", lambda place: load(place).predict(draw_noise((9, 9)), scales=(0,)), Config),
    Call("predict scales as a text", lambda place: load(place).predict(draw_noise((9, 9)), scales="big"), Any),
    Call("predict at stride 7", lambda place: load(place).predict(draw_noise((9, 9)), output_stride=7), Config),
    Call("confidence above 1", lambda place: load(place).predict(draw_noise((9, 9)), min_confidence=2.0), Usage),
    Call("train nothing", lambda _: atrous.train(None), Usage),
    Call("train one data set", lambda _: atrous.train((Floats(),)), Usage),
    Call("train plain data sets", lambda _: atrous.train((Floats(), Floats())), Usage),
    Call("train what is not there", lambda _: atrous.train("nowhere/"), Data, "nowhere"),
    Call("train settings as a text", lambda place: atrous.train(place.data, set="lr=3"), Usage, "set"),
    Call("train a setting without a name", lambda place: atrous.train(place.data, set={3: 4}), Any),
    Call("train a keyword that does not exist", lambda place: atrous.train(place.data, epoch=3), Config, "epoch"),
    Call("train for a text", lambda place: atrous.train(place.data, epochs="many"), Any, "epochs"),
    Call("evaluate a number", lambda place: atrous.evaluate(3, place.data), Usage),
    Call("evaluate on a number", lambda place: atrous.evaluate(place.run, 3), Usage),
    Call("evaluate on nothing there", lambda place: atrous.evaluate(place.run, "nowhere"), Data, "nowhere"),
    Call("export a number", lambda _: atrous.export(3), Usage),
    Call("export a form that does not exist", lambda place: atrous.export(place.run, format="tflite"), Any),
]
