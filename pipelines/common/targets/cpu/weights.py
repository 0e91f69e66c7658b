"""Makes the tensors that a lowered graph wants of the weights."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
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
        case "codes" | "codes_by_row":
            array: NDArray[Any] = layouts.codes(source.encodings[parameter], source.raw(parameter))
        case "scales":
            array = layouts.scales(source.encodings[parameter], source.raw(parameter))
        case "offsets":
            array = layouts.offsets(source.encodings[parameter], source.raw(parameter))
        case "float16":
            array = source.raw(parameter).view(np.float16)
        case "float32":
            array = source.float32(parameter)
        case unknown:
            raise ValueError(f"no layout {unknown}")
    return array
