"""``bench``: how fast a model reads prompts and generates text, and how fast it could be."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pipelines.common.cli.console import ConsoleProgress
from pipelines.common.cli.grouping import Without, grouped_options
from pipelines.common.cli.options import AsJson, ModelChoice, NamedModel, Quiet, Verbose
from pipelines.common.cli.streams import print_json, print_lines
from pipelines.common.cli.text_models import text_model
from pipelines.common.errors import UsageError
from pipelines.common.system import cores, processor

if TYPE_CHECKING:
    from pipelines.common.measure.speed import Speed, Work
    from pipelines.common.text_generation import TextModel

_HOST: Final = "cpu"
"""The target whose weights are in the memory that is measured."""


@grouped_options
def bench(
    ctx: typer.Context,
    path: NamedModel,
    model: Annotated[ModelChoice, Without("model_path")],
    prompt_tokens: Annotated[
        int,
        typer.Option("-p", "--n-prompt", min=0, help="Tokens of the prompt; 0 for no such test."),
    ] = 512,
    new_tokens: Annotated[
        int, typer.Option("-n", "--n-gen", min=0, help="Tokens to generate; 0 for no such test.")
    ] = 128,
    runs: Annotated[int, typer.Option("-r", "--repetitions", min=1, help="Runs of each test.")] = 5,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure how fast a model reads prompts and generates text.

    Tests are llama-bench's: one sequence of random tokens, after a run that is not counted. Beside
    them it is measured how fast memory is read, which limits how fast text can be generated.
    """
    from pipelines.common.measure.speed import Work, measured

    if not prompt_tokens and not new_tokens:
        raise UsageError("-p and -n are both 0; expected tokens to read or to generate")
    progress = ConsoleProgress(quiet=quiet, verbose=verbose)
    with text_model(ctx, path, model, progress) as opened:
        longest = max(prompt_tokens, new_tokens + 1)
        if longest > opened.context_length:
            raise UsageError(
                f"a test has {longest} tokens, but the model's context is {opened.context_length};"
                " make -p or -n smaller"
            )
        runner = opened.start(slots=1, max_length=longest)
        reads = _bytes_per_token(opened, new_tokens)
    work = Work(runner, opened.tokenizer.vocab_size)
    tests = []
    with progress.shown("Measuring"):
        if prompt_tokens:
            speed = measured(lambda: work.read(prompt_tokens), runs)
            tests.append(_record(f"pp{prompt_tokens}", prompt_tokens, speed))
        if new_tokens:
            tests.append(_generation(work, new_tokens, runs, reads))
    record = {
        "tests": tests,
        "processor": processor(),
        "threads": model.threads or cores(),
        **opened.describe(),
    }
    if as_json:
        print_json(record, indented=False)
    else:
        print_lines(*_table(record))


def _bytes_per_token(model: TextModel, new_tokens: int) -> int | None:
    """What a step reads of the host's memory on average: weights, and the KV state so far.

    Returns:
        None where the weights are elsewhere, or nobody knows.
    """
    from pipelines.common.text_generation import GraphModel
    from pipelines.common.view.anatomy import of_lowered
    from pipelines.common.view.parts import count_layers

    if model.describe().get("target") != _HOST or not isinstance(model, GraphModel):
        return None
    context = new_tokens // 2 + 1
    deployment = model.deployment(slots=1, max_length=max(2, context))
    layers = count_layers(deployment.program.encodings)
    return of_lowered(model.target.lower(deployment), layers, context).cost.bytes


def _generation(work: Work, tokens: int, runs: int, reads: int | None) -> dict[str, Any]:
    """Measures generation, and before each run how fast memory is read."""
    from pipelines.common.measure.bandwidth import numpy_bandwidth
    from pipelines.common.measure.speed import measured

    name = f"tg{tokens}"
    if reads is None:
        return _record(name, tokens, measured(lambda: work.generate(tokens), runs))
    rates: list[float] = []
    with numpy_bandwidth() as memory:
        speed = measured(
            lambda: work.generate(tokens), runs, lambda: rates.append(memory.measure())
        )
    shares = [rate * reads / most for rate, most in zip(speed.rates, rates, strict=True)]
    return {
        **_record(name, tokens, speed),
        "bytes_per_token": reads,
        "bandwidth_method": memory.method,
        "bandwidth_bytes_per_s": rates,
        "roofline_tokens_per_s": statistics.median(rates) / reads,
        "roofline_share": statistics.median(shares),
    }


def _record(name: str, tokens: int, speed: Speed) -> dict[str, Any]:
    return {
        "test": name,
        "tokens": tokens,
        "tokens_per_s": speed.mean,
        "tokens_per_s_deviation": speed.deviation,
        "tokens_per_s_of_runs": list(speed.rates),
    }


def _table(record: dict[str, Any]) -> Iterator[str]:
    """The figures as a Markdown table."""
    yield "| model | encoding | target | threads | test | tok/s | of the roofline |"
    yield "| --- | --- | --- | ---: | ---: | ---: | ---: |"
    about = [
        record.get("model_name") or Path(str(record.get("model"))).name,
        record.get("quantization_encoding"),
        record.get("target"),
        record["threads"],
    ]
    for test in record["tests"]:
        speed = f"{test['tokens_per_s']:,.2f} ± {test['tokens_per_s_deviation']:.2f}"
        share = f"{100 * test['roofline_share']:.0f} %" if "roofline_share" in test else ""
        cells = [*about, test["test"], speed, share]
        yield f"| {' | '.join('' if cell is None else str(cell) for cell in cells)} |"
    for test in record["tests"]:
        if "roofline_share" in test:
            rate = statistics.median(test["bandwidth_bytes_per_s"]) / 1e9
            yield ""
            yield (
                f"{record['processor']}: memory is read at {rate:.1f} GB/s by"
                f" {test['bandwidth_method']}; a token takes {test['bytes_per_token'] / 1e9:.3f} GB"
                f" of it, so at most {test['roofline_tokens_per_s']:,.1f} tok/s"
            )
