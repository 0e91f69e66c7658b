"""The options about a model, which several commands have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pipelines.common.cli.context import complete_pipeline, complete_target, registry_of
from pipelines.common.cli.grouping import Without
from pipelines.common.cli.random_weights import asked_random
from pipelines.common.encodings.requests import REQUESTS, unknown_request
from pipelines.common.errors import UsageError
from pipelines.common.files import typed_path

if TYPE_CHECKING:
    from pipelines.common.progress import Progress
    from pipelines.common.text_generation import ModelOptions


def path_of(name: str) -> Callable[[str | Path], Path]:
    """Reads the path that an option or an argument takes.

    Args:
        name: What the user knows it by.

    Returns:
        A parser for `typer.Option` and `typer.Argument`, which raises `UsageError` for what is
        no path.
    """

    def parse(text: str | Path) -> Path:
        if isinstance(text, Path):  # a default
            return text
        try:
            return typed_path(text)
        except ValueError as error:
            raise UsageError(f"{name} {error}") from error

    return parse


def _requests() -> list[str]:
    """What can be asked for, for the shell."""
    return [*REQUESTS]


def _requested(name: str) -> str:
    if name not in REQUESTS:
        raise UsageError(f"--quantization-encoding {unknown_request(name)}")
    return name


PipelineName = Annotated[
    str,
    typer.Argument(
        metavar="PIPELINE", help="The model's pipeline.", autocompletion=complete_pipeline
    ),
]
NamedModel = Annotated[
    Path,
    typer.Argument(parser=path_of("MODEL"), metavar="MODEL", help="Model file, folder or name."),
]
ModelPath = Annotated[
    Path | None,
    typer.Option(
        "--model-path",
        "-m",
        parser=path_of("--model-path"),
        metavar="PATH",
        help="Model file, its folder, a name of Hugging Face's hub (owner/name), or an exported"
        " folder; by default the pipeline's own model.",
    ),
]
TokenizerPath = Annotated[
    Path | None,
    typer.Option(
        parser=path_of("--tokenizer-path"),
        metavar="PATH",
        help="A tokenizer.json or tokenizer.model to use instead of the model's own.",
    ),
]
RandomConfig = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="Another size of the tiny model, as layers=4, or its seed=7; repeatable.",
    ),
]
RunEncoding = Annotated[
    str | None,
    typer.Option(
        parser=_requested,
        metavar=f"[{'|'.join(REQUESTS)}]",
        autocompletion=_requests,
        help="What the big matrices run in; auto is as they are stored, and the default for a"
        " file that is named. The pipeline's own model runs in q4_0.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON record.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No notices and figures.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="More details.")]


@dataclass(frozen=True)
class ModelChoice:
    """The model, and what it runs on; the options in the order of ``--help``.

    Attributes:
        model_path: ``--model-path``, and likewise all others.
        tokenizer_path: See `ModelOptions`.
        random_weights: Whether weights are random.
        random_config: Sizes of a random model, each ``NAME=VALUE``.
        quantization_encoding: See `ModelOptions.encoding`.
        weights: See `ModelOptions`.
        pack_cache: See `ModelOptions`.
        target: Name of a target, or ``auto``.
        device_id: See `ModelOptions.device`.
        threads: See `ModelOptions`.
        custom_ops_path: See `ModelOptions.custom_ops`.
        no_native_ops: Whether the native kernels are left out.
        offline: See `ModelOptions`.
    """

    model_path: ModelPath = None
    tokenizer_path: TokenizerPath = None
    random_weights: Annotated[
        bool,
        typer.Option(
            "--random-weights",
            help="Random weights: of a tiny model, or in the place of those of --model-path.",
        ),
    ] = False
    random_config: RandomConfig = None
    quantization_encoding: RunEncoding = None
    weights: Annotated[
        Literal["mmap", "heap"],
        typer.Option(
            help="How tensors come into memory: mapped from their files, or read from them."
        ),
    ] = "mmap"
    pack_cache: Annotated[
        bool,
        typer.Option(
            "--pack-cache",
            help="Keep the packed weights in the cache: later starts pack nothing. Takes the room"
            " of the weights on the disk.",
        ),
    ] = False
    target: Annotated[
        str,
        typer.Option(
            help="What to run on, see 'targets'; auto is the best that can run here.",
            autocompletion=complete_target,
        ),
    ] = "auto"
    device_id: Annotated[
        int, typer.Option(min=0, help="Which of the target's devices, see 'targets'.")
    ] = 0
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="Threads to compute with, at most one a core; by default as many."
        ),
    ] = None
    custom_ops_path: Annotated[
        list[Path] | None,
        typer.Option(
            parser=path_of("--custom-ops-path"),
            metavar="PATH",
            help="An op package (a folder, a .py file, a library of kernels, or the name of one"
            " that 'list' shows); repeatable, of two for one pattern the last wins.",
        ),
    ] = None
    no_native_ops: Annotated[
        bool, typer.Option("--no-native-ops", help="Leave out the project's own CPU kernels.")
    ] = False
    offline: Annotated[
        bool,
        typer.Option(
            "--offline", help="Make nothing that the cache can hold; 'warm-cache' fills it before."
        ),
    ] = False

    def options(self, target: str | None = None) -> ModelOptions:
        """The options as a pipeline takes them, for `target` if it is known already."""
        from pipelines.common.text_generation import ModelOptions

        return ModelOptions(
            model_path=self.model_path,
            tokenizer_path=self.tokenizer_path,
            encoding=self.quantization_encoding or "",
            weights=self.weights,
            pack_cache=self.pack_cache,
            target=target or self.target,
            device=self.device_id,
            threads=self.threads,
            custom_ops=tuple(self.custom_ops_path or ()),
            native_ops=not self.no_native_ops,
            offline=self.offline,
            random=asked_random(self.random_weights, self.random_config or ()),
        )

    def open(self, ctx: typer.Context, progress: Progress | None = None) -> Any:
        """Opens the model of a pipeline's own command.

        Args:
            ctx: The command's.
            progress: Told of every phase, and of what the user should know; None for the command
                line's own.

        Returns:
            What the pipeline opens: a `TextModel` where it is one of text.

        Raises:
            PipelineError: It cannot be opened.
        """
        from pipelines.common.cli.console import ConsoleProgress
        from pipelines.common.registry.opening import prepared

        assert ctx.info_name is not None
        progress = progress or ConsoleProgress()
        registry = registry_of(ctx)
        pipeline, options = prepared(ctx.info_name, self.options(), registry, progress)
        return pipeline.open(options, registry, progress)


ModelToBuild = Annotated[ModelChoice, Without("device_id", "threads", "offline")]
"""What commands that run nothing have of them."""
