"""The weight table: which tensor of a file fills which parameter of a network."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import dropwhile
from typing import Literal, TypeAlias

from pipelines.common.checkpoints.checkpoint import Checkpoint
from pipelines.common.encodings import Encoding, advice
from pipelines.common.errors import ModelFileError, listed, quoted

Kind: TypeAlias = Literal["linear", "embedding", "head", "experts", "router", "vector"]
"""How a weight is used, which decides what it may run in."""


@dataclass(frozen=True)
class Weight:
    """One row of a weight table.

    Attributes:
        parameter: Name in the network.
        tensor: Name in the model file; a tied output matrix names the embedding's tensor.
        shape: Shape in the network, outermost dimension first.
        kind: ``linear`` and ``head`` are ``[out, in]``, ``embedding`` is ``[vocab, hidden]``;
            ``experts`` are several such matrices, ``[experts, out, in]``; a ``router``, the matrix
            that chooses among them, and a ``vector`` (norm weights, biases) always run in float32.
        rows: The rows of the tensor that it is, from the first to the one after the last; None for
            all. Weights of one tensor have to take all of its rows together.
    """

    parameter: str
    tensor: str
    shape: tuple[int, ...]
    kind: Kind
    rows: tuple[int, int] | None = None


def check_table(
    file: Checkpoint, table: Sequence[Weight], *, ignored: Collection[str] = ()
) -> None:
    """Checks that a file holds exactly the tensors of a table, in their shapes.

    Args:
        file: The model file.
        table: What the network needs.
        ignored: Tensors that the file may hold besides, because something else reads them.

    Raises:
        ModelFileError: Tensors are missing, have another shape, cannot be run, or are not known.
    """
    missing: list[str] = []
    misshaped: list[str] = []
    unsupported: dict[Encoding, list[str]] = {}
    shapes = tensor_shapes(table)
    for weight in table:
        info = file.tensors.get(weight.tensor)
        if info is None:
            missing.append(weight.tensor)
        elif _without_ones(info.shape) != _without_ones(shapes[weight.tensor]):
            expected = [*shapes[weight.tensor]]
            misshaped.append(f"{weight.tensor} is {[*info.shape]}, expected {expected}")
        elif not info.encoding.supported:
            unsupported.setdefault(info.encoding, []).append(weight.tensor)
    known = {weight.tensor for weight in table} | set(ignored)
    unexpected = [quoted(name) for name in file.tensors if name not in known]
    problems = [
        f"{what}: {listed(items)}"
        for what, items in (
            ("missing tensors", missing),
            ("tensors of the wrong shape", misshaped),
            ("unexpected tensors", unexpected),
        )
        if items
    ]
    problems += [f"{advice(of)} (here: {listed(items)})" for of, items in unsupported.items()]
    if problems:
        raise ModelFileError(f"{file.path}: does not fit the model: {'; '.join(problems)}")


def tensor_shapes(table: Sequence[Weight]) -> dict[str, tuple[int, ...]]:
    """The shapes that tensors have to have: of one of which there are parts, that of all of them.

    Args:
        table: What a network needs.

    Raises:
        ValueError: Parts of a tensor overlap, leave rows out, or are not of one width.
    """
    shapes = {weight.tensor: weight.shape for weight in table}
    parts: dict[str, list[Weight]] = {}
    for weight in table:
        if weight.rows is not None:
            parts.setdefault(weight.tensor, []).append(weight)
    for tensor, weights in parts.items():
        end = 0
        for rows, shape in sorted((w.rows, w.shape) for w in weights if w.rows is not None):
            if rows != (end, end + shape[0]) or shape[1:] != weights[0].shape[1:]:
                raise ValueError(f"the weight table takes {tensor} apart, but not row after row")
            end = rows[1]
        shapes[tensor] = (end, *weights[0].shape[1:])
    return shapes


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without outer dimensions of one, which ggml makes no difference by."""
    return tuple(dropwhile(lambda size: size == 1, shape))
