"""The weights of an example, in a model file as they are in a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
from numpy.typing import NDArray

from pipelines.common.cache import Cache
from pipelines.common.checkpoints.gguf.reader import open_gguf
from pipelines.common.checkpoints.table import Weight
from pipelines.common.encodings import F32, Encoding
from pipelines.common.encodings.convert import encoded
from pipelines.common.program.weights import WeightSource

Array = NDArray[Any]


def fits(values: Array, encoding: Encoding) -> bool:
    """Whether rows are whole blocks of an encoding; vectors always run in float32."""
    if values.ndim == 1:
        return encoding == F32
    return values.shape[-1] % encoding.block_size == 0


def weight_file(
    path: Path, weights: Mapping[str, Array], encodings: Mapping[str, Encoding]
) -> WeightSource:
    """Writes weights to a GGUF file and opens it.

    Args:
        path: The file.
        weights: Vectors, matrices and stacks of matrices of float32, by name.
        encodings: What each is to be in.
    """
    writer = gguf.GGUFWriter(path, "check")
    table = []
    for name, values in weights.items():
        encoding = encodings[name]
        if values.ndim == 1:
            writer.add_tensor(name, values)
        else:
            kind = gguf.GGMLQuantizationType(encoding.ggml_type)
            writer.add_tensor(name, encoded(values, encoding), raw_dtype=kind)
        table.append(Weight(name, name, values.shape, "vector" if values.ndim == 1 else "linear"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return WeightSource(open_gguf(path), table, "auto", Cache.default(), warn=lambda _: None)
