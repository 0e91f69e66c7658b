"""Runs many short rows in one batch, and follows the process's memory from outside (Linux only).

python -m benchmarks.rows [--rows N] [--new-tokens N] [--batch-size N]
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from statistics import linear_regression
from typing import NamedTuple

from benchmarks.report import print_machine, print_table
from benchmarks.startup import DRIVER

COMMAND = (sys.executable, str(DRIVER), "llama3", "--quiet")

_TEXTS = Path(__file__).parent.parent / "training" / "heldout" / "texts.jsonl"
_STORIES = 20
"""So few that many prompts begin alike."""
_PROMPT_CHARS = range(10, 600)
_SAMPLE_S = 0.1


class Sample(NamedTuple):
    """A process at one moment; memory is in MiB.

    Attributes:
        records: Whole records in its output.
        resident: Its resident set.
        anonymous: The part of that which no file backs.
        peak: Its largest resident set so far.
    """

    records: int
    resident: float
    anonymous: float
    peak: float


def warm_up() -> None:
    """Has the driver keep the graph of the bundled model, which takes it seconds to make."""
    command = (*COMMAND, "--prompt", "Once", "--max-new-tokens", "1")
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)


def beginnings(count: int, rng: Random) -> list[str]:
    """Beginnings of stories that the bundled model was not trained on, up to some 150 tokens."""
    with _TEXTS.open(encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    stories = [text for text in texts if len(text) >= _PROMPT_CHARS.stop][:_STORIES]
    return [rng.choice(stories)[: rng.choice(_PROMPT_CHARS)].rstrip() for _ in range(count)]


def follow(process: subprocess.Popen[str], output: Path) -> Iterator[Sample]:
    """Samples a process from its first record to its end."""
    while not output.exists():
        if process.poll() is not None:
            return
        time.sleep(_SAMPLE_S)
    records = 0
    with output.open("rb") as file:
        while process.poll() is None:
            records += file.read().count(b"\n")
            memory = _memory_mib(process.pid)
            if records and memory:
                yield Sample(records, memory["VmRSS"], memory["RssAnon"], memory["VmHWM"])
            time.sleep(_SAMPLE_S)


def _memory_mib(pid: int) -> dict[str, float]:
    """What ``/proc`` tells of a process's memory: nothing, if it has ended just now."""
    status = Path(f"/proc/{pid}/status").read_text()
    fields = re.findall(r"^(\w+):\s+(\d+) kB$", status, re.MULTILINE)
    return {name: int(value) / 1024 for name, value in fields}


def growth(samples: Sequence[Sample]) -> str:
    """By how much both sizes grow, as the slopes of straight lines (least squares)."""
    records = [sample.records for sample in samples]
    sizes = ([sample.resident for sample in samples], [sample.anonymous for sample in samples])
    slopes = [linear_regression(records, size).slope * 1024 * 1000 for size in sizes]
    return ", ".join(f"{slope:.1f}" for slope in slopes)


def main() -> None:
    """Reads the command line, runs, prints."""
    parser = argparse.ArgumentParser(description="Follows the memory of a batch of many rows.")
    parser.add_argument("--rows", type=int, default=10_000, help="rows of the batch")
    parser.add_argument("--new-tokens", type=int, default=1, help="most tokens of output a row")
    parser.add_argument("--batch-size", type=int, default=8, help="sequences side by side")
    arguments = parser.parse_args()
    if sys.platform != "linux":
        parser.error("it reads a process's memory from /proc, which only Linux has")
    rows: int = arguments.rows
    print_machine()
    warm_up()
    with tempfile.TemporaryDirectory() as temporary:
        prompts, output = Path(temporary, "prompts.jsonl"), Path(temporary, "records.jsonl")
        texts = enumerate(beginnings(rows, Random(0)), 1)
        lines = (json.dumps({"id": f"row {number}", "prompt": text}) for number, text in texts)
        prompts.write_text("".join(f"{line}\n" for line in lines))
        files = ("--prompts-file", str(prompts), "--output", str(output))
        numbers = ("--max-new-tokens", arguments.new_tokens, "--batch-size", arguments.batch_size)
        command = (*COMMAND, *files, *map(str, numbers), "--json")
        start = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            samples = list(follow(process, output))
            told = process.stdout.read()
        seconds = time.perf_counter() - start
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    figures = json.loads(told)

    # With the last record the model is let go of, which is no longer part of the run.
    running = [sample for sample in samples if sample.records < rows]
    settled = [sample for sample in running if sample.records >= rows / 10]
    later = [sample for sample in running if sample.records >= rows / 2]
    if len(later) < 2:
        sys.exit("the run ended before it could be followed; it takes more --rows")
    table: dict[str, object] = {
        "rows": figures["done"],
        "... that failed": figures["failed"],
        "tokens of prompts": figures["prompt_tokens"],
        "tokens of output": figures["generated_tokens"],
        "whole process, s": seconds,
        "rows a second, without start-up": rows / figures["seconds"],
    }
    for place, sample in (("10", settled[0]), ("50", later[0]), ("100", running[-1])):
        memory = f"{sample.resident:.1f}, {sample.anonymous:.1f}"
        table[f"resident, anonymous after {place} % of the rows, MiB"] = memory
    table["growth of both from 10 % on, KiB for 1,000 rows"] = growth(settled)
    table["growth of both from 50 % on, KiB for 1,000 rows"] = growth(later)
    table["peak, MiB"] = f"{max(sample.peak for sample in samples):.1f}"
    print_table(("", "batch"), table.items())


if __name__ == "__main__":
    main()
