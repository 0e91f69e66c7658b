"""How far a batch run has come. Light: the report of a single prompt imports it as well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipelines.common.engine.metrics import rate


@dataclass
class Figures:
    """How far a run has come.

    Attributes:
        rows: Rows of the input.
        done: Rows that have a record, those of earlier runs included.
        failed: How many of them could not be run.
        first_error: What was wrong with the first that this run has come upon.
        prompt_tokens: Tokens of all prompts that were computed.
        shared_tokens: How many of those were copied from other sequences.
        generated_tokens: Tokens of output, also of rows that have not ended.
        prefill_s: Seconds spent on prompts.
        seconds: Seconds since the first row was begun.
    """

    rows: int
    done: int
    failed: int
    first_error: str | None = None
    prompt_tokens: int = 0
    shared_tokens: int = 0
    generated_tokens: int = 0
    prefill_s: float = 0.0
    seconds: float = 0.0

    @property
    def generated_tokens_per_s(self) -> float | None:
        """Tokens of output a second of the whole run, its prompts included."""
        return rate(self.generated_tokens, self.seconds)

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "rows": self.rows,
            "done": self.done,
            "failed": self.failed,
            "prompt_tokens": self.prompt_tokens,
            "shared_prompt_tokens": self.shared_tokens,
            "generated_tokens": self.generated_tokens,
            "prefill_s": self.prefill_s,
            "seconds": self.seconds,
            "generated_tokens_per_s": self.generated_tokens_per_s,
        }
