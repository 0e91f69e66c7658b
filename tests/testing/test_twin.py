"""A twin that is none is told, and why."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from pipelines.testing import (
    CheckFailedError,
    Subject,
    check_twin,
    gguf_names,
    twin_numbers,
)

SUBJECT = Subject.of("llama3", seed=5)


def twin(**numbers: object) -> LlamaForCausalLM:
    return LlamaForCausalLM(LlamaConfig(**{**twin_numbers(SUBJECT), **numbers}))


def test_a_twin() -> None:
    assert check_twin(SUBJECT, twin(), allowed=1e-5).startswith("largest error")


def test_a_twin_with_names_of_the_authors_own() -> None:
    known = gguf_names("llama", 2)

    def names(parameter: str) -> str | None:
        return known(parameter.replace("lm_head", "output"))

    check_twin(SUBJECT, twin(), names, allowed=1e-5)


def test_a_tied_twin() -> None:
    tied = Subject.of("llama3", config={"tied": True})
    model = LlamaForCausalLM(LlamaConfig(**twin_numbers(tied)))
    check_twin(tied, model, allowed=1e-5)


def test_a_twin_on_a_model_file(tmp_path: Path) -> None:
    check_twin(SUBJECT.at(SUBJECT.write(tmp_path / "model.gguf")), twin(), allowed=1e-5)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"rms_norm_eps": 0.1}, r"largest error \d\.\de.\d+, 1e-04 allowed"),
        ({"num_hidden_layers": 1}, "the twin has nothing for blk.1.attn_k.weight, blk.1.attn_n"),
        ({"attention_bias": True}, "self_attn.q_proj.bias is blk.0.attn_q.bias, which is not"),
        (
            {"intermediate_size": 64},
            r"blk.0.ffn_gate.weight is \[96, 64\], and the twin's .* \[64,",
        ),
    ],
)
def test_what_is_not_the_same(numbers: dict[str, object], message: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(CheckFailedError, match=message):
        check_twin(SUBJECT, twin(**numbers))


def test_names_that_nobody_knows() -> None:
    with pytest.raises(CheckFailedError, match="gguf knows no architecture 'mine'; say what"):
        gguf_names("mine", 2)
    with pytest.raises(CheckFailedError, match=r"gguf has no name for model\.oddity; say"):
        gguf_names("llama", 2)("model.oddity")
