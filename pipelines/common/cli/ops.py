"""``ops``: what custom op packages bring, whether it is right, and building them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.common import dependencies
from pipelines.common.cli.command import Command
from pipelines.common.cli.console import ConsoleProgress
from pipelines.common.cli.context import registry_of
from pipelines.common.cli.options import AsJson, path_of
from pipelines.common.cli.streams import print_json, print_lines
from pipelines.common.cli.wording import worded
from pipelines.common.errors import OpPackageError

if TYPE_CHECKING:
    from pipelines.common.op_check.check import Checked

app = typer.Typer(help="List, check or build custom op packages.", no_args_is_help=True)

Package = Annotated[
    Path,
    typer.Argument(
        parser=path_of("PACKAGE"),
        metavar="PACKAGE",
        help="Path of an op package, or the name of a registered one.",
    ),
]


@app.command("list", cls=Command)
def list_rules(
    ctx: typer.Context,
    packages: Annotated[
        list[Path] | None,
        typer.Argument(
            parser=path_of("PACKAGE"),
            metavar="[PACKAGE]...",
            help="Paths or names; the registered packages by default.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the rules of op packages: what each takes, in which encodings."""
    from pipelines.common.graph.pattern_trace import trace

    registry = registry_of(ctx)
    records: list[dict[str, Any]] = []
    for reference in map(str, packages or registry.op_packages):
        record: dict[str, Any] = {"package": reference, "rules": [], "problem": None}
        records.append(record)
        try:
            package = registry.packages.load(registry.packages.typed(reference))
        except OpPackageError as error:
            if packages:
                raise
            record["problem"] = worded(str(error))
            continue
        record |= {"package": package.name, "summary": package.contents.summary}
        record["rules"] = [
            {
                "target": target,
                "rule": rule.name,
                "operators": trace(rule.pattern).operators,
                "encodings": {name: list(taken) for name, taken in rule.encodings.items()},
            }
            for target, rules in package.contents.rules.items()
            for rule in rules
        ]
    if as_json:
        print_json(records)
        return
    lines = []
    for record in records:
        lines += [f"{record['package']}: {record['problem'] or record['summary']}"]
        lines += _table(
            ("target", "rule", "operators", "encodings"),
            [
                (r["target"], r["rule"], r["operators"], _in(r["encodings"]))
                for r in record["rules"]
            ],
        )
    print_lines(*lines)


@app.command("check", cls=Command)
def check_package(ctx: typer.Context, package: Package, as_json: AsJson = False) -> None:
    """Run a package's rules for the CPU on examples, against the reference of each operator."""
    dependencies.check("torch")  # the references
    from pipelines.common.op_check.check import check
    from pipelines.common.op_packages.freshness import outdated
    from pipelines.common.op_packages.manifest import read_manifest

    registry = registry_of(ctx)
    loaded = registry.packages.load(registry.packages.typed(str(package)))
    if why := outdated(read_manifest(loaded.path)):
        ConsoleProgress().notice(
            f"{loaded.library} {why}, and that build is what is checked; build it again:"
            f" run-pipeline ops build {package}"
        )
    with ConsoleProgress().shown(f"Checking {loaded.name}"):
        results = list(check(loaded))
    if as_json:
        print_json(
            [
                {
                    **dataclasses.asdict(result),
                    # JSON has no infinities.
                    "error": result.error if math.isfinite(result.error) else None,
                    "ok": result.ok,
                }
                for result in results
            ]
        )
    else:
        _print_results(results)
    if not all(result.ok for result in results):
        raise typer.Exit(1)


@app.command("build", cls=Command)
def build_package(ctx: typer.Context, package: Package) -> None:
    """Compile a package's library; needs CMake and a C++ compiler."""
    from pipelines.common.op_packages.build import build

    path = registry_of(ctx).packages.typed(str(package)).path
    with ConsoleProgress().shown(f"Compiling {path.name}"):
        library = build(path)
    print_lines(f"built {library}")


def _print_results(results: Sequence[Checked]) -> None:
    lines = _table(
        ("rule", "operators", "encodings", "examples", "error", "allowed", ""),
        [
            (
                result.rule,
                result.operators,
                _in({name: [encoding] for name, encoding in result.encodings.items()}),
                str(len(result.shapes)),
                f"{result.error:.1e}" if result.shapes else "",
                f"{result.tolerance:.0e}",
                "ok" if result.ok else f"FAILED {result.problem or ''}".rstrip(),
            )
            for result in results
        ],
    )
    failed = sum(not result.ok for result in results)
    print_lines(*lines, f"{len(results)} checks, {f'{failed} failed' if failed else 'all ok'}")


def _in(encodings: Mapping[str, Collection[str]]) -> str:
    """Encodings of weights, whose names are left out where all have the same."""
    spelled = {name: ", ".join(taken) for name, taken in encodings.items()}
    if len(set(spelled.values())) == 1:
        return next(iter(spelled.values()))
    return "; ".join(f"{name}: {taken}" for name, taken in spelled.items())


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    table = [heading, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        yield f"  {'  '.join(cells)}".rstrip()
