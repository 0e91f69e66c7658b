"""Measures this project, llama.cpp and the memory's read bandwidth in turns.

    python -m benchmarks.compare [--shapes 1b 8b] [--models-dir DIR] [--only SECTION,...]

Model files of true shape with random weights are written where they are not there yet. Each engine
has processes of its own that stay loaded and sleep while another one works. README.md says how the
figures are made.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks import startup
from benchmarks.bandwidth import bandwidth
from benchmarks.bench import Bench, Memory, Start, llama_cpp_version, say
from benchmarks.engine import Engine
from benchmarks.mixtures import MIXTURES
from benchmarks.random_gguf import SHAPES
from benchmarks.report import median, print_machine, print_table
from benchmarks.series import LLAMA_CPP, OWN, OWN_SINGLE, Comparison
from pipelines.common.errors import PipelineError
from pipelines.common.system import cores

SHORT = 128
"""Tokens of prompt or context where their number is not what matters."""
SMALL_SHAPES = ("tiny", "1b")
"""Shapes that fit into memory in any encoding and that one thread computes in reasonable time."""


OTHERS = ("q8_0", "f32")
"""What small shapes are also measured in, if nothing else is named."""


def decode(bench: Bench, shape: str) -> None:
    """One sequence after contexts of several lengths, from the longest, which is computed once."""
    model = bench.model(shape)
    contexts = sorted(bench.arguments.contexts, reverse=True)
    setup = bench.setup(model, max_length=contexts[0] + bench.arguments.steps)
    with bench.all_warm(setup) as engines:
        figures = [bench.decode("decode", model, engines, n) for n in contexts]
    _print_decode(bench, "context", [(str(one.length), one) for one in reversed(figures)])


def encodings(bench: Bench, shape: str) -> None:
    """One sequence, and a prompt, of models in other encodings, mixed as llama.cpp's files are."""
    named = bench.arguments.encodings or (OTHERS if shape in SMALL_SHAPES else ())
    if not named:
        return
    decoded, prompts = [], []
    for encoding in named:
        model = bench.model(shape, encoding)
        setup = bench.setup(model, max_length=SHORT + bench.arguments.steps)
        with bench.all_warm(setup) as engines:
            decoded.append(bench.decode("encodings", model, engines, SHORT))
            prompts.append(bench.prefill("encodings", model, engines, SHORT))
    _print_decode(bench, "encoding", [(one.encoding, one) for one in decoded])
    _print_rates(f"prompt of {SHORT}", [(one.encoding, one) for one in prompts])


def prefill(bench: Bench, shape: str) -> None:
    """Prompts of several lengths."""
    model = bench.model(shape)
    setup = bench.setup(model, max_length=max(bench.arguments.prompts) + 1)
    with bench.all_warm(setup) as engines:
        figures = [bench.prefill("prefill", model, engines, n) for n in bench.arguments.prompts]
    _print_rates("prompt", [(str(one.length), one) for one in figures])


def batch(bench: Bench, shape: str) -> None:
    """Several texts side by side, and in turns with them one alone."""
    model = bench.model(shape)
    length = SHORT + 1 + bench.arguments.steps
    rows = []
    with bench.own(bench.setup(model, max_length=length), OWN_SINGLE) as single:
        single.warm_up()
        for sequences in bench.arguments.sequences:
            setup = bench.setup(model, max_length=length, slots=sequences)
            with bench.all_warm(setup) as engines:
                one = bench.decode(
                    "batch",
                    model,
                    [single, *engines],
                    SHORT,
                    task=Engine.generate,
                    overhead_of=engines[0],
                )
            assert one.overhead is not None
            rows.append(
                (
                    sequences,
                    one.rate(OWN),
                    one.ratio(OWN, OWN_SINGLE),
                    one.rate(LLAMA_CPP),
                    one.ratio(OWN, LLAMA_CPP),
                    100 * one.overhead,
                )
            )
    header = ["sequences", f"{OWN}, tokens/s", "times one", f"{LLAMA_CPP}, tokens/s", "ratio"]
    _print([*header, "scheduling and sampling, % of a step"], rows)


def start(bench: Bench, shape: str) -> None:
    """Whole processes, to the first token after a short prompt; the file is in the page cache."""
    model = bench.model(shape)
    prompt = 16
    command = [
        *("llama3", "--model-path", str(model.path), "--quantization-encoding", "auto"),
        *("--threads", str(bench.arguments.threads), "--max-new-tokens", "1", "--json"),
        *(() if bench.arguments.native_ops else ("--no-native-ops",)),
        # The tokenizer puts one token in front.
        *("--prompt", "<|reserved_special_token_0|>" * (prompt - 1)),
    ]
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as cache:
        for run in range(1 + bench.arguments.prefill_runs):
            say(f"start: {model.name}: {run or 'the first one, which fills the caches'}")
            model.read()
            taken = {OWN: startup.run(command, cache).first_byte_s}
            if bench.arguments.llama:
                model.read()
                setup = bench.setup(model, max_length=prompt)
                begin = time.perf_counter()
                with bench.llama_cpp(setup) as engine:
                    engine.prefill(prompt)
                    taken[LLAMA_CPP] = time.perf_counter() - begin
            if run:
                for name, value in taken.items():
                    seconds.setdefault(name, []).append(value)
    starts = [Start(shape, name, values) for name, values in seconds.items()]
    bench.starts.extend(starts)
    _print(
        ["start of process to first token", "s"],
        [(one.engine, median(one.seconds)) for one in starts],
    )


