"""Counts the rows of a batch whose text depends on the batch's size.

    python -m benchmarks.invariance [--rows 200]

The bundled model runs the same rows one by one and in batches, with each kind of operators.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from benchmarks.report import print_machine, print_table
from pipelines.common.engine.engine import Engine
from pipelines.common.engine.request import Request
from pipelines.common.engine.sampling import SamplingParams
from pipelines.common.progress import Progress
from pipelines.common.registry.registry import Registry
from pipelines.common.text_generation import ModelOptions, TextModel

VARIANTS = {
    "native operators, q4_0": ModelOptions(encoding="q4_0"),
    "native operators, float32": ModelOptions(encoding="float32"),
    "stock operators, q4_0": ModelOptions(encoding="q4_0", native_ops=False),
    "stock operators, float32": ModelOptions(encoding="float32", native_ops=False),
    "torch, float32": ModelOptions(encoding="float32", target="torch"),
}
NAMES = ("Anna", "Ben", "Finn", "Lily", "Max", "Molly", "Pip", "Rosa", "Sam", "Tom")
BATCH_SIZES = (2, 8, 16)


def texts(model: TextModel, rows: int, batch_size: int) -> list[list[int]]:
    """The output of every row: greedy and sampled ones, of 1 to 100 tokens, by turns."""
    requests = []
    for row in range(rows):
        name, other = NAMES[row % len(NAMES)], NAMES[(row // len(NAMES) + 1) % len(NAMES)]
        prompt = model.tokenizer.encode(f"Once upon a time, {name} and {other} were")
        sampling = SamplingParams(temperature=0.8 * (row % 2), seed=row)
        limit = len(prompt) + 1 + row * 37 % 100
        requests.append(Request(prompt, limit, sampling))
    longest = max(request.max_length for request in requests)
    engine = Engine(model.start(slots=batch_size, max_length=longest), model.tokenizer)
    sequences = [engine.add(request) for request in requests]
    while not engine.idle:
        engine.step()
    return [sequence.tokens for sequence in sequences]


def different(some: Sequence[object], others: Sequence[object]) -> int:
    """In how many places they differ."""
    return sum(one != other for one, other in zip(some, others, strict=True))


def main() -> None:
    """Reads the command line, runs, prints."""
    parser = argparse.ArgumentParser(description="Counts rows whose text depends on the batch.")
    parser.add_argument("--rows", type=int, default=200)
    rows = parser.parse_args().rows
    print_machine()
    registry = Registry.discover()
    table = []
    for name, options in VARIANTS.items():
        model = registry.load_pipeline("llama3").open(options, registry, Progress())
        alone = texts(model, rows, 1)
        table.append([name, *(different(alone, texts(model, rows, size)) for size in BATCH_SIZES)])
    header = [f"of {rows} rows differ from batch size 1", *map(str, BATCH_SIZES)]
    print_table(header, table)


if __name__ == "__main__":
    main()
