"""Times what a first start adds: writing a network down as a graph, and lowering that for the CPU.

python -m benchmarks.building [--shape 8b] [--runs N]

No model file is needed; weights count as q4_0. Imports are timed once, as in a new process.
"""

from __future__ import annotations

import argparse
import time

from benchmarks.random_gguf import SHAPES
from benchmarks.report import median, print_machine, print_table
from pipelines.common.decoder.mixture import MixtureConfig
from pipelines.common.encodings import F32, Q4_0
from pipelines.common.progress import Progress
from pipelines.common.registry.registry import Registry
from pipelines.common.rotary.rope import Rope
from pipelines.common.text_generation import ModelOptions
from pipelines.llama3 import model


def main() -> None:
    """Prints a line for each part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="8b")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    shape = SHAPES[arguments.shape]
    config = MixtureConfig(
        vocabulary=shape.vocabulary,
        context_length=8192,
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        layers=shape.layers,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        norm_epsilon=1e-5,
        rope=Rope(shape.head_dim, 500000.0),
        interleaved=True,
        tied=shape.tied,
    )
    packages = Registry.discover().packages.of_model(ModelOptions(), Progress())
    start = time.perf_counter()
    from pipelines.common.graph.build import build
    from pipelines.common.graph.lower import lower
    from pipelines.common.targets.cpu.rules import RULES

    imports_s = time.perf_counter() - start
    rules = [*(rule for package in packages for rule in package.rules("cpu")), *RULES]
    built, lowered = [], []
    for _ in range(arguments.runs):
        start = time.perf_counter()
        network = model.build(config)
        graph = build(network)
        built.append(time.perf_counter() - start)
        encodings = {
            weight.parameter: F32 if weight.kind == "vector" else Q4_0
            for weight in network.weights()
        }
        start = time.perf_counter()
        lower(graph, rules, encodings, "cpu")
        lowered.append(time.perf_counter() - start)
    print_machine()
    rows = (("imports", imports_s), ("build", median(built)), ("lower", median(lowered)))
    print_table(("part", "s"), rows)


if __name__ == "__main__":
    main()
