from __future__ import annotations

import dataclasses

import pytest
import torch

import atrous
from atrous.core.inference_options import Opening
from atrous.core.records import Note
from atrous.inference import precision
from atrous.inference.precision import choose_precision, computes_bf16
from atrous.networks.model_card import ModelCard
from atrous.networks.segmenter import Segmenter


@pytest.mark.parametrize(
    ("score", "score_bf16", "able", "expected"),
    [
        (0.65, 0.6495, True, "bf16"),
        (0.65, 0.66, True, "bf16"),
        (0.65, 0.6495, False, "fp32"),
        (0.65, 0.648, True, "fp32"),
        (0.65, None, True, "fp32"),
        (None, None, True, "fp32"),
        (0.65, float("nan"), True, "fp32"),
    ],
)
def test_bf16_is_taken_where_it_is_faster_and_known_to_be_as_good(
    tiny_card: ModelCard,
    monkeypatch: pytest.MonkeyPatch,
    score: float | None,
    score_bf16: float | None,
    able: bool,
    expected: str,
) -> None:
    monkeypatch.setattr(precision, "computes_bf16", lambda device_type: able)
    card = dataclasses.replace(tiny_card, score=score, score_bf16=score_bf16)
    assert choose_precision(card, "cpu") == expected


def test_who_names_a_precision_gets_it(
    tiny_network: Segmenter, tiny_card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "computes_bf16", lambda device_type: True)
    card = dataclasses.replace(tiny_card, score=0.5, score_bf16=0.5)
    said: list[str] = []
    assert atrous.Model(tiny_network, card).build_labeller(on_message=said.append).protocol.precision == "bf16"
    assert said == ["precision bf16: it scored 0.5000 in validation, 0.5000 in fp32"]
    assert atrous.Model(tiny_network, card).reopen(precision="fp32").build_labeller().protocol.precision == "fp32"
    assert atrous.Model(tiny_network, card, Opening(precision="fp32")).build_labeller().protocol.precision == "fp32"
    assert atrous.Model(tiny_network, tiny_card).build_labeller().protocol.precision == "fp32"


def test_a_device_that_is_unknown_or_limited_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    assert not computes_bf16("meta")
    assert computes_bf16("cpu") == bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    assert not computes_bf16("cpu")


def test_bf16_by_name_is_a_note_where_the_cpu_has_no_instructions_for_it(
    tiny_network: Segmenter, tiny_card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(named: str) -> list[str]:
        said: list[str] = []
        atrous.Model(tiny_network, tiny_card, Opening(precision=named)).build_labeller(on_message=said.append)
        return said

    for name, value in (("ATEN_CPU_CAPABILITY", "avx2"), ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            (note,) = build("bf16")
            assert isinstance(note, Note)
            assert note.code == "bf16-slow"
            assert "several times as long as in fp32" in note
            assert build("fp32") == build("auto") == []
    monkeypatch.setattr(precision, "computes_bf16", lambda device_type: True)
    assert build("bf16") == []
