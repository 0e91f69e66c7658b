"""The weights of a lowered graph in one file beside it: ONNX calls that external data.

Source: https://github.com/onnx/onnx/blob/main/docs/ExternalData.md
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from pipelines.common.graph.rules import PLACEHOLDER
from pipelines.common.program.tensors import Made

if TYPE_CHECKING:
    import onnx

ALIGNMENT = 4096
"""Tensors start at multiples of it, so that they can be mapped."""


@dataclass(frozen=True)
class Place:
    """Where a tensor is in its file.

    Attributes:
        offset: Bytes from the start of the file.
        nbytes: Bytes that it takes.
    """

    offset: int
    nbytes: int


def write_tensors(made: Iterator[Made], file: BinaryIO) -> dict[str, Place]:
    """Writes tensors one after another, as they are made; those that share memory once.

    Args:
        made: As `graph.tensors.make_tensors` makes them.
        file: Where they go, from its current position on.

    Returns:
        The place of each, by name.

    Raises:
        OSError: The file cannot be written.
    """
    places = {}
    end = file.tell()
    for weights, array in made:
        padding = -end % ALIGNMENT
        file.write(bytes(padding))
        file.write(array.reshape(-1).view(np.uint8).data)  # bfloat16 has no buffer of its own
        place = Place(end + padding, array.nbytes)
        places.update(dict.fromkeys((weight.name for weight in weights), place))
        end = place.offset + place.nbytes
    return places


def placed(
    model: bytes, places: Mapping[str, Place], file_name: str, *, constant: bool = False
) -> bytes:
    """A lowered graph that takes its weights from a file.

    Constants refer to their places in it. So do the weights that are inputs: each gets an
    initializer of its name, the value it has where nothing else is fed. A runtime maps it, and
    packs no copy of it, since it is not constant.

    Args:
        model: The graph, as in `LoweredGraph.model`.
        places: The place of every weight; of tensors that are no part of the graph too.
        file_name: The file's name, in the folder that the graph will be in.
        constant: Whether those that are inputs become constants as well.
    """
    import onnx

    proto = onnx.load_from_string(model)
    graph = proto.graph
    for tensor in graph.initializer:
        if any(entry.value == PLACEHOLDER for entry in tensor.external_data):
            _refer(tensor, places[tensor.name], file_name)
    for value in list(graph.input):
        if value.name in places:
            kind = value.type.tensor_type
            tensor = graph.initializer.add(name=value.name, data_type=kind.elem_type)
            tensor.dims.extend(dimension.dim_value for dimension in kind.shape.dim)
            _refer(tensor, places[value.name], file_name)
            if constant:
                graph.input.remove(value)
    return bytes(proto.SerializeToString())


def _refer(tensor: onnx.TensorProto, place: Place, file_name: str) -> None:
    tensor.data_location = tensor.EXTERNAL
    del tensor.external_data[:]
    entries = {"location": file_name, "offset": place.offset, "length": place.nbytes}
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
