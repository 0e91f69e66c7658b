"""Makes the tensors that a lowered graph wants of the weights."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.common.errors import OpPackageError
from pipelines.common.graph.rules import LAYOUTS, LoweredWeight
from pipelines.common.op_packages.package import Layout, LoadedPackage
from pipelines.common.targets.cpu import layouts
from pipelines.common.weights.source import WeightSource

_LAYOUTS: Mapping[str, Layout] = {
    "codes": layouts.codes,
    "codes_by_row": layouts.codes,
    "scales": layouts.scales,
    "offsets": layouts.offsets,
}


def make_tensors(
    source: WeightSource,
    weights: Sequence[LoweredWeight],
    packages: Sequence[LoadedPackage] = (),
) -> dict[str, NDArray[Any]]:
    """The tensors by name; those of tied weights that are laid out alike share their memory.

    Where the file holds a tensor in the wanted form already, it is a view of the mapped file.

    Args:
        source: The weights.
        weights: What is wanted.
        packages: Op packages, whose layouts may be wanted.

    Raises:
        OpPackageError: There is no layout of that name, or it makes something else than its rule
            said.
    """
    of_packages = {package.name: package.contents.layouts for package in packages}
    made: dict[tuple[Hashable, object], NDArray[Any]] = {}
    tensors = {}
    for weight in weights:
        layout = _layout(weight, of_packages)
        key = source.identity(weight.parameter), layout
        if key not in made:
            made[key] = _make(source, weight, layout)
        tensors[weight.name] = _as_declared(weight, made[key])
    return tensors


def _layout(weight: LoweredWeight, of_packages: Mapping[str, Mapping[str, Layout]]) -> Layout | str:
    """The function that lays a weight out, or one of `LAYOUTS`."""
    if weight.layout in LAYOUTS:
        return weight.layout
    found = of_packages.get(weight.package, {}).get(weight.layout) or _LAYOUTS.get(weight.layout)
    if found is None:
        raise OpPackageError(
            f"op package '{weight.package}' wants {weight.parameter} as '{weight.layout}', a layout"
            " that neither it nor the cpu target has"
        )
    return found


def _make(source: WeightSource, weight: LoweredWeight, layout: Layout | str) -> NDArray[Any]:
    parameter = weight.parameter
    if layout == "float32":
        return source.float32(parameter)
    if isinstance(layout, str):
        return source.raw(parameter)
    array = layout(source.encodings[parameter], source.raw(parameter))
    source.release(parameter)
    return array


def _as_declared(weight: LoweredWeight, array: NDArray[Any]) -> NDArray[Any]:
    """The array in the form that the graph expects."""
    dtype = np.dtype(weight.dtype)
    if weight.layout in LAYOUTS:
        array = array.view(dtype)
    if array.size * array.itemsize != weight.nbytes or array.dtype != dtype:
        raise OpPackageError(
            f"layout '{weight.layout}' of op package '{weight.package}' made {array.dtype}"
            f" {list(array.shape)} of {weight.parameter}; its rule declares {dtype}"
            f" {list(weight.shape)}"
        )
    return np.ascontiguousarray(array).reshape(weight.shape)
