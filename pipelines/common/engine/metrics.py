"""The figures of a process that generates text."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.common.engine.sequence import FinishReason, TextSequence, Timings
from pipelines.common.progress import Progress
from pipelines.common.system import PeakMemory, peak_memory


@dataclass(frozen=True)
class StartUp:
    """What went before the first token.

    Attributes:
        seconds: By phase.
        from_cache: The phases whose result was cached.
    """

    seconds: dict[str, float]
    from_cache: frozenset[str]

    @classmethod
    def of(cls, progress: Progress) -> StartUp:
        """The phases that a front end was told of."""
        phases = ("build", "lower", "compile", "load")
        seconds = {phase: progress.seconds.get(phase, 0.0) for phase in phases}
        return cls(seconds, frozenset(progress.from_cache))

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            **{f"{phase}_s": seconds for phase, seconds in self.seconds.items()},
            "from_cache": sorted(self.from_cache),
        }


@dataclass(frozen=True)
class Metrics:
    """What the generation of one sequence took.

    Attributes:
        prompt_tokens: Size of the prompt.
        generated_tokens: Size of the output, without the end token.
        finish_reason: Why it ended.
        timings: Time spent on tokens.
        start_up: Time spent before.
        start_to_first_token_s: From the start of the process; None before the first token, and on
            systems that do not tell.
        memory: Of the process.
    """

    prompt_tokens: int
    generated_tokens: int
    finish_reason: FinishReason
    timings: Timings
    start_up: StartUp
    start_to_first_token_s: float | None
    memory: PeakMemory = field(default_factory=peak_memory)

    @classmethod
    def of(
        cls,
        sequence: TextSequence,
        progress: Progress,
        start_to_first_token_s: float | None,
    ) -> Metrics:
        """The figures of a sequence that has ended."""
        assert sequence.finish_reason is not None
        return cls(
            prompt_tokens=len(sequence.prompt),
            generated_tokens=len(sequence.tokens),
            finish_reason=sequence.finish_reason,
            timings=sequence.timings,
            start_up=StartUp.of(progress),
            start_to_first_token_s=start_to_first_token_s,
        )

    @property
    def prompt_tokens_per_s(self) -> float | None:
        """Tokens of the prompt computed a second; None if it was not finished."""
        return rate(self.prompt_tokens, self.timings.prefill_s)

    @property
    def generated_tokens_per_s(self) -> float | None:
        """Tokens decoded a second after the first one; None if there were none."""
        return rate(self.timings.decode_steps, self.timings.decode_s)

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "generated_tokens": self.generated_tokens,
            "finish_reason": self.finish_reason,
            "timings": {
                **self.start_up.as_json(),
                "first_token_s": self.timings.first_token_s,
                "start_to_first_token_s": self.start_to_first_token_s,
                "prompt_tokens_per_s": self.prompt_tokens_per_s,
                "generated_tokens_per_s": self.generated_tokens_per_s,
            },
            **memory_as_json(self.memory),
        }


def process_age_s(status: Path = Path("/proc/self/stat")) -> float | None:
    """Seconds since this process started, to the clock tick; None where the system does not tell.

    Args:
        status: Where Linux tells.
    """
    try:
        # The fields after the program's name, which is in parentheses and may itself contain any.
        fields = status.read_text().rpartition(")")[2].split()
    except OSError:
        return None
    started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def memory_as_json(memory: PeakMemory) -> dict[str, int | None]:
    """The process's memory as JSON values."""
    return {
        "peak_memory_bytes": memory.resident,
        "anonymous_memory_bytes": memory.anonymous,
    }


def rate(count: int, seconds: float) -> float | None:
    """Tokens a second; None of nothing."""
    return count / seconds if count and seconds else None
