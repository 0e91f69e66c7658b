"""What stands between a user and a first text: this project, llama-cpp-python, transformers.

python -m benchmarks.first_minute [--install] [--large 8b.gguf]

Without ``--install`` all three run in the interpreter of this command. With it each is installed
first, in a virtual environment of its own, with nothing that `pip` has kept; what that downloads is
what a plain index has for Linux x86-64, see `benchmarks.download`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.download import PLATFORMS, sizes
from benchmarks.engine import ROOT
from benchmarks.models import read_whole
from benchmarks.report import median, print_machine, print_table
from benchmarks.startup import run_command
from pipelines.llama3.pipeline import BUNDLED

PROMPT, TOKENS = "Once upon a time", 4

_LLAMA_CPP = """
import sys
from llama_cpp import Llama
model = Llama(sys.argv[1], n_ctx=512, verbose=False)
for part in model(sys.argv[2], max_tokens=int(sys.argv[3]), temperature=0, stream=True):
    print(part["choices"][0]["text"], end="", flush=True)
"""

_TRANSFORMERS = """
import os, sys
from transformers import AutoModelForCausalLM, AutoTokenizer, TextStreamer
folder, file = os.path.split(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file)
inputs = tokenizer(sys.argv[2], return_tensors="pt")
stream = TextStreamer(tokenizer, skip_prompt=True)
model.generate(**inputs, max_new_tokens=int(sys.argv[3]), do_sample=False, streamer=stream)
"""


def _own(python: Path, model: Path) -> list[str]:
    length = ["--max-new-tokens", str(TOKENS), "--max-length", "512"]
    # -P: what is installed, and not a checkout that this happens to be started in.
    command = [str(python), "-P", "-m", "pipelines", "llama3", "--model-path", str(model)]
    return [*command, "--prompt", PROMPT, *length]


def _script(text: str) -> Callable[[Path, Path], list[str]]:
    return lambda python, model: [str(python), "-c", text, str(model), PROMPT, str(TOKENS)]


@dataclass(frozen=True)
class Engine:
    """A program that writes text.

    Attributes:
        name: What it is called here.
        requirements: What `pip` is told to install.
        command: How it continues `PROMPT`, given an interpreter and a model.
        large: Whether it can hold an 8B in q4_0 in 24 GiB.
        extra: More arguments, beside those of the same installation.
    """

    name: str
    requirements: Sequence[str]
    command: Callable[[Path, Path], list[str]]
    large: bool = True
    extra: Sequence[str] = ()


ENGINES: Final = (
    Engine("this project", [str(ROOT)], _own),
    Engine("... with `--pack-cache`", [], _own, extra=("--pack-cache",)),
    Engine("llama-cpp-python", ["llama-cpp-python"], _script(_LLAMA_CPP)),
    Engine(
        "transformers",
        ["torch==2.13.0", "transformers", "accelerate", "gguf"],
        _script(_TRANSFORMERS),
        large=False,  # all weights become float32
    ),
)


@dataclass(frozen=True)
class Installation:
    """A virtual environment.

    Attributes:
        python: Its interpreter.
        figures: Megabytes that are downloaded and that it takes on the disk, without `pip`, and
            seconds that the installation took; empty if it was there.
    """

    python: Path
    figures: tuple[float | str, float | str, float | str] = ("", "", "")


def install(requirements: Sequence[str], folder: Path) -> Installation:
    """Installs something into a new virtual environment.

    Raises:
        subprocess.CalledProcessError: `pip` failed.
    """
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin/python"
    before = _nbytes(folder)
    start = time.perf_counter()
    pip = (python, "-m", "pip", "install", "--quiet", "--no-cache-dir")
    subprocess.run([*pip, *requirements], check=True)
    seconds = time.perf_counter() - start
    named = "" if requirements == [str(ROOT)] else "\n".join(requirements)
    downloaded = sum(sizes(named, PLATFORMS["Linux x86-64"]).values())
    return Installation(python, (downloaded / 1e6, (_nbytes(folder) - before) / 1e6, seconds))


def _nbytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def starts(
    engines: Sequence[tuple[Engine, Installation]], model: Path, runs: int
) -> dict[str, tuple[float, float]]:
    """Seconds from the start of a process to its first text, by engine: the first, and later ones.

    The engines take turns; figures are medians. First starts have an empty cache, and the file is
    in the system's memory.
    """

    def seconds(command: Sequence[str], cache: str) -> float:
        read_whole(model)
        return run_command(command, cache).first_byte_s

    first: dict[str, list[float]] = {engine.name: [] for engine, _ in engines}
    later: dict[str, list[float]] = {engine.name: [] for engine, _ in engines}
    for _ in range(runs):
        for engine, installation in engines:
            command = [*engine.command(installation.python, model), *engine.extra]
            with tempfile.TemporaryDirectory() as cache:
                first[engine.name].append(seconds(command, cache))
                later[engine.name] += [seconds(command, cache) for _ in range(2)]
    return {name: (median(first[name]), median(later[name])) for name in first}


def main() -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(description="Measures the way to a first text.")
    parser.add_argument("--install", action="store_true", help="into environments of their own")
    parser.add_argument("--large", type=Path, help="a model file of 8B for the last two columns")
    parser.add_argument("--runs", type=int, default=5, help="runs to take the median of")
    given = parser.parse_args()
    print_machine()
    with tempfile.TemporaryDirectory() as scratch:
        engines: list[tuple[Engine, Installation]] = []
        for number, engine in enumerate(ENGINES):
            here = engines[-1][1] if engines else Installation(Path(sys.executable))
            if given.install and engine.requirements:
                here = install(engine.requirements, Path(scratch) / str(number))
            engines.append((engine, here))
        small = starts(engines, BUNDLED, given.runs)
        large = {}
        if given.large:
            able = [pair for pair in engines if pair[0].large]
            large = starts(able, given.large, max(1, given.runs // 2))
        rows = [
            (
                engine.name,
                *(installed.figures if engine.requirements else ("", "", "")),
                *small[engine.name],
                *large.get(engine.name, ("", "")),
            )
            for engine, installed in engines
        ]
        of_installation = ("MB downloaded", "MB on the disk", "installed in, s")
        of_starts = ("first text, s", "later", "8B, first", "later")
        print_table(("", *of_installation, *of_starts), rows)


if __name__ == "__main__":
    main()
