"""``export``: a model, lowered for a target, in a folder that runs elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from pipelines.common.cli.console import ConsoleProgress
from pipelines.common.cli.context import registry_of
from pipelines.common.cli.formatting import human_size
from pipelines.common.cli.grouping import Without, grouped_options
from pipelines.common.cli.models import with_model
from pipelines.common.cli.options import ModelToBuild, PipelineName, Quiet, Verbose, path_of


@grouped_options
def export(
    ctx: typer.Context,
    pipeline: PipelineName,
    out: Annotated[
        Path,
        typer.Argument(
            parser=path_of("OUT"), metavar="OUT", help="A folder that is new, or empty."
        ),
    ],
    model: Annotated[ModelToBuild, Without("no_native_ops", "pack_cache")],
    *,
    reference_weights: Annotated[
        bool,
        typer.Option(
            "--reference-weights",
            help="Leave the weights in the model file; only this program runs such a folder.",
        ),
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Export a model to a folder that runs alone.

    It runs without this program, or with it by --model-path. The target need not be here. Op
    packages, the native kernels among them, are used where they are named with --custom-ops-path.
    """
    from pipelines.common.cli.graph_model import open_graph_model
    from pipelines.common.export.packages import lacks_native
    from pipelines.common.export.write import export as write
    from pipelines.common.registry.target_choice import choose_to_build

    registry = registry_of(ctx)
    progress = ConsoleProgress(quiet=quiet, verbose=verbose)
    model = with_model(model, registry, progress)
    options = model.options(choose_to_build(registry, model.target, progress))
    options = replace(options, registered_ops=False)
    opened = open_graph_model(registry, pipeline, options, progress, "export")
    manifest = write(opened, options.target, out, reference_weights=reference_weights)
    nbytes = sum(file.nbytes for file in manifest.files.values())
    if lacks_native(manifest, options, registry):
        progress.notice(
            "the folder does without the native CPU kernels, and so runs on ONNX Runtime alone; for"
            " this program, which takes 2.6 times as long for prompts without them, add"
            " --custom-ops-path native"
        )
    progress.notice(f"exported for {options.target}: {out}, {human_size(nbytes)}")
