"""Makes the tensors that a lowered graph wants of the weights."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.common.encodings import BF16, F16
from pipelines.common.errors import OpPackageError
from pipelines.common.graph.rules import LAYOUTS, LoweredWeight, element_type
from pipelines.common.program.package import Layout, LoadedPackage
from pipelines.common.program.weights import WeightSource

Made = tuple[Sequence[LoweredWeight], NDArray[Any]]
"""Tensors that share their memory, each in a shape of its own, and that memory."""


def make_tensors(
    source: WeightSource,
    weights: Sequence[LoweredWeight],
    layouts: Mapping[str, Layout],
    packages: Sequence[LoadedPackage] = (),
) -> Iterator[Made]:
    """Makes one tensor after the other; those of tied weights that are laid out alike are one.

    Where the file holds a tensor in the wanted form already, it is a view of the mapped file.

    Args:
        source: The weights.
        weights: What is wanted.
        layouts: The target's, by name.
        packages: Op packages, whose layouts may be wanted.

    Raises:
        OpPackageError: There is no layout of that name, or it makes something else than its rule
            said.
    """
    of_packages = {package.name: package.contents.layouts for package in packages}
    alike: dict[Hashable, list[LoweredWeight]] = {}
    for weight in weights:
        layout = _layout(weight, of_packages, layouts)
        key = source.identity(weight.parameter), weight.rows, layout, weight.dtype
        alike.setdefault(key, []).append(weight)
    for wanted in alike.values():
        array = _make(source, wanted[0], _layout(wanted[0], of_packages, layouts))
        for weight in wanted:
            _check(weight, array)
        yield wanted, np.ascontiguousarray(array)


def identity(source: WeightSource, weight: LoweredWeight) -> Hashable:
    """Equal for tensors that are made of the same weight, and laid out alike."""
    of, laid_out = source.identity(weight.parameter), (weight.package, weight.layout)
    return of, weight.rows, laid_out, weight.dtype


def named(made: Iterator[Made]) -> dict[str, NDArray[Any]]:
    """All tensors by name, in their shapes."""
    return {
        weight.name: array.reshape(weight.shape) for weights, array in made for weight in weights
    }


def _layout(
    weight: LoweredWeight,
    of_packages: Mapping[str, Mapping[str, Layout]],
    layouts: Mapping[str, Layout],
) -> Layout | str:
    """The function that lays a weight out, or one of `LAYOUTS`."""
    if weight.layout in LAYOUTS:
        return weight.layout
    found = of_packages.get(weight.package, {}).get(weight.layout) or layouts.get(weight.layout)
    if found is None:
        raise OpPackageError(
            f"op package '{weight.package}' wants {weight.parameter} as '{weight.layout}', a layout"
            " that neither it nor the target has"
        )
    return found


def _make(source: WeightSource, weight: LoweredWeight, layout: Layout | str) -> NDArray[Any]:
    parameter, dtype = weight.parameter, element_type(weight.dtype)
    if isinstance(layout, str):
        return _values(source, weight, layout).view(dtype)
    array = layout(source.encodings[parameter], source.raw(parameter, weight.rows))
    source.release(parameter)
    if not weight.package and array.dtype.kind == "f":
        array = array.astype(dtype, copy=False)  # layouts of targets make scales in float32
    return array


def _values(source: WeightSource, weight: LoweredWeight, layout: str) -> NDArray[Any]:
    """A weight in one of `LAYOUTS`; where it runs in that already, it is a view of the file."""
    part = (weight.parameter, weight.rows)
    if layout == "float32":
        return source.float32(*part)
    runs_in = {"float16": F16, "bfloat16": BF16}.get(layout)
    if runs_in is None or source.encodings[weight.parameter] == runs_in:
        return source.raw(*part)
    return source.float32(*part).astype(element_type(layout))


def _check(weight: LoweredWeight, array: NDArray[Any]) -> None:
    """Makes sure that a layout has made what its rule declares."""
    if not isinstance(array, np.ndarray):
        raise OpPackageError(
            f"layout '{weight.layout}' of op package '{weight.package}' made a"
            f" {type(array).__name__} of {weight.parameter}; expected an array"
        )
    dtype = element_type(weight.dtype)
    if array.size * array.itemsize != weight.nbytes or array.dtype != dtype:
        raise OpPackageError(
            f"layout '{weight.layout}' of op package '{weight.package}' made {array.dtype}"
            f" {list(array.shape)} of {weight.parameter}; its rule declares {dtype}"
            f" {list(weight.shape)}"
        )
