"""What the neutral operators mean, against independent computations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.llama.modeling_llama import (
    LlamaRMSNorm,
    apply_rotary_pos_emb,
    repeat_kv,
)

from pipelines.common import ops
from pipelines.common.ops import OPERATORS, Spec, neutral_operator

HEADS, KV_HEADS, HEAD_DIM, CAPACITY = 4, 2, 8, 12


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def angles() -> tuple[Tensor, Tensor]:
    """Tables for twenty positions."""
    frequencies = 100.0 ** -torch.linspace(0, 1, HEAD_DIM // 2)
    table = torch.arange(20)[:, None] * frequencies
    return table.cos(), table.sin()


def attention_arguments(
    sequence: int, past: list[int], total: list[int], value_dim: int = HEAD_DIM
) -> tuple[Any, ...]:
    """Random ones; nothing in the state is zero, so that reading too far shows."""
    batch = len(past)
    return (
        torch.randn(batch, sequence, HEADS * HEAD_DIM),
        torch.randn(batch, sequence, KV_HEADS * HEAD_DIM),
        torch.randn(batch, sequence, KV_HEADS * value_dim),
        torch.randn(batch, KV_HEADS, CAPACITY, HEAD_DIM),
        torch.randn(batch, KV_HEADS, CAPACITY, value_dim),
        torch.tensor(past, dtype=torch.int32),
        torch.tensor(total, dtype=torch.int32),
        HEAD_DIM,
        HEAD_DIM**-0.5,
    )


def rope_arguments(interleaved: int) -> tuple[Any, ...]:
    x = torch.randn(2, 3, HEADS * HEAD_DIM)
    return x, torch.tensor([0, 7], dtype=torch.int32), *angles(), HEAD_DIM, interleaved


def test_linear() -> None:
    x, weight = torch.randn(2, 3, 8), torch.randn(5, 8)
    torch.testing.assert_close(ops.linear(x, weight), torch.einsum("bsk,nk->bsn", x, weight))


def test_embedding() -> None:
    tokens, weight = torch.tensor([[3, 0], [1, 3]]), torch.randn(4, 8)
    assert torch.equal(ops.embedding(tokens, weight), weight[tokens])


def test_silu() -> None:
    x = torch.linspace(-20, 20, 101)
    torch.testing.assert_close(ops.silu(x), x / (1 + torch.exp(-x)))


def test_rms_norm() -> None:
    reference = LlamaRMSNorm(16, eps=1e-2)
    reference.weight.data.uniform_(0.5, 1.5)
    x = torch.randn(2, 3, 16)
    torch.testing.assert_close(ops.rms_norm(x, reference.weight, 1e-2), reference(x))


def rotated_by_transformers(x: Tensor, past: list[int]) -> Tensor:
    """What `transformers` makes of ``[batch, sequence, heads * head_dim]``, halves paired."""
    heads = x.unflatten(-1, (-1, HEAD_DIM)).transpose(1, 2)
    positions = torch.tensor(past)[:, None] + torch.arange(x.shape[1])
    cos, sin = (torch.cat([table[positions]] * 2, dim=-1) for table in angles())
    rotated, _ = apply_rotary_pos_emb(heads, heads, cos, sin)
    return rotated.transpose(1, 2).flatten(-2)


def test_rope_of_halves() -> None:
    x, past, *rest = rope_arguments(interleaved=0)
    torch.testing.assert_close(ops.rope(x, past, *rest), rotated_by_transformers(x, past.tolist()))


def test_rope_of_neighbours() -> None:
    """Neighbours are halves in another order: reorder, let `transformers` rotate, reorder back."""
    x, past, *rest = rope_arguments(interleaved=1)
    evens_then_odds = torch.cat([torch.arange(0, HEAD_DIM, 2), torch.arange(1, HEAD_DIM, 2)])
    order = torch.cat([head * HEAD_DIM + evens_then_odds for head in range(HEADS)])
    expected = torch.empty_like(x)
    expected[..., order] = rotated_by_transformers(x[..., order], past.tolist())
    torch.testing.assert_close(ops.rope(x, past, *rest), expected)


@pytest.mark.parametrize(
    ("sequence", "past", "total"),
    [
        (5, [0, 0], [5, 5]),
        (1, [4, 9], [5, 10]),
        (3, [0, 6], [3, 9]),
        (4, [0, 5], [2, 9]),  # the first row is padded by two
        (CAPACITY, [0], [CAPACITY]),
    ],
    ids=["prompt", "step", "on top", "ragged", "full"],
)
@pytest.mark.parametrize("value_dim", [HEAD_DIM, 3, 24], ids="values of {}".format)
def test_attention(sequence: int, past: list[int], total: list[int], value_dim: int) -> None:
    """Row by row, without a state: over the concatenation of what came before and what is new."""
    arguments = attention_arguments(sequence, past, total, value_dim)
    query, key, value, past_key, past_value = arguments[:5]
    mixed, new_key, new_value = ops.attention(
        *arguments, value_dim=0 if value_dim == HEAD_DIM else value_dim
    )

    for row, (start, stop) in enumerate(zip(past, total, strict=True)):
        new = stop - start
        keys, values = (
            torch.cat(
                [old[row, :, :start], x[row, :new].unflatten(-1, (-1, width)).transpose(0, 1)],
                dim=1,
            )
            for old, x, width in ((past_key, key, HEAD_DIM), (past_value, value, value_dim))
        )
        assert torch.equal(new_key[row, :, :stop], keys)
        assert torch.equal(new_value[row, :, :stop], values)

        queries = query[row, :new].unflatten(-1, (-1, HEAD_DIM)).transpose(0, 1)
        visible = torch.ones(new, stop, dtype=torch.bool).tril(diagonal=start)
        expected = F.scaled_dot_product_attention(
            queries[None],
            repeat_kv(keys[None], HEADS // KV_HEADS),
            repeat_kv(values[None], HEADS // KV_HEADS),
            attn_mask=visible,
        )
        torch.testing.assert_close(mixed[row, :new], expected[0].transpose(0, 1).flatten(-2))


def test_attention_leaves_its_inputs_alone() -> None:
    arguments = attention_arguments(2, [0, 3], [2, 5])
    before = [x.clone() for x in arguments[:7]]
    ops.attention(*arguments)
    assert all(torch.equal(x, y) for x, y in zip(arguments[:7], before, strict=True))


def test_select_takes_each_row_of_the_batch_by_itself() -> None:
    x = torch.arange(24.0).reshape(2, 4, 3)
    chosen = ops.select(x, torch.tensor([[3, 0], [1, 1]]))
    torch.testing.assert_close(chosen, torch.stack([x[0, [3, 0]], x[1, [1, 1]]]))


def experts_arguments() -> tuple[Tensor, ...]:
    """Vectors, logits and three stacks."""
    stacks = torch.randn(4, 5, 8), torch.randn(4, 5, 8), torch.randn(4, 8, 5)
    return torch.randn(2, 3, 8), torch.randn(2, 3, 4), *stacks


@pytest.mark.parametrize("normalize", [0, 1])
@pytest.mark.parametrize("routing", ["softmax_topk", "sigmoid", "topk_softmax"])
def test_experts(routing: str, normalize: int) -> None:
    x, logits, gate, up, down = experts_arguments()
    mixed = ops.experts(x, logits, gate, up, down, 2, routing, normalize, 0.5)
    for b in range(2):
        for s in range(3):
            used = sorted(range(4), key=lambda i: -logits[b, s, i])[:2]
            weights = {
                "softmax_topk": logits[b, s].softmax(-1)[used],
                "sigmoid": logits[b, s, used].sigmoid(),
                "topk_softmax": logits[b, s, used].softmax(-1),
            }[routing]
            weights = 0.5 * (weights / weights.sum() if normalize else weights)
            expected = torch.zeros(8)
            for weight, i in zip(weights, used, strict=True):
                inner = F.silu(gate[i] @ x[b, s]) * (up[i] @ x[b, s])
                expected += weight * (down[i] @ inner)
            torch.testing.assert_close(mixed[b, s], expected)


def test_of_equal_logits_the_first_are_chosen() -> None:
    x, logits, *stacks = experts_arguments()
    equal = ops.experts(x, torch.zeros_like(logits), *stacks, 2, "topk_softmax", 0, 1.0)
    told = torch.tensor([0.0, 0.0, -50.0, -50.0]).expand_as(logits)
    torch.testing.assert_close(
        equal, ops.experts(x, told, *stacks, 2, "topk_softmax", 0, 1.0), atol=0, rtol=0
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"used": 5}, "5 of 4 experts cannot be used"),
        ({"routing": "random"}, "no routing is called 'random'; expected softmax_topk, "),
        ({"logits": Spec((2, 3, 5))}, "vectors of 8 and 5 logits do not go with experts"),
        ({"down": Spec((4, 5, 8))}, "do not go with experts"),
        ({"up_bias": Spec((4, 6))}, "biases of None, .* expected none, or"),
    ],
)
def test_experts_that_do_not_go_together(change: dict[str, Any], message: str) -> None:
    names = ("x", "logits", "gate", "up", "down")
    given = dict(zip(names, map(spec, experts_arguments()), strict=True))
    numbers = {"used": 2, "routing": "sigmoid", "normalize": 1, "scale": 1.0}
    with pytest.raises(ValueError, match=message):
        OPERATORS["Experts"].specs({**given, **numbers, **change})


EXAMPLES: dict[str, Callable[[], tuple[Any, ...]]] = {
    "Linear": lambda: (torch.randn(2, 3, 8), torch.randn(5, 8)),
    "Embedding": lambda: (torch.tensor([[1, 0, 3]]), torch.randn(4, 8)),
    "RMSNorm": lambda: (torch.randn(2, 3, 8), torch.randn(8), 1e-5),
    "SiLU": lambda: (torch.randn(2, 3),),
    "Experts": lambda: (*experts_arguments(), 2, "softmax_topk", 1, 1.0),
    "Select": lambda: (torch.randn(2, 4, 8), torch.tensor([[3], [0]])),
    "RoPE": lambda: rope_arguments(interleaved=1),
    "Attention": lambda: attention_arguments(3, [0, 2], [3, 5]),
    "SelfAttention": lambda: (*(torch.randn(2, 3, 8) for _ in range(3)), 4, 0.5),
    "GELU": lambda: (torch.randn(2, 3), 1),
    "LayerNorm": lambda: (torch.randn(2, 3, 8), torch.randn(8), torch.randn(8), 1e-5),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_shape_rule_tells_the_outputs_of_the_reference(name: str) -> None:
    operator, arguments = OPERATORS[name], EXAMPLES[name]()
    outputs = operator.call(*arguments)
    outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
    given = [spec(x) if isinstance(x, Tensor) else x for x in arguments]
    given += [operator.defaults[name] for name in operator.parameters[len(given) :]]
    told = operator.specs(dict(zip(operator.parameters, given, strict=True)))
    assert tuple(map(spec, outputs)) == tuple(told)


def spec(tensor: Tensor) -> Spec:
    return Spec(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))


def test_a_name_is_declared_once() -> None:
    with pytest.raises(ValueError, match="SiLU is declared twice"):
        neutral_operator("SiLU", lambda x: x)(lambda x: x)
