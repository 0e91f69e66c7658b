"""The tables of `benchmarks.gpu`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.report import median, print_table

GOALS = {("8b", "q4_0"): 600, ("8b", "f16"): 270}
"""Tokens a second of one sequence that an H200 should reach, by shape and encoding."""

_LARGEST = 12
"""Kernels and operators of a profile that are shown; the JSON has all."""
_NAME_LENGTH = 70

Found = Mapping[str, Any]


def print_tables(report: Mapping[str, Any]) -> None:
    """Prints what a run has found; what it has not, leaves no table."""
    found = [finding for part in report["parts"] for finding in part["findings"]]
    facts = {name: fact for each in _of(found, "facts") for name, fact in each.items()}
    for name, fact in facts.items():
        if name != "kind":
            print(f"- {name}: {fact}")
    rates = _Rates(found)
    _print("rates", ["rate", "before", "after"], rates.rows())
    _print(
        "decode steps",
        [
            *("model", "variant", "sequences", "context", "tokens/s", "goal"),
            *("% of copy bandwidth", "% of read bandwidth"),
        ],
        (_decode(each, rates) for each in _of(found, "decode")),
    )
    _print(
        "text through the scheduler, greedy",
        ["model", "variant", "sequences", "tokens/s"],
        ([*_model(each), each["batch"], each["rate"]] for each in _of(found, "scheduler")),
    )
    _print(
        "prompts",
        ["model", "variant", "tokens", "tokens/s", "TFLOP/s", "% of float16 products"],
        (_prefill(each, rates) for each in _of(found, "prefill")),
    )
    _print(
        "loading",
        ["model", "variant", "s", "read a step, GB", "device memory, GiB", "after all, GiB"],
        _loads(found),
    )
    _print(
        "logits against torch in float32",
        [
            *("model", "variant", "task", "largest difference", "mean", "deviation of logits"),
            *("same first choice, %", "largest preference lost"),
        ],
        (
            [
                *(*_model(each), each["task"], each["largest"], each["mean"], each["deviation"]),
                *(100 * each["agreement"], each["preference"]),
            ]
            for each in _of(found, "parity")
        ),
    )
    for each in _of(found, "kernels"):
        _print(
            f"kernels of a step of one sequence: {_title(each)}",
            ["kernel", "grid", "launches", "µs", "%"],
            _kernels(each),
        )
    for each in _of(found, "operators"):
        _print(
            f"the host's time for operators of a step of one sequence: {_title(each)}",
            ["operator", "µs"],
            [
                *((one["operator"], one["microseconds"]) for one in each["operators"][:_LARGEST]),
                ("whole step", each["step_us"]),
            ],
        )
    _print(
        "products by themselves",
        ["use", "weight", "format", "sequences", "µs", "GB/s", "% of read bandwidth"],
        (_product(each, rates) for each in _of(found, "product")),
    )
    _print(
        "the program itself",
        ["command", "exit code", "s", "text"],
        (
            [each["what"], each["code"], each["seconds"], " ".join(each["text"].split())[:200]]
            for each in _of(found, "command")
        ),
    )
    _print(
        "parts",
        ["part", "status", "s", "errors"],
        (
            [each["name"], each["status"], each["seconds"], "; ".join(each["errors"])]
            for each in report["parts"]
        ),
    )


class _Rates:
    """What the machine gives at the most, measured before and after the rest.

    Args:
        found: All findings of a run.
    """

    def __init__(self, found: Sequence[Found]) -> None:
        bandwidths = _of(found, "bandwidth")
        self.copy = [each["copy_bytes_per_s"] for each in bandwidths]
        self.read = [each["read_bytes_per_s"] for each in bandwidths]
        self.flops = [each["flops_per_s"] for each in _of(found, "matmul")]

    def rows(self) -> Iterator[Sequence[object]]:
        """A row for each rate."""
        for name, rates, unit in (
            ("copying, read and written, GB/s", self.copy, 1e9),
            ("reading, GB/s", self.read, 1e9),
            ("float16 products, TFLOP/s", self.flops, 1e12),
        ):
            if rates:
                yield [name, *(rate / unit for rate in rates), *[""] * (2 - len(rates))]


def _of(found: Sequence[Found], kind: str) -> list[Found]:
    return [finding for finding in found if finding["kind"] == kind]


def _print(title: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table under its title, if it has rows."""
    rows = list(rows)
    if rows:
        print(f"\n{title}\n")
        print_table(header, rows)


def _model(finding: Found) -> tuple[str, str]:
    return f"{finding['shape'].upper()} {finding['encoding']}", finding["variant"]


def _title(finding: Found) -> str:
    return ", ".join(filter(None, _model(finding)))


def _share(amount: float, rates: Sequence[float]) -> object:
    """Percent of what the machine gives; nothing where that was not measured."""
    return 100 * amount / (sum(rates) / len(rates)) if rates else ""


def _decode(each: Found, rates: _Rates) -> Sequence[object]:
    rate = median(each["rates"])
    goal = GOALS.get((each["shape"], each["encoding"]), "") if each["batch"] == 1 else ""
    used = each["bytes_per_step"] * rate / each["batch"]
    return [
        *(*_model(each), each["batch"], round(each["context"]), rate, goal),
        *(_share(used, rates.copy), _share(used, rates.read)),
    ]


def _prefill(each: Found, rates: _Rates) -> Sequence[object]:
    rate = median(each["rates"])
    flops = each["flops"] * rate / each["tokens"]
    return [*_model(each), each["tokens"], rate, flops / 1e12, _share(flops, rates.flops)]


def _loads(found: Sequence[Found]) -> Iterator[Sequence[object]]:
    after = {_model(each): each["device_bytes"] / 2**30 for each in _of(found, "memory")}
    for each in _of(found, "load"):
        yield [
            *(*_model(each), each["seconds"], each["weight_bytes_per_step"] / 1e9),
            *(each["device_bytes"] / 2**30, after.get(_model(each), "")),
        ]


def _kernels(each: Found) -> Iterator[Sequence[object]]:
    if not each["span_us"]:
        return
    shown = each["kernels"][:_LARGEST]
    for kernel in shown:
        yield [
            kernel["name"][:_NAME_LENGTH].replace("|", "/"),
            " x ".join(map(str, kernel["grid"])),
            *(kernel["launches"], kernel["microseconds"]),
            100 * kernel["microseconds"] / each["span_us"],
        ]
    rest = each["busy_us"] - sum(kernel["microseconds"] for kernel in shown)
    waits = each["span_us"] - each["busy_us"]
    for name, amount in (("others", rest), ("between kernels", waits), ("step", each["span_us"])):
        yield [name, "", "", amount, 100 * amount / each["span_us"]]


def _product(each: Found, rates: _Rates) -> Sequence[object]:
    rate = each["bytes"] / each["microseconds"] * 1e6
    weight = f"{each['rows']} x {each['width']}"
    return [
        *(each["use"], weight, each["format"], each["batch"], each["microseconds"]),
        *(rate / 1e9, _share(rate, rates.read)),
    ]
