"""``graph``: what is built for a model, before and after lowering."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.common.cli.console import ConsoleProgress
from pipelines.common.cli.context import registry_of
from pipelines.common.cli.graph_report import report
from pipelines.common.cli.grouping import Without, grouped_options
from pipelines.common.cli.models import with_model
from pipelines.common.cli.options import AsJson, ModelToBuild, PipelineName, Quiet, path_of
from pipelines.common.cli.streams import binary_stdout, is_stdout, print_json, print_lines
from pipelines.common.errors import UsageError
from pipelines.common.files import write_output

if TYPE_CHECKING:
    import onnx_ir as ir

    from pipelines.common.graph.rules import LoweredGraph
    from pipelines.common.program.target import Deployment
    from pipelines.common.view.anatomy import Anatomy

_CONTEXT = 1024
_BANDWIDTH = 100e9


@dataclass(frozen=True)
class GraphFiles:
    """Where the graph goes, beside what is printed."""

    svg: Annotated[
        Path | None,
        typer.Option(parser=path_of("--svg"), metavar="FILE", help="Draw the graph."),
    ] = None
    onnx: Annotated[
        Path | None,
        typer.Option(
            parser=path_of("--onnx"),
            metavar="FILE",
            help="Write the lowered graph for Netron, without weights.",
        ),
    ] = None
    neutral_onnx: Annotated[
        Path | None,
        typer.Option(
            parser=path_of("--neutral-onnx"),
            metavar="FILE",
            help="Write the graph before lowering, likewise.",
        ),
    ] = None

    def write(
        self,
        title: str,
        graphs: Mapping[str, Anatomy],
        neutral: ir.Model | None,
        lowered: LoweredGraph,
    ) -> None:
        """Writes what was asked for."""
        if self.svg is not None:
            from pipelines.common.view.drawing import draw

            _write(self.svg, draw(title, graphs).encode())
        if self.onnx is not None:
            _write(self.onnx, lowered.model)
        if neutral is not None and self.neutral_onnx is not None:
            import onnx_ir as ir

            _write(self.neutral_onnx, ir.to_proto(neutral).SerializeToString())


@grouped_options
def show_graph(
    ctx: typer.Context,
    pipeline: PipelineName,
    model: Annotated[ModelToBuild, Without("tokenizer_path", "pack_cache")],
    *,
    context: Annotated[
        int | None,
        typer.Option(
            min=2,
            help=f"Tokens in the KV state; by default {_CONTEXT}, or the model's context if that"
            " is less.",
            show_default=False,
        ),
    ] = None,
    files: GraphFiles,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show what is built for a model on a target.

    That is operators, bytes and FLOPs for a token, before lowering and after it. A target that is
    named need not be able to run here.
    """
    from pipelines.common.cli.graph_model import open_graph_model
    from pipelines.common.export.manifest import target_for
    from pipelines.common.registry.target_choice import choose_to_build

    registry = registry_of(ctx)
    progress = ConsoleProgress(quiet=quiet)
    model = with_model(model, registry, progress)
    target = target_for(model.model_path, model.target, registry.targets)
    options = model.options(choose_to_build(registry, target, progress))
    opened = open_graph_model(registry, pipeline, options, progress, "show")
    if context is None:
        context = min(_CONTEXT, opened.context_length)
    if context > opened.context_length:
        raise UsageError(
            f"--context is {context}, but the model's context is {opened.context_length} tokens"
        )
    deployment = opened.deployment(slots=1, max_length=context)
    lowered = opened.target.lower(deployment)
    neutral = _neutral(deployment)
    if neutral is None and files.neutral_onnx is not None:
        raise UsageError(
            "--neutral-onnx: an exported folder has only the lowered graph; name a model file"
        )
    graphs = _graphs(deployment, neutral, lowered, context)
    files.write(f"{pipeline} on {options.target}", graphs, neutral, lowered)
    record = {
        "pipeline": pipeline,
        "target": options.target,
        "context": context,
        "activations": lowered.activations,
        **_describe(graphs, lowered),
    }
    if as_json:
        print_json(record)
    else:
        print_lines(*report(record))


def _neutral(deployment: Deployment) -> ir.Model | None:
    """The graph before lowering; None for an exported folder, which has none."""
    from pipelines.common.program.module_program import ModuleProgram

    if not isinstance(deployment.program, ModuleProgram):
        return None
    from pipelines.common.program.store import neutral_graph

    return neutral_graph(deployment.program, deployment)


def _graphs(
    deployment: Deployment, neutral: ir.Model | None, lowered: LoweredGraph, context: int
) -> dict[str, Anatomy]:
    """What there is: ``neutral`` and ``lowered``, in this order."""
    from pipelines.common.program.module_program import ModuleProgram
    from pipelines.common.view import anatomy
    from pipelines.common.view.parts import count_layers

    layers = count_layers(deployment.program.encodings)
    graphs = {"lowered": anatomy.of_lowered(lowered, layers, context)}
    if neutral is not None:
        assert isinstance(deployment.program, ModuleProgram)
        encodings = deployment.program.weights.encodings
        graphs = {"neutral": anatomy.of_neutral(neutral, encodings, layers, context), **graphs}
    return graphs


def _describe(graphs: Mapping[str, Anatomy], lowered: LoweredGraph) -> dict[str, Any]:
    """Everything that is shown of the graphs, as JSON values."""
    from pipelines.common.view.anatomy import alike

    counts = {name: graph.counts() for name, graph in graphs.items()}
    operators = dict.fromkeys(
        operator for count in counts.values() for operator, _ in count.most_common()
    )
    return {
        "operators": [
            {
                "operator": operator,
                **{
                    name: {
                        "nodes": counts[name][operator],
                        "bytes": graph.cost_of_operator(operator).bytes,
                    }
                    for name, graph in graphs.items()
                },
            }
            for operator in operators
        ],
        "rules": [dataclasses.asdict(taken) for taken in lowered.taken],
        "parts": [
            {
                "part": _name(parts, graphs["lowered"].layers),
                "times": len(parts),
                **{
                    name: dataclasses.asdict(graph.cost_of_part(parts[0]))
                    for name, graph in graphs.items()
                },
            }
            for parts in alike(list(graphs.values()))
        ],
        "total": {name: dataclasses.asdict(graph.cost) for name, graph in graphs.items()},
        "tokens_per_s_at_100_gb_per_s": {
            name: _BANDWIDTH / graph.cost.bytes for name, graph in graphs.items()
        },
    }


def _name(parts: tuple[int, ...], layers: int) -> str:
    """What people call some parts that are alike."""
    if parts in ((0,), (layers + 1,)):
        return "embedding" if parts == (0,) else "output"
    if len(parts) == 1:
        return f"layer {parts[0] - 1}"
    if len(parts) == layers:
        return f"each of {layers} layers"
    starts = [part for part in parts if part - 1 not in parts]
    ends = [part for part in parts if part + 1 not in parts]
    runs = (
        f"{start - 1}" if start == end else f"{start - 1}-{end - 1}"
        for start, end in zip(starts, ends, strict=True)
    )
    return f"each of layers {', '.join(runs)}"


def _write(path: Path, content: bytes) -> None:
    if is_stdout(path):
        binary_stdout().write(content)
        return
    try:
        write_output(path, content)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; name another file") from error