def memory(bench: Bench, shape: str) -> None:
    """Peak memory of fresh processes that compute a prompt and some steps."""
    model = bench.model(shape)
    prompt, steps = 512, 8
    needed = model.total_bytes + model.kv_bytes(prompt + steps)
    rows = []
    for engine in bench.each(bench.setup(model, max_length=prompt + steps)):
        with engine:
            say(f"memory: {model.name}: {engine.name}")
            engine.decode(prompt, steps)
            one = Memory(shape, engine.name, engine.peak_bytes(), needed)
        bench.memory.append(one)
        rows.append((one.engine, one.peak_bytes / 2**30, needed / 2**30, one.peak_bytes / needed))
    _print(["process", "peak memory, GiB", "weights and KV, GiB", "ratio"], rows)


def one_thread(bench: Bench, shape: str) -> None:
    """Both tasks with one thread, which the memory does not limit."""
    model = bench.model(shape)
    setup = bench.setup(model, max_length=SHORT + bench.arguments.steps, threads=1)
    with bench.all_warm(setup) as engines:
        rows = [
            (
                f"decoding after {SHORT}",
                bench.decode("one-thread", model, engines, SHORT, limited=False),
            ),
            (f"prompt of {SHORT}", bench.prefill("one-thread", model, engines, SHORT)),
        ]
    _print_rates("one thread", rows)


SECTIONS: dict[str, Callable[[Bench, str], None]] = {
    "decode": decode,
    "encodings": encodings,
    "prefill": prefill,
    "batch": batch,
    "start": start,
    "memory": memory,
    "one-thread": one_thread,
}
SMALL_ONLY = ("one-thread",)


def _print_decode(bench: Bench, name: str, rows: list[tuple[str, Comparison]]) -> None:
    engines = (OWN, LLAMA_CPP)
    _print(
        [
            name,
            f"read bandwidth ({bench.source.method}), GB/s",
            *(f"{engine}, {what}" for engine in engines for what in ("tokens/s", "% of roofline")),
            "ratio",
        ],
        [
            (
                label,
                one.bandwidth() / 1e9,
                *(figure for engine in engines for figure in (one.rate(engine), one.share(engine))),
                one.ratio(*engines),
            )
            for label, one in rows
        ],
    )


def _print_rates(name: str, rows: list[tuple[str, Comparison]]) -> None:
    _print(
        [name, f"{OWN}, tokens/s", f"{LLAMA_CPP}, tokens/s", "ratio"],
        [
            (label, one.rate(OWN), one.rate(LLAMA_CPP), one.ratio(OWN, LLAMA_CPP))
            for label, one in rows
        ],
    )


def _print(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    print_table(header, [["-" if cell is None else cell for cell in row] for row in rows])
    print(flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Measures this project, llama.cpp and the read bandwidth in turns."
    )
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["1b", "8b"])
    parser.add_argument("--models-dir", type=Path, default=Path("models"), help="of the files")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all figures to a file")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="draw what was measured as SVG")
    parser.add_argument("--contexts", nargs="+", type=int, default=[128, 512, 1024, 2048, 4096])
    parser.add_argument("--prompts", nargs="+", type=int, default=[128, 512, 2048])
    parser.add_argument("--sequences", nargs="+", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument(
        "--encodings", nargs="+", choices=[*MIXTURES], help="of `encodings`, also for large shapes"
    )
    parser.add_argument("--threads", type=int, default=cores(), help="of each engine")
    parser.add_argument("--steps", type=int, default=32, help="decode steps of a run")
    parser.add_argument("--runs", type=int, default=7, help="runs of decoding, in turns")
    parser.add_argument("--prefill-runs", type=int, default=3, help="of prompts and starts")
    parser.add_argument(
        "--no-native-ops",
        dest="native_ops",
        action="store_false",
        help="measure this project without its own CPU kernels",
    )
    parser.add_argument(
        "--llama-python", default=sys.executable, help="interpreter that has llama-cpp-python"
    )
    parser.add_argument(
        "--no-llama", dest="llama", action="store_false", help="measure without llama.cpp"
    )
    return parser.parse_args()


def main() -> None:
    """Reads the command line, measures, prints."""
    arguments = _parse()
    if arguments.plot:
        from benchmarks.plot import plot
    if arguments.llama:
        print(f"- llama.cpp: {llama_cpp_version(arguments.llama_python)}")
    print_machine()
    with bandwidth() as source:
        bench = Bench(arguments, source)
        for shape in arguments.shapes:
            for name in arguments.only:
                if name in SMALL_ONLY and shape not in SMALL_SHAPES:
                    continue
                print(f"### {shape.upper()}: {name}\n", flush=True)
                SECTIONS[name](bench, shape)
                if arguments.json:
                    arguments.json.write_text(json.dumps(bench.as_json(), indent=2) + "\n")
    if arguments.plot:
        plot(bench.comparisons, arguments.plot)


if __name__ == "__main__":
    try:
        main()
    except PipelineError as error:
        sys.exit(f"error: {error}")
