"""Makes the tensors that a lowered graph wants of the weights."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.common.graph.rules import LoweredWeight
from pipelines.common.targets.cpu import layouts
from pipelines.common.weights.source import WeightSource


def make_tensors(source: WeightSource, weights: Sequence[LoweredWeight]) -> dict[str, NDArray[Any]]:
    """The tensors by name; those of tied weights that are laid out alike share their memory."""
    made: dict[tuple[Hashable, str], NDArray[Any]] = {}
    tensors = {}
    for weight in weights:
        key = source.identity(weight.parameter), weight.layout.removesuffix("_by_row")
        if key not in made:
            made[key] = _make(source, weight)
        tensors[weight.name] = made[key].reshape(weight.shape)
    return tensors


def _make(source: WeightSource, weight: LoweredWeight) -> NDArray[Any]:
    """One tensor, mapped where the file holds it in that form already."""
    parameter = weight.parameter
    match weight.layout:
        case "float16":
            return source.raw(parameter).view(np.float16)
        case "float32":
            return source.float32(parameter)
        case "codes" | "codes_by_row":
            convert: Callable[..., NDArray[Any]] = layouts.codes
        case "scales":
            convert = layouts.scales
        case "offsets":
            convert = layouts.offsets
        case unknown:
            raise ValueError(f"no layout {unknown}")
    array = convert(source.encodings[parameter], source.raw(parameter))
    source.release(parameter)
    return array
