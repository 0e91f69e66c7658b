"""``inspect``: what is in a model file."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.common.cache import Cache
from pipelines.common.cli.console import ConsoleProgress, say
from pipelines.common.cli.context import registry_of
from pipelines.common.cli.formatting import human_count, human_size
from pipelines.common.cli.memory import RunSize, memory, memory_lines
from pipelines.common.cli.options import AsJson, RunEncoding, path_of
from pipelines.common.cli.streams import print_json, print_lines
from pipelines.common.cli.wording import worded
from pipelines.common.errors import PipelineError
from pipelines.common.escapes import printable
from pipelines.common.registry.opening import found

if TYPE_CHECKING:
    from pipelines.common.checkpoints.checkpoint import Checkpoint
    from pipelines.common.checkpoints.tokenizer_source import TokenizerMaker

_SHOWN_ELEMENTS = 4
_SHOWN_CHARACTERS = 160


def inspect(
    ctx: typer.Context,
    model: Annotated[
        Path,
        typer.Argument(
            parser=path_of("MODEL"),
            metavar="MODEL",
            help="Model file, its folder, or an exported one.",
        ),
    ],
    max_length: Annotated[
        int | None,
        typer.Option(min=2, help="Tokens of a sequence, for the memory of a run."),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Sequences side by side, for the memory of a run.")
    ] = 1,
    quantization_encoding: RunEncoding = None,
    as_json: AsJson = False,
) -> None:
    """Show a model's metadata, tensors and tokenizer, and how much memory a run takes.

    Of an exported folder the digests are checked. The targets need not be able to run here.
    """
    from pipelines.common.export.manifest import is_exported

    registry = registry_of(ctx)
    model = found(model, registry, ConsoleProgress())
    size = RunSize(max_length, batch_size, quantization_encoding or "")
    if is_exported(model):
        _inspect_folder(model, memory(model, size, registry), as_json)
        return
    record = _describe(registry.opener(model)(model), registry.tokenizer)
    record["memory"] = memory(model, size, registry)
    if as_json:
        print_json(record)
    else:
        print_lines(*_for_people(record))


def _inspect_folder(folder: Path, memory_record: dict[str, Any], as_json: bool) -> None:
    """Reads all files of an exported folder, and shows what it says of itself."""
    from pipelines.common.export.manifest import check_digests, read_manifest

    manifest = read_manifest(folder)
    check_digests(folder, manifest, manifest.files)
    if as_json:
        print_json({"path": str(folder), **dataclasses.asdict(manifest), "memory": memory_record})
        return
    suggested = ", ".join(f"{name} {value}" for name, value in manifest.chat.sampling.items())
    shown = {
        "pipeline": manifest.pipeline,
        "target": manifest.target,
        "activations": manifest.activations,
        "made of": manifest.origin.path,
        "quantization encoding": manifest.origin.encoding,
        "sampling in a chat": suggested or "as without it",
        "op packages": ", ".join(manifest.op_packages) or "none",
        "versions": ", ".join(f"{name} {version}" for name, version in manifest.versions.items()),
    }
    lines = [f"{folder}: exported folder, format {manifest.format}", ""]
    lines += [f"  {name} = {value}" for name, value in shown.items()]
    lines += ["", f"Files ({len(manifest.files)}, each with the digest that it was exported with)"]
    width = max(map(len, manifest.files))
    for name, file in manifest.files.items():
        lines.append(f"  {name:<{width}}  {human_size(file.nbytes):>9}  {file.blake2b[:12]}")
    print_lines(*lines, "", *memory_lines(memory_record))


def _describe(file: Checkpoint, make: TokenizerMaker) -> dict[str, Any]:
    """Everything that is shown, as JSON values; long arrays are cut short."""
    elements: Counter[str] = Counter()
    nbytes: Counter[str] = Counter()
    tensors = []
    for name, info in file.tensors.items():
        encoding = str(info.encoding)
        elements[encoding] += math.prod(info.shape)
        nbytes[encoding] += info.nbytes
        tensors.append(
            {
                "name": name,
                "shape": list(info.shape),
                "encoding": encoding,
                "supported": info.encoding.supported,
                "bytes": info.nbytes,
            }
        )
    return {
        "path": str(file.path),
        "format": file.format,
        "metadata": {key: _abbreviated(file.metadata[key]) for key in file.metadata},
        "tokenizer": _tokenizer(file, make),
        "tensors": tensors,
        "totals": {
            "tensors": len(tensors),
            "parameters": elements.total(),
            "bytes": nbytes.total(),
            "by_encoding": {
                encoding: {"parameters": elements[encoding], "bytes": nbytes[encoding]}
                for encoding, _ in elements.most_common()
            },
        },
    }


def _tokenizer(file: Checkpoint, make: TokenizerMaker) -> dict[str, Any] | None:
    """The tokenizer in short, or why it cannot be used; None when there is none."""
    if not file.has_tokenizer:
        return None
    try:
        return file.tokenizer(Cache.default(notice=say), say, make).describe()
    except PipelineError as error:
        return {"unusable": worded(str(error))}


def _abbreviated(value: Any) -> Any:
    """A value of the metadata, short and in JSON's types."""
    if isinstance(value, list):
        first = [_abbreviated(element) for element in value[:_SHOWN_ELEMENTS]]
        return first if len(value) == len(first) else {"length": len(value), "first": first}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no infinities
    return value


def _for_people(record: dict[str, Any]) -> list[str]:
    totals = record["totals"]
    lines = [
        f"{record['path']}: {record['format']}, {human_count(totals['parameters'])} parameters, "
        f"{human_size(totals['bytes'])}",
        "",
        f"Metadata ({len(record['metadata'])})",
    ]
    for key, value in record["metadata"].items():
        lines.append(f"  {printable(key, _SHOWN_CHARACTERS)} = {_short(value)}")
    lines += ["", "Tokenizer"]
    for key, value in (record["tokenizer"] or {"none": "the file has no tokenizer"}).items():
        lines.append(f"  {key} = {_short(value)}")
    lines += ["", f"Tensors ({totals['tensors']})"]
    names = [printable(tensor["name"], _SHOWN_CHARACTERS) for tensor in record["tensors"]]
    width = max(map(len, names), default=0)
    wide = max((len(tensor["encoding"]) for tensor in record["tensors"]), default=0)
    for name, tensor in zip(names, record["tensors"], strict=True):
        shape = " x ".join(map(str, tensor["shape"]))
        note = "" if tensor["supported"] else "  (cannot be run)"
        size = human_size(tensor["bytes"])
        encoding = f"{tensor['encoding']:<{wide}}"
        lines.append(f"  {name:<{width}}  {shape:>15}  {encoding}  {size:>9}{note}")
    lines += ["", "Totals"]
    for encoding, total in totals["by_encoding"].items():
        count, size = human_count(total["parameters"]), human_size(total["bytes"])
        lines.append(f"  {encoding:<{wide}}  {count:>9} parameters  {size:>9}")
    return [*lines, "", *memory_lines(record["memory"])]


def _short(value: Any) -> str:
    """A value on one line, in JSON, cut where it gets long."""
    if isinstance(value, dict) and set(value) == {"length", "first"}:
        return f"{value['length']} elements: {_short(value['first'])[:-1]}, ...]"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
