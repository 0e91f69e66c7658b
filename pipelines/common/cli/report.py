"""The figures of a run, for people."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from pipelines.common.batch.figures import Figures
from pipelines.common.cli.formatting import human_duration, human_size
from pipelines.common.engine.metrics import Metrics, StartUp
from pipelines.common.engine.sequence import FinishReason
from pipelines.common.system import PeakMemory

_ENDS: dict[FinishReason, str] = {
    "stop": "ended by the model or a stop string",
    "length": "ended by the limit of tokens",
    "interrupted": "interrupted",
}


Rows = Mapping[str, Sequence[str]]
"""What is told, by what it is of."""


def print_figures(rows: Rows) -> None:
    """Writes figures to stderr in a few aligned lines; on a terminal they are coloured and wrap."""
    told = {name: ", ".join(parts) for name, parts in rows.items() if parts}
    if not sys.stderr.isatty():
        print("\n".join(f"{name:<13}{figures}" for name, figures in told.items()), file=sys.stderr)
        return
    from rich.console import Console
    from rich.table import Table

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True, min_width=11)
    grid.add_column()
    for name, figures in told.items():
        grid.add_row(name, figures)
    Console(stderr=True).print(grid)


def figures_of(metrics: Metrics) -> Rows:
    """The figures of one sequence."""
    first_token = []
    if metrics.timings.first_token_s is not None:
        first_token += [f"{metrics.timings.first_token_s:.3f} s after the prompt went in"]
    if metrics.start_to_first_token_s is not None:
        first_token += [f"{metrics.start_to_first_token_s:.2f} s after the program started"]
    return {
        "prompt": [_tokens(metrics.prompt_tokens, metrics.prompt_tokens_per_s)],
        "output": [
            _tokens(metrics.generated_tokens, metrics.generated_tokens_per_s),
            _ENDS[metrics.finish_reason],
        ],
        "start-up": _start_up(metrics.start_up),
        "first token": first_token,
        "peak memory": _memory(metrics.memory),
    }


def figures_of_batch(figures: Figures, slots: int, start_up: StartUp, memory: PeakMemory) -> Rows:
    """The figures of a batch run."""
    rows = [f"{figures.done:,} of {figures.rows:,} done"]
    if figures.failed:
        rows += [f"{figures.failed:,} of them failed"]
    rows += [f"{human_duration(figures.seconds)} with {slots} side by side"] if slots else []
    prompts = [f"{_tokens(figures.prompt_tokens)} in {human_duration(figures.prefill_s)}"]
    if figures.shared_tokens:
        prompts += [f"{figures.shared_tokens:,} of them copied from other rows"]
    return {
        "rows": rows,
        "prompts": prompts,
        "output": [_tokens(figures.generated_tokens, figures.generated_tokens_per_s)],
        "start-up": _start_up(start_up),
        "peak memory": _memory(memory),
    }


def _tokens(count: int, rate: float | None = None) -> str:
    noun = "token" if count == 1 else "tokens"
    return f"{count:,} {noun}" + ("" if rate is None else f", {rate:,.1f} tok/s")


def _start_up(start_up: StartUp) -> list[str]:
    return [
        f"{phase} {seconds:.2f} s" + " (cached)" * (phase in start_up.from_cache)
        for phase, seconds in start_up.seconds.items()
    ]


def _memory(memory: PeakMemory) -> list[str]:
    parts = [human_size(memory.resident)]
    if memory.anonymous is not None:
        parts += [f"{human_size(memory.anonymous)} anonymous at the end"]
    return parts
