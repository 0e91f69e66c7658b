"""What a graph consists of, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.common.cli.formatting import human_count, human_size


def report(record: Mapping[str, Any]) -> list[str]:
    """Operators, rules and parts in aligned tables.

    Args:
        record: What ``graph --json`` prints.
    """
    graphs = list(record["total"])
    lines = [
        f"{record['pipeline']} on {record['target']}, activations in {record['activations']};"
        f" bytes are read for one token at a context of {record['context']:,}",
    ]
    if "neutral" not in graphs:
        lines += ["an exported folder: there is only the lowered graph, and FLOPs are not known"]
    lines += ["", *_operators(record, graphs), "", *_rules(record), "", *_parts(record, graphs)]
    for name in graphs:
        rate = record["tokens_per_s_at_100_gb_per_s"][name]
        lines += [f"{name}: at most {_rate(rate)} tok/s for each 100 GB/s of memory bandwidth"]
    return lines


def _operators(record: Mapping[str, Any], graphs: Sequence[str]) -> list[str]:
    heading = ["Operators", *(cell for name in graphs for cell in (name, "bytes"))]
    rows = [
        [
            operator["operator"],
            *(cell for name in graphs for cell in _counted(operator[name])),
        ]
        for operator in record["operators"]
    ]
    total = ["total"]
    for name in graphs:
        nodes = sum(operator[name]["nodes"] for operator in record["operators"])
        total += [f"{nodes:,}", human_size(_bytes(record["total"][name]))]
    return _table(heading, [*rows, total])


def _counted(counted: Mapping[str, int]) -> tuple[str, str]:
    nodes, size = counted["nodes"], counted["bytes"]
    return f"{nodes:,}" if nodes else "-", human_size(size) if size else ""


def _rules(record: Mapping[str, Any]) -> list[str]:
    origins = [taken["package"] or record["target"] for taken in record["rules"]]
    names = [taken["rule"] for taken in record["rules"]]
    first, second = (max(map(len, cells), default=0) for cells in (origins, names))
    return [
        "Rules, with what they took",
        *(
            f"  {origin:<{first}}  {name:<{second}}  {taken['nodes']:>3} x {taken['operators']}"
            for origin, name, taken in zip(origins, names, record["rules"], strict=True)
        ),
    ]


def _parts(record: Mapping[str, Any], graphs: Sequence[str]) -> list[str]:
    flops = ["FLOPs"] if "neutral" in graphs else []
    heading = ["Parts", *(cell for name in graphs for cell in (f"{name}: weights", "KV state"))]
    rows = [
        [
            part["part"],
            *(cell for name in graphs for cell in _sizes(part[name])),
            *(human_count(part["neutral"]["flops"]) for _ in flops),
        ]
        for part in (*record["parts"], {"part": "total", **record["total"]})
    ]
    return _table([*heading, *flops], rows)


def _sizes(cost: Mapping[str, int]) -> tuple[str, str]:
    return human_size(cost["weights"]), human_size(cost["state"]) if cost["state"] else "-"


def _bytes(cost: Mapping[str, int]) -> int:
    return cost["weights"] + cost["state"]


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}"


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: names on the left, numbers on the right; the heading stands out."""
    table = [heading, *([f"  {row[0]}", *row[1:]] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join([f"{row[0]:<{widths[0]}}", *map("{:>{}}".format, row[1:], widths[1:])]).rstrip()
        for row in table
    ]
