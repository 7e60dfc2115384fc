from __future__ import annotations

import json

import pytest

from atrous.core.inputs import PHOTO, ImageForm, InputSpec

SATELLITE = ImageForm((3, 2, 1, 4, 5), "uint16", (0.0, 10_000.0), page=2)


def test_satellite_bands_are_an_input_too():
    spec = InputSpec((0.1,) * 5, (0.2,) * 5, SATELLITE)
    assert spec.channels == 5
    assert spec.stored_mean == (1000.0,) * 5
    assert SATELLITE.visible_bands == (0, 1, 2)
    assert SATELLITE.describe() == "5 bands of uint16"
    assert not SATELLITE.is_photo


def test_a_photo_is_what_published_weights_expect():
    assert PHOTO.is_photo
    assert ImageForm(page=3).is_photo
    assert not ImageForm("grey").is_photo
    assert (ImageForm("grey").channels, ImageForm("grey").visible_bands) == (1, (0,))


@pytest.mark.parametrize("form", [PHOTO, SATELLITE, ImageForm("grey", "float32", (-1.0, 1.0))])
def test_a_form_survives_json(form):
    assert ImageForm.from_json(json.loads(json.dumps(form.to_json()))) == form


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dtype": "int64"}, "uint8, uint16, float32"),
        ({"value_range": (1.0, 1.0)}, "must rise"),
        ({"value_range": (float("nan"), 1.0)}, "must rise"),
        ({"bands": ()}, "one or more"),
        ({"bands": (-1,)}, "from 0"),
        ({"bands": "bgr"}, "rgb, grey or numbers"),
        ({"page": 0}, "from 1"),
    ],
)
def test_forms_out_of_range_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ImageForm(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mean": (0.5,), "std": (0.5, 0.5)}, "one number per band"),
        ({"mean": (), "std": ()}, "one number per band"),
        ({"std": (0.1, 0.0, 0.1)}, "std above 0"),
        ({"form": SATELLITE}, "5 bands of uint16 need 5"),
    ],
)
def test_contradictions_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        InputSpec(**fields)
