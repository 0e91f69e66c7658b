"""Loads op packages: what a path holds is checked before anything is made of it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from pipelines.common.encodings import ENCODINGS
from pipelines.common.errors import OpPackageError, one_line
from pipelines.common.files import resolved
from pipelines.common.graph import patterns
from pipelines.common.graph.pattern_trace import Traced, trace
from pipelines.common.graph.rules import KEPT, Emitter, Rule
from pipelines.common.importing import import_from
from pipelines.common.op_packages import NATIVE
from pipelines.common.op_packages.find import FoundPackage
from pipelines.common.op_packages.guard import code_of, guarded, guarded_rule
from pipelines.common.op_packages.library import check_library, registered
from pipelines.common.op_packages.manifest import Manifest, read_manifest
from pipelines.common.ops import DOMAIN, OPERATORS
from pipelines.common.program.package import LoadedPackage, OpPackage
from pipelines.common.shipped import shipped

BARE_TARGET = "cpu"
"""Target that bare libraries are for."""


def load_package(
    package: FoundPackage,
    *,
    targets: Collection[str],
    target: str | None = None,
    strict: bool = False,
) -> LoadedPackage:
    """Loads a package and checks it.

    Args:
        package: Where it is.
        targets: Names of all targets there are.
        target: What is to run; the library is left alone if the package has no rules for it. None
            loads it in any case.
        strict: Whether what its module raises comes through, instead of being one line.

    Raises:
        OpPackageError: It cannot be used.
    """
    name, path = package.name, package.path
    manifest = read_manifest(path)
    build = f"run-pipeline ops build {path}"
    own = _is_own(package)
    strict = strict or own  # what the project's own code raises is a bug
    if manifest.module is not None:
        contents = _contents(name, manifest, strict)
        _check(name, contents, targets, strict)
        contents = _guarded(name, contents, strict)
    else:
        contents = OpPackage("Kernels for the neutral operators.")
    wanted = target is None or target in contents.rules
    library = None
    if manifest.module is None and target in (None, BARE_TARGET):
        library = _library(name, manifest, build)
        contents = replace(contents, rules={BARE_TARGET: _bare_rules(name, library)})
    elif manifest.library is not None and wanted:
        library = _library(name, manifest, build)
    rules = {
        target: tuple(replace(rule, package=name) for rule in rules)
        for target, rules in contents.rules.items()
    }
    contents = replace(contents, rules=rules)
    return LoadedPackage(name, path, contents, library, package.typed, shipped=own)


def _library(name: str, manifest: Manifest, build: str) -> Path:
    library = manifest.find_library()
    if library is None:
        raise LibraryNotBuiltError(
            f"op package '{name}': its library '{manifest.library}' is not built; with a C++"
            f" compiler: {build}"
        )
    try:
        check_library(library, build, manifest.cpu)
    except OpPackageError as error:
        raise OpPackageError(f"op package '{name}': {error}") from error
    return library


def _is_own(package: FoundPackage) -> bool:
    """Whether a package is the project's own, and no stranger's that is called like it."""
    folder = shipped("custom_ops")
    return folder is not None and package.path == resolved(folder / NATIVE)


class LibraryNotBuiltError(OpPackageError):
    """The library of a package is nowhere."""


def _contents(name: str, manifest: Manifest, strict: bool) -> OpPackage:
    assert manifest.module is not None
    folder = manifest.path if manifest.path.is_dir() else None
    try:
        module: ModuleType = import_from(manifest.module, package=folder)
    # This runs code of strangers, which may raise anything; it is the package's failure.
    except (Exception, SystemExit) as error:
        if strict:
            raise
        raise OpPackageError(
            f"op package '{name}' ({manifest.path}) fails: {one_line(error)}"
        ) from error
    contents: Any = getattr(module, "PACKAGE", None)
    if not isinstance(contents, OpPackage):
        found = "nothing" if contents is None else f"a {type(contents).__name__}"
        raise OpPackageError(
            f"op package '{name}': {manifest.module} has {found} under the name PACKAGE; expected"
            " PACKAGE = OpPackage(...)"
        )
    return contents


def _guarded(name: str, contents: OpPackage, strict: bool) -> OpPackage:
    """The same, but that what its functions raise is one line, see `guard.code_of`."""
    operators = contents.operators
    return replace(
        contents,
        rules={
            target: [guarded_rule(rule, name, strict=strict) for rule in rules]
            for target, rules in contents.rules.items()
        },
        layouts={
            layout: guarded(function, name, f"layout '{layout}'", strict=strict)
            for layout, function in contents.layouts.items()
        },
        operators=None if operators is None else _guarded_operators(operators, name, strict),
    )


@functools.cache
def _guarded_operators(
    operators: Callable[[], object], name: str, strict: bool
) -> Callable[[], object]:
    """The same function each time, by which it is called once in a process."""

    def declare() -> None:
        before = set(OPERATORS)
        with code_of(name, "operators", strict=strict):
            operators()
        for operator in OPERATORS.keys() - before:
            declared = OPERATORS[operator]
            guard = functools.partial(guarded, package=name, strict=strict)
            OPERATORS[operator] = replace(
                declared,
                shape=guard(declared.shape, part=f"the shape rule of {operator}"),
                reference=guard(declared.reference, part=f"the reference of {operator}"),
            )

    return declare


def _check(name: str, contents: OpPackage, targets: Collection[str], strict: bool) -> None:
    """Raises `OpPackageError` for whatever is not of its type, or for no target there is."""

    def check(right: bool, what: str) -> None:
        if not right:
            raise OpPackageError(f"op package '{name}': {what}")

    check(isinstance(contents.summary, str), "its summary is no text")
    check(isinstance(contents.rules, Mapping), "its rules are not a mapping from targets to rules")
    check(isinstance(contents.layouts, Mapping), "its layouts are not a mapping from names")
    for layout, function in contents.layouts.items():
        check(callable(function), f"its layout '{layout}' is no function")
    check(contents.operators is None or callable(contents.operators), "operators is no function")
    traces: dict[int, Traced] = {}  # many rules have one pattern, for weights in other encodings
    for target, rules in contents.rules.items():
        known = ", ".join(sorted(targets))
        check(target in targets, f"it has rules for target '{target}'; there are: {known}")
        check(isinstance(rules, Collection), f"its rules for '{target}' are no sequence")
        for rule in rules:
            check(isinstance(rule, Rule), f"{rule!r} among its rules for '{target}' is no Rule")
            _check_rule(name, rule, check, traces, strict)


def _check_rule(
    name: str,
    rule: Rule,
    check: Callable[[bool, str], None],
    traces: dict[int, Traced],
    strict: bool,
) -> None:
    check(isinstance(rule.name, str) and rule.name != "", f"a rule is called {rule.name!r}")
    for part in ("pattern", "emit"):
        check(callable(getattr(rule, part)), f"{part} of rule '{rule.name}' is no function")
    with code_of(name, f"the pattern of rule '{rule.name}'", strict=strict):
        traced = traces.get(id(rule.pattern)) or trace(rule.pattern)
    traces[id(rule.pattern)] = traced
    check(bool(traced.nodes), f"the pattern of rule '{rule.name}' looks for no operator")
    check(isinstance(rule.encodings, Mapping), f"encodings of rule '{rule.name}' are no mapping")
    for parameter, encodings in rule.encodings.items():
        check(
            parameter in traced.parameters,
            f"rule '{rule.name}' has encodings for '{parameter}', which its pattern has not",
        )
        check(
            isinstance(encodings, Collection) and not isinstance(encodings, str),
            f"encodings of '{parameter}' in rule '{rule.name}' are no list of names",
        )
        check(
            len(encodings) > 0,
            f"rule '{rule.name}' takes '{parameter}' in no encoding; leave it out, or name some",
        )
        for encoding in encodings:
            check(
                encoding in ENCODINGS,
                f"rule '{rule.name}' takes encoding {encoding!r}; there are:"
                f" {', '.join(ENCODINGS)}",
            )


_BARE_PATTERNS = (
    patterns.linear,
    patterns.embedding,
    patterns.rms_norm,
    patterns.silu,
    patterns.rope,
    patterns.attention,
)
"""The operators that a bare library can replace."""


def _bare_rules(name: str, library: Path) -> tuple[Rule, ...]:
    """A rule for each neutral operator that a library has, which leaves the node as it is."""
    by_operator = {trace(pattern).operators: pattern for pattern in _BARE_PATTERNS}
    found = registered(library, by_operator, DOMAIN)
    if not found:
        raise OpPackageError(
            f"op package '{name}': {library} has none of the operators {', '.join(by_operator)} in"
            f" domain '{DOMAIN}'; expected one, or a folder with rules for what it has"
        )
    return tuple(_bare_rule(operator, by_operator[operator]) for operator in found)


def _bare_rule(operator: str, pattern: Any) -> Rule:
    traced = trace(pattern)
    (node,) = traced.nodes
    inputs = [value.name for value in node.inputs]

    def emit(op: Emitter, **bound: Any) -> Any:
        if "weight" in bound:
            weight = bound["weight"]
            shape = (op.width(bound["x"]),) if operator == "RMSNorm" else op.shape(weight)
            bound["weight"] = op.weight(weight, "float32", shape)
        values = [bound.pop(name) for name in inputs]
        return getattr(op, operator)(*values, _domain=KEPT, _outputs=len(traced.outputs), **bound)

    weights = {"weight": tuple(ENCODINGS)} if "weight" in inputs else {}
    return Rule(operator, pattern, emit, weights)
