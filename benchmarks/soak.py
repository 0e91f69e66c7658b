"""Kills a batch run again and again, resumes it, and compares the records with an undisturbed run.

python -m benchmarks.soak [--rows N] [--kills N] [--batch-size N] [--seed N] [--keep DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, TypeAlias

from benchmarks.report import median, print_machine, print_table
from benchmarks.rows import COMMAND, beginnings, warm_up

Record: TypeAlias = Mapping[str, Any]

_BAD_EVERY = 50
_VARYING = {"timings", "shared_prompt_tokens"}
"""What of a record depends on the rows that were computed beside it."""
_POLL_S = 0.005


class Batch(NamedTuple):
    """A batch that is run more than once.

    Attributes:
        prompts: The input.
        seed: That of the first row.
    """

    prompts: Path
    seed: int

    def start(self, output: Path, batch_size: int, *resume: str) -> subprocess.Popen[bytes]:
        """Starts a run of it, with ``--resume`` or without."""
        files = ("--prompts-file", str(self.prompts), "--output", str(output))
        numbers = ("--seed", str(self.seed), "--batch-size", str(batch_size))
        return subprocess.Popen((*COMMAND, *files, *numbers, *resume), stdin=subprocess.DEVNULL)


class Kill(NamedTuple):
    """What a run left that was killed.

    Attributes:
        records: Whole records in the output.
        new: How many of them it had written itself.
        torn: Whether it was killed while it wrote another one.
        cut: Whether the last one was cut afterwards, see `cut_last_record`.
    """

    records: int
    new: int
    torn: bool
    cut: bool


class Differences(NamedTuple):
    """What is not the same in two outputs of one batch.

    Attributes:
        missing: Rows that have no record in one of them.
        twice: Records of a row beyond its first, in one of them.
        different: Rows whose two records tell different things.
    """

    missing: int
    twice: int
    different: int


def make_rows(count: int, rng: Random) -> list[str]:
    """Lines that differ in all that a row can say; every 50th is one that cannot be run."""
    lines = []
    for number, prompt in enumerate(beginnings(count, rng), 1):
        row = {"id": f"row {number}", "prompt": prompt, "max_new_tokens": rng.randint(1, 128)}
        if number % 3:
            row |= _draw_sampling(rng)
        if rng.random() < 0.2:
            row["stop"] = rng.sample(("\n\n", ".", " said"), rng.randint(1, 2))
        if number % _BAD_EVERY == 0:
            row |= rng.choice(({"prompt": None}, {"prompt": "on and " * 1000}, {"temperature": -1}))
        line = json.dumps(row)
        lines.append(line if number % (4 * _BAD_EVERY) else line.removesuffix("}"))
    return lines


def _draw_sampling(rng: Random) -> dict[str, float]:
    """A temperature, and some of the other parameters."""
    others = {
        "top_p": round(rng.uniform(0.5, 1), 2),
        "top_k": rng.randint(1, 100),
        "seed": rng.randrange(1 << 32),
    }
    chosen = {name: value for name, value in others.items() if rng.random() < 0.5}
    return {"temperature": round(rng.uniform(0.3, 1.5), 2), **chosen}


def read_output(output: Path) -> tuple[list[Record], bytes]:
    """The whole records of an output, and what is there of one that is torn."""
    content = output.read_bytes() if output.exists() else b""
    *lines, rest = content.split(b"\n")
    return [json.loads(line) for line in lines], rest


def cut_last_record(output: Path, rng: Random) -> bytes:
    """Leaves, and returns, a beginning of the last line, as if it had been torn while written.

    Linux takes lines as short as these in one go, so that hardly any kill can do it; a full disk
    and a power failure do.
    """
    content = output.read_bytes()
    start = content.rfind(b"\n", 0, -1) + 1
    end = rng.randrange(start, len(content))
    os.truncate(output, end)
    return content[start:end]


def compare(rows: int, one: Sequence[Record], other: Sequence[Record]) -> Differences:
    """Compares the records of two runs over as many rows, in whatever order they stand."""
    ones, others = (
        {record["line"]: {k: record[k] for k in record.keys() - _VARYING} for record in records}
        for records in (one, other)
    )
    common = ones.keys() & others.keys()
    return Differences(
        missing=len(set(range(1, rows + 1)) - common),
        twice=len(one) - len(ones) + len(other) - len(others),
        different=sum(ones[line] != others[line] for line in common),
    )


def run_undisturbed(batch: Batch, output: Path, batch_size: int) -> tuple[float, float]:
    """Runs a batch to its end.

    Returns:
        Seconds until there was a record, and seconds of the whole run.
    """
    start = time.perf_counter()
    process = batch.start(output, batch_size)
    _wait_until_larger(output, 0, process)
    first_record_s = time.perf_counter() - start
    process.wait()
    return first_record_s, time.perf_counter() - start


def run_killed(
    batch: Batch, output: Path, kills: int, start_up_s: float, size: int, rng: Random
) -> list[Kill]:
    """Runs a batch with one kill after another, and goes on each time with what is there.

    One kill in four comes at a random moment of the start-up, the others when a run has written a
    random part of what is left, such that there is some for each of them.

    Args:
        batch: What to run.
        output: Where its records go.
        kills: How many.
        start_up_s: What a run takes until its first record.
        size: Bytes of all records together, about.
        rng: Source of every choice, that of the batch size among them.

    Raises:
        SystemExit: A run ended before its kill.
    """
    done: list[Kill] = []
    before, rest, written = 0, b"", 0
    for left in range(kills, 0, -1):
        process = batch.start(output, rng.randint(1, 16), *["--resume"] * bool(done))
        if rng.random() < 0.25:
            time.sleep(rng.uniform(0, start_up_s))
        else:
            part = rng.uniform(0, 2 / (left + 2))
            _wait_until_larger(output, written + part * (size - written), process)
            time.sleep(rng.uniform(0, 2 * _POLL_S))
        process.kill()
        if process.wait() != -signal.SIGKILL:
            sys.exit(
                f"a run ended before kill {len(done) + 1} of {kills}: it failed, or --rows are few"
            )
        records, now = read_output(output)
        cut = bool(records) and not now and rng.random() < 0.25
        done.append(Kill(len(records), len(records) - before, now not in (b"", rest), cut))
        rest = cut_last_record(output, rng) if cut else now
        before, written = len(records) - cut, _size(output)
    return done


def _wait_until_larger(output: Path, size: float, process: subprocess.Popen[bytes]) -> None:
    """Returns when an output is larger than `size`, or the process that writes it has ended."""
    while process.poll() is None and _size(output) <= size:
        time.sleep(_POLL_S)


def _size(output: Path) -> int:
    return output.stat().st_size if output.exists() else 0


def soak(folder: Path, rows: int, kills: int, batch_size: int, seed: int) -> bool:
    """Makes the input and both outputs in a folder; prints, and returns whether all was well."""
    rng = Random(seed)
    batch = Batch(folder / "prompts.jsonl", seed)
    batch.prompts.write_text("".join(f"{line}\n" for line in make_rows(rows, rng)))
    undisturbed, killed = folder / "undisturbed.jsonl", folder / "killed.jsonl"
    warm_up()
    start_up_s, undisturbed_s = run_undisturbed(batch, undisturbed, batch_size)
    start = time.perf_counter()
    done = run_killed(batch, killed, kills, start_up_s, _size(undisturbed), rng)
    batch.start(killed, batch_size, "--resume").wait()
    seconds = time.perf_counter() - start

    expected, records = read_output(undisturbed)[0], read_output(killed)[0]
    failed = sum(record["finish_reason"] == "error" for record in expected)
    differences = compare(rows, expected, records)
    table: dict[str, object] = {
        "rows": rows,
        "... that cannot be run, that failed": f"{rows // _BAD_EVERY}, {failed}",
        "tokens of output": sum(record["generated_tokens"] or 0 for record in expected),
        "kills": len(done),
        "... before a run's first record": sum(not kill.new for kill in done),
        "... that tore a record": sum(kill.torn for kill in done),
        "records cut after a kill": sum(kill.cut for kill in done),
        "records found after a kill": _spread([kill.records for kill in done]),
        "... new ones": _spread([kill.new for kill in done]),
        "rows missing, twice, different": ", ".join(map(str, differences)),
        "undisturbed run, s": undisturbed_s,
        "... until its first record, s": start_up_s,
        "all killed runs and the last one, s": seconds,
    }
    print_table(("", "soak"), table.items())
    return not any(differences) and failed == rows // _BAD_EVERY


def _spread(counts: Sequence[int]) -> str:
    return f"{min(counts)} to {max(counts)}, median {median(counts):.0f}"


def main() -> None:
    """Reads the command line, runs, prints; fails if a row is missing, twice or different."""
    parser = argparse.ArgumentParser(description="Kills a batch run and compares what comes of it.")
    parser.add_argument("--rows", type=int, default=1000, help="rows of the batch")
    parser.add_argument("--kills", type=int, default=20, help="how often it is killed")
    parser.add_argument("--batch-size", type=int, default=8, help="of runs that are not killed")
    parser.add_argument("--seed", type=int, default=0, help="of rows and kills")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="a new folder for all the files")
    arguments = vars(parser.parse_args())
    keep: Path | None = arguments.pop("keep")
    if arguments["kills"] < 1:
        parser.error("--kills is how often a run is killed; expected 1 or more")
    if keep is not None:
        if keep.exists():
            parser.error(f"{keep} exists; --keep makes a new folder")
        keep.mkdir(parents=True)
    print_machine()
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(not soak(keep or Path(temporary), **arguments))


if __name__ == "__main__":
    main()
