"""Whatever a graph was made from is noticed when it is another, and nothing else is."""

from __future__ import annotations

import importlib
import json
import os
import py_compile
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from kept_graphs import cache_of, get

from pipelines.common import opened
from pipelines.common.graph import lower
from pipelines.common.graph.rules import LoweredGraph, Rule
from pipelines.common.importing import PREFIX, import_from
from pipelines.common.program import sources
from pipelines.common.program.target import Deployment


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path], None]:
    """Has a module loaded, as far as can be told, from a file."""

    def load(name: str, path: Path) -> None:
        loaded = ModuleType(name)
        loaded.__file__ = str(path)
        monkeypatch.setitem(sys.modules, name, loaded)

    return load


@pytest.fixture
def importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that modules are imported from; they are forgotten with the test."""
    folder = tmp_path / "importable"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def while_made(
    made: list[LoweredGraph],  # noqa: ARG001 - what is patched there is patched again
    monkeypatch: pytest.MonkeyPatch,
) -> list[Callable[[], Any]]:
    """What is done while a graph is lowered."""
    actions: list[Callable[[], Any]] = []
    make = lower.lower

    def make_and_act(*args: Any) -> LoweredGraph:
        for action in actions:
            action()
        return make(*args)

    monkeypatch.setattr(lower, "lower", make_and_act)
    return actions


def is_noticed(deployment: Deployment, made: list[LoweredGraph], edit: Callable[[], Any]) -> bool:
    """Whether a graph is made again after an edit, and then kept."""
    get(deployment)
    assert get(deployment) == made[-1]
    before = len(made)
    edit()
    assert get(deployment) == get(deployment) == made[-1]
    return len(made) > before


@pytest.mark.parametrize("name", ["some_rules", f"{PREFIX}rules_0123", "torch.of_another_place"])
@pytest.mark.parametrize("ending", [".py", ".so", ".pyc"])
@pytest.mark.parametrize("edit", ["edited", "deleted"])
def test_a_module_that_was_loaded(
    deployment: Deployment,
    made: list[LoweredGraph],
    module: Callable[[str, Path], None],
    tmp_path: Path,
    name: str,
    ending: str,
    edit: str,
) -> None:
    """Also one of machine code, and one without its source."""
    path = tmp_path / f"module{ending}"
    path.write_text("A = 1\n")
    module(name, path)
    assert is_noticed(
        deployment, made, path.unlink if edit == "deleted" else lambda: path.write_text("2")
    )
    assert len(cache_of(deployment).entries()) == 1


def test_a_large_module(
    deployment: Deployment,
    made: list[LoweredGraph],
    module: Callable[[str, Path], None],
    tmp_path: Path,
) -> None:
    path = tmp_path / "module.so"
    path.write_bytes(bytes(3 << 20))
    module("some_kernels", path)
    assert is_noticed(deployment, made, lambda: path.write_bytes(bytes(3 << 20 - 1) + b"1"))


def test_a_library_is_named_by_its_version(
    deployment: Deployment,
    made: list[LoweredGraph],
    module: Callable[[str, Path], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sources, "_library_folders", lambda: {"torch": f"{tmp_path}/torch/"})
    (tmp_path / "torch").mkdir()
    path = tmp_path / "torch" / "module.py"
    path.write_text("A = 1\n")
    module("torch.module", path)
    assert not is_noticed(deployment, made, lambda: path.write_text("A = 2\n"))
    monkeypatch.setattr("pipelines.common.program.store.versions", lambda: {"torch": "99"})
    get(deployment)
    assert len(made) == 2


def _package(folder: Path) -> Path:
    (folder / "some_package").mkdir()
    (folder / "some_package" / "__init__.py").write_text("from some_package import inner\n")
    (folder / "some_package" / "inner.py").write_text("A = 1\n")
    return folder / "some_package" / "inner.py"


def _namespace(folder: Path) -> Path:
    (folder / "some_package" / "inner").mkdir(parents=True)
    (folder / "some_package" / "inner" / "__init__.py").write_text("A = 1\n")
    importlib.invalidate_caches()
    importlib.import_module("some_package.inner")
    return folder / "some_package" / "inner" / "__init__.py"


def _without_source(folder: Path) -> Path:
    (folder / "some_package.py").write_text("A = 1\n")
    compiled = py_compile.compile(
        str(folder / "some_package.py"), cfile=str(folder / "some_package.pyc")
    )
    (folder / "some_package.py").unlink()
    assert compiled is not None
    return Path(compiled)


def _archive(folder: Path) -> Path:
    path = folder / "archive.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("some_package/__init__.py", "A = 1\n")
    sys.path.insert(0, str(path))
    return path


@pytest.mark.parametrize("kind", [_package, _namespace, _without_source, _archive])
@pytest.mark.parametrize("when", ["before", "while it is made"])
def test_a_module_that_is_imported(
    deployment: Deployment,
    made: list[LoweredGraph],
    while_made: list[Callable[[], Any]],
    importable: Path,
    kind: Callable[[Path], Path],
    when: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", sys.path.copy())
    path = kind(importable)
    importlib.invalidate_caches()
    if when == "before":
        importlib.import_module("some_package")
    else:
        while_made.append(lambda: importlib.import_module("some_package"))
    assert is_noticed(deployment, made, lambda: path.write_bytes(path.read_bytes() + b"\n"))


def test_a_module_that_would_come_from_elsewhere(
    deployment: Deployment,
    made: list[LoweredGraph],
    importable: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where another environment uses the same cache: all files are there, unchanged."""
    _package(importable)
    importlib.import_module("some_package")
    other = tmp_path / "other"
    other.mkdir()
    _package(other)
    monkeypatch.setattr(sys, "path", ["beside the program", *sys.path])
    assert is_noticed(deployment, made, lambda: sys.path.insert(1, str(other)))
    (other / "program").mkdir()
    _package(other / "program")
    assert not is_noticed(deployment, made, lambda: sys.path.insert(0, str(other / "program")))


