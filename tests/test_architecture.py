"""The arrows between the parts: who may import whom."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pipelines

ROOT = Path(pipelines.__file__).parent

# The folders and modules of pipelines.common; each may import those above it and itself.
ORDER = (
    "errors",
    "elementary",
    "escapes",
    "dependencies",
    "progress",
    "opened",
    "files",
    "hub",
    "utf8",
    "deferred",
    "importing",
    "bystanders",
    "shipped",
    "system",
    "parallel",
    "disk",
    "cache",
    "encodings",
    "text",
    "chat",
    "checkpoints",
    "conversion",
    "rotary",
    "decoder",
    "encoder",
    "ops",
    "nn",
    "graph",
    "view",
    "program",
    "engine",
    "measure",
    "requests",
    "ort",
    "targets",
    "op_packages",
    "op_check",
    "batch",
    "text_generation",
    "export",
    "scaffold",
    "models",
    "registry",
    "pipeline_check",
    "python",
    "cli",
)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_name(path): path
    for folder in (ROOT, ROOT.parent / "benchmarks")
    for path in sorted(folder.rglob("*.py"))
}


def run_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only type checkers see."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from run_time_nodes(child)


def imports(name: str, nodes: Callable[[ast.AST], Iterator[ast.AST]] = run_time_nodes) -> set[str]:
    """The modules that a module imports when it runs, also inside functions."""
    found: set[str] = set()
    for node in nodes(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: imports are absolute"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                found.add(submodule if submodule in MODULES else str(node.module))
    return found


def part(name: str) -> str | None:
    """The folder or module of pipelines.common that a module belongs to."""
    inner = name.removeprefix("pipelines.common.")
    return inner.split(".")[0] if inner != name else None


def is_within(name: str, *packages: str) -> bool:
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


def test_the_check_sees_imports_wherever_they_stand():
    assert "pipelines.common.cli.run" in imports("pipelines.common.cli.generate")  # in a function
    assert "pipelines.common.registry.builtins" in imports(
        "pipelines.common.registry.plugins"
    )  # from a package
    assert "pipelines.common.text_generation" not in imports("pipelines.common.registry.hookspecs")


@pytest.mark.parametrize("name", [name for name in MODULES if is_within(name, "pipelines.common")])
def test_arrows_between_the_parts_run_one_way(name):
    own = part(name)
    assert own in ORDER or name == "pipelines.common", "give the new part its place in ORDER"
    for imported in imports(name, ast.walk):  # type checkers' arrows as well
        if (other := part(imported)) is not None:
            assert own is not None
            assert ORDER.index(other) <= ORDER.index(own), f"{name} imports {imported}"


def test_benchmarks_import_each_other_one_way():
    arrows = {
        name: imports(name) & MODULES.keys() - {name}
        for name in MODULES
        if is_within(name, "benchmarks")
    }
    assert "benchmarks.gpu_parts.part" in arrows["benchmarks.gpu_parts.perform"]
    while leaves := [name for name, imported in arrows.items() if not imported & arrows.keys()]:
        for name in leaves:
            del arrows[name]
    assert not arrows, "they import each other in a circle"


def test_nothing_in_common_knows_a_pipeline():
    for name in MODULES:
        if is_within(name, "pipelines.common"):
            for imported in imports(name):
                assert (
                    imported == "pipelines"
                    or not is_within(imported, "pipelines")
                    or is_within(imported, "pipelines.common")
                ), f"{name} imports {imported}"


def test_pipelines_know_neither_each_other_nor_the_command_line():
    for name in MODULES:
        started = name in ("pipelines", "pipelines.__main__")
        if started or is_within(name, "pipelines.common", "benchmarks"):
            continue
        package = ".".join(name.split(".")[:2])
        for imported in imports(name):
            if is_within(imported, "pipelines") and imported != "pipelines":
                assert is_within(imported, package, "pipelines.common"), f"{name}: {imported}"
                assert not is_within(
                    imported, "pipelines.common.cli", "pipelines.common.registry.builtins"
                )


def test_targets_do_not_know_each_other():
    for name in MODULES:
        if not is_within(name, "pipelines.common.targets") or name == "pipelines.common.targets":
            continue
        target = ".".join(name.split(".")[:4])
        for imported in imports(name):
            if is_within(imported, "pipelines.common.targets"):
                assert is_within(imported, target), f"{name} imports {imported}"


def test_errors_import_nothing():
    assert imports("pipelines.common.errors") <= {"__future__", "collections.abc", "typing"}


# Where the two big libraries may be imported at all.
USERS = {
    "torch": {"checkpoints", "ops", "nn", "graph", "op_check", "targets"},  # one format is its own
    "onnxruntime": {"ort", "targets"},
}


@pytest.mark.parametrize("library", USERS)
def test_big_libraries_stay_where_they_belong(library):
    for name in MODULES:
        own = part(name)
        if own is not None and own not in USERS[library]:
            assert not any(is_within(i, library) for i in imports(name)), f"{name}: {library}"


NAMED = re.findall(
    r"`((?:[\w-]+/)*[\w-]+(?:\.\w+|/))`", (ROOT.parent / "docs/architecture.md").read_text()
)


def test_the_document_names_what_there_is():
    """Files and folders, of the repository or of pipelines/common."""
    paths = [name for name in NAMED if "/" in name and not name.startswith("/")]
    assert len(paths) > 50
    for path in paths:
        assert (ROOT.parent / path).exists() or (ROOT / "common" / path).exists(), path
