"""What a part of `benchmarks.gpu` is, what it is measured with, and how it tells what it finds."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO


@dataclass(frozen=True)
class Settings:
    """What all parts are measured with.

    Attributes:
        target: Name of the target: ``cuda``, or ``cpu`` to try the benchmark itself.
        folder: Where the model files are.
        batches: Sequences side by side in decode steps.
        context: Tokens before the first step.
        long_context: The same, for one sequence alone.
        prompts: Tokens of the prompts that are timed.
        steps: Decode steps that are timed together.
        windows: How often; the figures are medians of these.
        parity_tokens: Tokens whose logits are compared with the reference's.
        copied_bytes: Size of the buffer whose copying is timed.
        product_size: Rows and columns of the square matrices whose product is timed.
        product_bytes: Weights that a block of equal products reads: more than any cache holds.
    """

    target: str
    folder: Path
    batches: tuple[int, ...] = (1, 8, 32)
    context: int = 128
    long_context: int = 2048
    prompts: tuple[int, ...] = (512, 2048)
    steps: int = 32
    windows: int = 5
    parity_tokens: int = 64
    copied_bytes: int = 2**32
    product_size: int = 8192
    product_bytes: int = 2**28

    @property
    def device(self) -> str:
        """What torch calls the device."""
        return "cuda" if self.target == "cuda" else "cpu"

    @property
    def cache(self) -> Path:
        """Where lowered graphs are kept from one part to the next."""
        return self.folder / "cache"

    @property
    def max_length(self) -> int:
        """Tokens that a slot has room for, the longest task's."""
        more = 2 * self.steps * self.windows + 32
        return max(*self.prompts, self.context + more, self.long_context + more)


@dataclass(frozen=True)
class Part:
    """A part of the run.

    Attributes:
        kind: A key of `benchmarks.gpu_parts.perform.KINDS`.
        shape: The model's shape; empty where there is no model.
        encoding: That of its file.
        variant: What tables call the target with these options.
        options: Arguments of the target.
        needed_s: Seconds without which it is not begun.
        limit_s: Seconds after which it is ended.
    """

    kind: str
    shape: str = ""
    encoding: str = ""
    variant: str = ""
    options: Mapping[str, bool] = field(default_factory=dict)
    needed_s: float = 20
    limit_s: float = 60

    @property
    def name(self) -> str:
        """What it is called."""
        return ", ".join(filter(None, (self.kind, self.shape, self.encoding, self.variant)))

    @property
    def labels(self) -> dict[str, str]:
        """What its findings say of it."""
        return {"shape": self.shape, "encoding": self.encoding, "variant": self.variant}


class Recorder:
    """Writes down what a part finds.

    Args:
        out: Where to; a JSON object a line.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def record(self, kind: str, **values: Any) -> None:
        """Writes down one finding."""
        print(json.dumps({"kind": kind, **values}), file=self._out, flush=True)

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Writes down what goes wrong in the block; what comes after it goes on."""
        try:
            yield
        # Whatever it is: the machine is there for minutes, and the other figures can still be had.
        except Exception as error:  # noqa: BLE001
            self.record("error", what=what, error=one_line(error), traceback=traceback.format_exc())


def one_line(error: BaseException) -> str:
    """An error's kind and the first line of what it says."""
    said = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def to_json(part: Part, settings: Settings) -> str:
    """What `benchmarks.gpu_parts.perform` takes."""
    return json.dumps([asdict(part), asdict(settings)], default=str)