def test_a_module_that_would_not_be_found(
    deployment: Deployment, made: list[LoweredGraph], importable: Path
) -> None:
    """As that of a program which has made the graph, where another one uses it."""
    _package(importable)
    importlib.import_module("some_package")
    assert not is_noticed(deployment, made, lambda: sys.path.remove(str(importable)))


def test_the_driver_of_another_place_has_entries_of_its_own(
    deployment: Deployment, made: list[LoweredGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = get(deployment)
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.common.program.store.place", lambda _: "elsewhere")
        assert get(deployment) == made[1]
    assert get(deployment) == first


READERS: dict[str, Callable[[Path], Any]] = {
    "text": Path.read_text,
    "bytes": Path.read_bytes,
    "a descriptor": lambda path: os.close(os.open(path, os.O_RDONLY)),
    "json": lambda path: json.loads(path.read_text()),
    "numpy": lambda path: np.fromfile(path, np.uint8),
    "a path in bytes": lambda path: open(os.fsencode(path)).close(),  # noqa: PTH123
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_a_file_that_is_read_while_a_graph_is_made(
    deployment: Deployment,
    made: list[LoweredGraph],
    while_made: list[Callable[[], Any]],
    tmp_path: Path,
    reader: Callable[[Path], Any],
) -> None:
    table = tmp_path / "table"
    table.write_text("1")
    while_made.append(lambda: reader(table))
    assert is_noticed(deployment, made, lambda: table.write_text("2"))


def test_a_file_that_was_looked_for_in_vain(
    deployment: Deployment,
    made: list[LoweredGraph],
    while_made: list[Callable[[], Any]],
    tmp_path: Path,
) -> None:
    table = tmp_path / "table"

    def look() -> None:
        try:
            table.read_text()
        except FileNotFoundError:
            return

    while_made.append(look)
    assert is_noticed(deployment, made, lambda: table.write_text("2"))


READING = """
from pathlib import Path
TABLE = Path(__file__).with_name("table").read_text()
"""


@pytest.mark.parametrize("inside", [True, False], ids=["in a package", "beside the file"])
def test_a_file_that_is_read_by_an_import(
    deployment: Deployment, made: list[LoweredGraph], tmp_path: Path, inside: bool
) -> None:
    folder = tmp_path / "package"
    folder.mkdir()
    path = folder / ("__init__.py" if inside else "rules.py")
    path.write_text(READING)
    (folder / "table").write_text("1")
    import_from(folder if inside else path)
    assert is_noticed(deployment, made, lambda: (folder / "table").write_text("2"))


def test_what_graphs_do_not_depend_on(
    deployment: Deployment,
    made: list[LoweredGraph],
    while_made: list[Callable[[], Any]],
    tmp_path: Path,
) -> None:
    """Else a graph would be made again and again."""
    prompts, output = tmp_path / "prompts", tmp_path / "output"
    lock = cache_of(deployment).root / "some file"
    lock.parent.mkdir()
    prompts.write_text("1")
    prompts.read_text()

    def act() -> None:
        output.write_text("1")
        with output.open("a") as file:
            file.write("2")
        Path("/proc/self/stat").read_text()
        lock.write_text("1")
        lock.read_text()
        os.close(os.open(tmp_path, os.O_RDONLY))

    while_made.append(act)

    def edit() -> None:
        prompts.write_text("2")
        output.write_text("3")
        lock.write_text("2")
        (tmp_path / "another").write_text("4")

    assert not is_noticed(deployment, made, edit)


def test_code_that_is_executed_is_no_import(
    deployment: Deployment, made: list[LoweredGraph], tmp_path: Path
) -> None:
    """As by programs that are sent their code, whatever name it is given."""
    table = tmp_path / "table"
    table.write_text("1")
    opened.watch()
    exec(f"open({str(table)!r}).close()", {"__name__": "some_program"})
    assert not is_noticed(deployment, made, lambda: table.write_text("2"))


def test_what_changes_while_a_graph_is_made_is_not_kept(
    deployment: Deployment,
    made: list[LoweredGraph],
    module: Callable[[str, Path], None],
    while_made: list[Callable[[], Any]],
    tmp_path: Path,
) -> None:
    """The code that was loaded is not what the disk has now."""
    path = tmp_path / "some_rules.py"
    path.write_text("A = 1\n")
    module("some_rules", path)
    while_made.append(lambda: path.write_text(f"A = {len(made)}.5\n"))
    get(deployment)
    (notice,) = deployment.progress.messages  # type: ignore[attr-defined]
    assert notice == f"the graph is not kept: {path} changed while it was made"
    assert get(deployment) == made[1]


@pytest.mark.parametrize("name", ["__main__", "typed_in"])
def test_rules_that_are_in_no_file_make_graphs_that_are_not_kept(
    deployment: Deployment, made: list[LoweredGraph], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def emit(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setitem(sys.modules, name, ModuleType(name))
    emit.__module__ = name
    rule = Rule("a rule", emit, emit)
    for number in range(2):
        assert deployment.program.lowered(deployment, "cpu", (rule,), "float32") == made[number]


def test_a_rule_of_another_module_is_another(
    deployment: Deployment, made: list[LoweredGraph]
) -> None:
    def emit(*_: Any) -> None:
        raise AssertionError

    graphs = []
    for module in (__name__, sources.__name__):
        emit.__module__ = module
        rule = Rule("a rule", emit, emit)
        graphs.append(deployment.program.lowered(deployment, "cpu", (rule,), "float32"))
    assert graphs == made
