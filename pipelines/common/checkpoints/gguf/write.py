"""Writes what a checkpoint holds as a GGUF file, by the `gguf` package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.common.checkpoints.checkpoint import Checkpoint


def write_gguf(checkpoint: Checkpoint, path: Path) -> Path:
    """Writes metadata and tensors as they are; empty arrays are left out.

    Args:
        checkpoint: What to write; all of it is in memory meanwhile.
        path: Where to.

    Returns:
        The path.

    Raises:
        ModelFileError: A tensor's encoding is one that is only listed.
    """
    import gguf

    metadata = checkpoint.metadata
    writer = gguf.GGUFWriter(path, metadata.string("general.architecture"))
    for key in metadata:
        value = metadata[key]
        if key != "general.architecture" and value != []:
            writer.add_key_value(key, value, value_type(value))
    for name, tensor in checkpoint.tensors.items():
        kind = gguf.GGMLQuantizationType(tensor.encoding.ggml_type)
        raw = checkpoint.raw(name)
        writer.add_tensor(name, raw, (*tensor.shape[:-1], raw.shape[-1]), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def value_type(value: Any) -> Any:
    """The `GGUFValueType` that keeps a value of metadata exactly."""
    from gguf import GGUFValueType

    match value:
        case bool():
            return GGUFValueType.BOOL
        case int():
            return GGUFValueType.UINT32 if 0 <= value < 2**32 else GGUFValueType.INT64
        case float():
            return GGUFValueType.FLOAT64
        case str():
            return GGUFValueType.STRING
        case _:
            return GGUFValueType.ARRAY
