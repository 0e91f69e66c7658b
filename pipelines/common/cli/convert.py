"""``convert`` and ``quantize``: a model of any format as a GGUF file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.common.cli.console import ConsoleProgress
from pipelines.common.cli.context import registry_of
from pipelines.common.cli.formatting import human_size
from pipelines.common.cli.options import Quiet, path_of
from pipelines.common.cli.streams import print_lines
from pipelines.common.errors import UsageError
from pipelines.common.registry.opening import found

if TYPE_CHECKING:
    from pipelines.common.conversion.wanted import Wanted
    from pipelines.common.conversion.write import Written

_MODEL = typer.Argument(
    parser=path_of("IN"),
    metavar="IN",
    help="A model: a file, a folder, or the name of one of the hub.",
)
_OUT = typer.Argument(parser=path_of("OUT"), metavar="OUT", help="A GGUF file that is new.")


def _writable(option: str) -> Callable[[str], str]:
    """Reads the name of an encoding that something writes."""

    def parse(name: str) -> str:
        from pipelines.common.conversion.wanted import REQUESTS, unknown_request

        if name not in REQUESTS:
            raise UsageError(f"{option} {unknown_request(name)}")
        return name

    return parse


def convert(
    ctx: typer.Context,
    model: Annotated[Path, _MODEL],
    out: Annotated[Path, _OUT],
    quiet: Quiet = False,
) -> None:
    """Write a model of any format as one GGUF file, its matrices as they are stored."""
    from pipelines.common.conversion.wanted import Wanted

    _write(ctx, model, out, Wanted(), quiet=quiet, check=False)


def quantize(
    ctx: typer.Context,
    model: Annotated[Path, _MODEL],
    out: Annotated[Path, _OUT],
    encoding: Annotated[
        str,
        typer.Option(
            parser=_writable("--encoding"),
            metavar="NAME",
            help="What matrices are written in: q4_0, q4_1, q5_0, q5_1, q8_0, f16 or bf16.",
        ),
    ],
    output_encoding: Annotated[
        str | None,
        typer.Option(
            parser=_writable("--output-encoding"),
            metavar="NAME",
            help="The same for embeddings and the output matrix; q8_0 by default, or f16 or bf16"
            " where that is the other.",
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Print the error and the size of every tensor.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Write a model of any format as a GGUF file in fewer bits.

    Norms, biases and what chooses experts are written in float32. Blocks that have no more bits
    than those that are asked for stay as they are.
    """
    from pipelines.common.conversion.wanted import Wanted

    _write(ctx, model, out, Wanted.named(encoding, output_encoding), quiet=quiet, check=check)


def _write(
    ctx: typer.Context, model: Path, out: Path, wanted: Wanted, *, quiet: bool, check: bool
) -> None:
    from pipelines.common.cache import Cache
    from pipelines.common.conversion.metadata import metadata_of_file
    from pipelines.common.conversion.write import check_free, write

    registry, progress = registry_of(ctx), ConsoleProgress(quiet=quiet)
    model = found(model, registry, progress)
    checkpoint = registry.opener(model)(model)
    check_free(out, checkpoint)
    cache = Cache.default(notice=progress.notice)
    metadata = metadata_of_file(checkpoint, wanted, cache, progress.notice, registry.tokenizer)
    written = write(checkpoint, out, metadata, wanted, progress, check=check)
    if check:
        print_lines(*_table(written))
    if losses := _losses(written):
        progress.notice(losses)
    progress.notice(_told(out, written, wanted))


def _told(out: Path, written: Sequence[Written], wanted: Wanted) -> str:
    """What was written, and why some matrices have other bits than those that were asked for."""
    from pipelines.common.conversion.wanted import OUTPUTS, is_matrix

    matrices = [each.tensor for each in written if is_matrix(each.tensor)]
    counts = Counter(tensor.encoding for tensor in matrices if tensor.name not in OUTPUTS)
    said = []
    for encoding, count in counts.most_common():
        kept = wanted.matrices not in (None, encoding)
        said.append(
            f"{count} {'matrix' if count == 1 else 'matrices'} {'kept ' * kept}in {encoding}"
            + ", which has no more bits" * kept
        )
    outputs = [tensor for tensor in matrices if tensor.name in OUTPUTS]
    if any(tensor.encoding not in counts for tensor in outputs):
        said += [f"{tensor.name} in {tensor.encoding}" for tensor in outputs]
        said[-1] += ", since an error there is one in every token"
    size = human_size(sum(each.tensor.nbytes for each in written))
    return f"wrote {out}, {size}: {', '.join(said) or 'no matrices'}"


def _losses(written: Sequence[Written]) -> str | None:
    """That blocks were made of other blocks; None where none were, or nothing is lost by it."""
    from pipelines.common.encodings import Q8_0

    anew = Counter(
        each.stored.encoding
        for each in written
        if each.stored.encoding.coded
        and each.tensor.encoding.coded
        and each.tensor.encoding != each.stored.encoding
        and not (each.tensor.encoding == Q8_0 and each.stored.encoding.exact_in_q8_0)
    )
    if not anew:
        return None
    kinds = ", ".join(f"{count} in {encoding}" for encoding, count in anew.most_common())
    return (
        f"matrices were in blocks already ({kinds}), so what is written has the errors of both; a"
        " file of the model in f16 or bf16 makes a better one"
    )


def _table(written: Sequence[Written]) -> list[str]:
    width = max((len(each.tensor.name) for each in written), default=0)
    lines = [f"{'tensor':<{width}}  {'from':>7}  {'to':>6}  {'size':>9}  relative error   largest"]
    for each in written:
        assert each.difference is not None
        lines.append(
            f"{each.tensor.name:<{width}}  {each.stored.encoding!s:>7}  {each.tensor.encoding!s:>6}"
            f"  {human_size(each.tensor.nbytes):>9}  {each.difference.relative:>14.6f}"
            f"  {each.difference.largest:.6f}"
        )
    return lines
