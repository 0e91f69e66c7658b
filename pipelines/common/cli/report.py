"""The figures of a generation, for people."""

from __future__ import annotations

from pipelines.common.cli.formatting import human_size
from pipelines.common.runtime.metrics import Metrics
from pipelines.common.runtime.sequence import FinishReason

_ENDS: dict[FinishReason, str] = {
    "stop": "ended by the model or a stop string",
    "length": "ended by the limit of tokens",
    "interrupted": "interrupted",
    "error": "ended by an error",
}


def report(metrics: Metrics) -> str:
    """The figures in a few aligned lines."""
    prompt = [_tokens(metrics.prompt_tokens, metrics.prompt_tokens_per_s)]
    output = [_tokens(metrics.generated_tokens, metrics.generated_tokens_per_s)]
    output += [_ENDS[metrics.finish_reason]]
    start_up = [
        f"{phase} {seconds:.2f} s" + " (cached)" * (phase in metrics.from_cache)
        for phase, seconds in metrics.start_up_s.items()
    ]
    first_token = []
    if metrics.timings.first_token_s is not None:
        first_token += [f"{metrics.timings.first_token_s:.3f} s after the prompt went in"]
    if metrics.start_to_first_token_s is not None:
        first_token += [f"{metrics.start_to_first_token_s:.2f} s after the program started"]
    memory = [human_size(metrics.memory.resident)]
    if metrics.memory.anonymous is not None:
        memory += [f"{human_size(metrics.memory.anonymous)} anonymous at the end"]
    rows = {
        "prompt": prompt,
        "output": output,
        "start-up": start_up,
        "first token": first_token,
        "peak memory": memory,
    }
    return "\n".join(f"{name:<13}{', '.join(parts)}" for name, parts in rows.items() if parts)


def _tokens(count: int, rate: float | None) -> str:
    noun = "token" if count == 1 else "tokens"
    return f"{count:,} {noun}" + ("" if rate is None else f", {rate:,.1f} tok/s")
