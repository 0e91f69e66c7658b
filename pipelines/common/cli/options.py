"""The options about a model, which several commands have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipelines.common.cli.context import complete_pipeline, complete_target
from pipelines.common.errors import UsageError
from pipelines.common.files import typed_path

if TYPE_CHECKING:
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


PipelineName = Annotated[
    str,
    typer.Argument(
        metavar="PIPELINE", help="The model's pipeline.", autocompletion=complete_pipeline
    ),
]
ModelPath = Annotated[
    Path | None,
    typer.Option(
        parser=path_of("--model-path"),
        metavar="PATH",
        help="Model file or exported folder; by default the pipeline's own model.",
    ),
]
TokenizerPath = Annotated[
    Path | None,
    typer.Option(
        parser=path_of("--tokenizer-path"),
        metavar="PATH",
        help="A tokenizer.json to use instead of the model's tokenizer.",
    ),
]
QuantizationEncoding = Annotated[
    Literal["q4_0", "q8_0", "float32", "auto"],
    typer.Option(help="What the big matrices run in; auto is as they are stored."),
]
TargetName = Annotated[
    str,
    typer.Option(
        help="What to run on, see 'targets'; auto is the best that can run here.",
        autocompletion=complete_target,
    ),
]
DeviceId = Annotated[int, typer.Option(min=0, help="Which of the target's devices, see 'targets'.")]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="Threads to compute with, at most one a core; by default as many."),
]
CustomOpsPath = Annotated[
    list[Path] | None,
    typer.Option(
        parser=path_of("--custom-ops-path"),
        metavar="PATH",
        help="An op package (a folder, a .py file, a library of kernels, or the name of one that"
        " 'list' shows); repeatable, of two for one pattern the last wins.",
    ),
]
NoNativeOps = Annotated[
    bool, typer.Option("--no-native-ops", help="Leave out the project's own CPU kernels.")
]
Offline = Annotated[
    bool,
    typer.Option(
        "--offline", help="Make nothing that the cache can hold; 'warm-cache' fills it before."
    ),
]
MaxLength = Annotated[
    int | None,
    typer.Option(min=2, help="Most tokens of prompt and output; at most the model's context."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON record.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No notices and figures.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="More details.")]


def model_options(
    *,
    model_path: Path | None,
    tokenizer_path: Path | None,
    encoding: str,
    target: str,
    device: int = 0,
    threads: int | None = None,
    custom_ops: list[Path] | None,
    no_native_ops: bool,
    offline: bool = False,
) -> ModelOptions:
    """The options as a pipeline takes them; `target` is the name of one."""
    from pipelines.common.text_generation import ModelOptions

    return ModelOptions(
        model_path=model_path,
        tokenizer_path=tokenizer_path,
        encoding=encoding,
        target=target,
        device=device,
        threads=threads,
        custom_ops=tuple(custom_ops or ()),
        native_ops=not no_native_ops,
        offline=offline,
    )
