"""What is an op package and what is not, each refusal in one line that says what to do."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from libraries import SILU, SUFFIX, Messages, compile_library

from pipelines.common.errors import OpPackageError
from pipelines.common.op_packages.find import FoundPackage, typed
from pipelines.common.op_packages.load import load_package
from pipelines.common.program.package import LoadedPackage
from pipelines.common.registry.entries import Entry
from pipelines.common.registry.hookspecs import OpPackageRecord
from pipelines.common.registry.registry import Registry
from pipelines.common.system import processor_features
from pipelines.common.text_generation import ModelOptions

MODULE = """
from pipelines.common.graph import patterns
from pipelines.common.graph.rules import Rule
from pipelines.common.program.package import OpPackage

PACKAGE = OpPackage("Example.", {"cpu": [Rule("mine", patterns.silu, lambda op, x: op.Mine(x))]})
"""

TARGETS = ("cpu", "torch")


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """A package folder."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder


def load(path: Path, target: str | None = "cpu") -> LoadedPackage:
    (package,) = typed([str(path)], ())
    return load_package(package, targets=TARGETS, target=target)


def refused(path: Path) -> str:
    with pytest.raises(OpPackageError) as error:
        load(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value) or path.stem in str(error.value)
    return str(error.value)


def test_a_file_is_a_package(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(MODULE)
    package = load(path)
    assert (package.name, package.path, package.library) == ("mine", path, None)
    (rule,) = package.rules("cpu")
    assert (rule.name, rule.package) == ("mine", "mine")
    assert package.rules("torch") == ()


def test_the_module_of_a_folder_may_have_others_beside_it(tmp_path: Path) -> None:
    module = MODULE.replace('"Example."', "summary") + "\n"
    folder = write(
        tmp_path / "folder",
        {
            "op_package.toml": 'module = "rules.py"',
            "rules.py": "from .texts import summary\n" + module,
            "texts.py": "summary = 'From beside.'",
        },
    )
    assert load(folder).contents.summary == "From beside."


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ("module = ", "cannot be read"),
        ("", "neither a module nor a library"),
        ('modul = "rules.py"', "unknown key 'modul'"),
        ('module = "../rules.py"', "outside the folder"),
        ('module = "/etc/rules.py"', "outside the folder"),
        ('module = "gone.py"', "no .py file in the folder"),
        ("module = 3", "module is 3; expected a text"),
        ('library = "../x"', "expected a base name"),
        ('library = "x"\ncpu = "avx2"', "expected a list"),
    ],
)
def test_a_broken_manifest(tmp_path: Path, manifest: str, said: str) -> None:
    (tmp_path / "rules.py").write_text(MODULE)
    assert said in refused(write(tmp_path / "folder", {"op_package.toml": manifest}))


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("PACKAGE = (", "SyntaxError"),
        ("import a_module_that_is_not_there", "a_module_that_is_not_there"),
        ("raise ValueError('on\\ntwo lines')", "ValueError: on two lines"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("", "has nothing under the name PACKAGE"),
        ("PACKAGE = {}", "has a dict under the name PACKAGE"),
        (MODULE.replace('"cpu"', '"gpu"'), "target 'gpu'; there are: cpu, torch"),
        (MODULE.replace("[Rule(", "[3, Rule("), "3 among its rules"),
        (MODULE.replace("patterns.silu,", "None,"), "pattern of rule 'mine' is no function"),
        (
            MODULE.replace("patterns.silu,", "lambda op, x: x.nothing,"),
            "the pattern of rule 'mine' fails: AttributeError",
        ),
        (MODULE.replace("patterns.silu,", "lambda op, x: x,"), "looks for no operator"),
        (MODULE.replace("op.Mine(x))", "1, {'y': ['q4_0']})"), "'y', which its pattern has not"),
        (MODULE.replace("op.Mine(x))", "1, {'x': ['q4_9']})"), "takes encoding 'q4_9'"),
        (MODULE.replace("op.Mine(x))", "1, {'x': 'q4_0'})"), "no list of names"),
        (MODULE.replace("})", "}, layouts={'a': 1})"), "its layout 'a' is no function"),
    ],
)
def test_a_broken_module(tmp_path: Path, module: str, said: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(module)
    assert said in refused(path)


def test_strict_raises_what_the_module_raised(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("1 / 0")
    with pytest.raises(ZeroDivisionError):
        load_package(FoundPackage("broken", path, typed=True), targets=TARGETS, strict=True)


def test_what_is_no_package(tmp_path: Path) -> None:
    assert "no such op package" in refused(tmp_path / "nothing")
    (tmp_path / "text.txt").touch()
    for path in (tmp_path, tmp_path / "text.txt"):
        assert "expected a folder with op_package.toml" in refused(path)


def test_nothing_is_loaded_that_lies_beside(tmp_path: Path) -> None:
    """A file or folder is a package by itself; its neighbours stay untouched."""
    write(
        tmp_path / "folder",
        {"op_package.toml": 'module = "rules.py"', "rules.py": MODULE, "other.py": "1 / 0"},
    )
    (tmp_path / "beside.py").write_text("1 / 0")
    load(tmp_path / "folder")


def folder_with_library(path: Path, library: Path | None = None, cpu: str = "[]") -> Path:
    manifest = f'module = "rules.py"\nlibrary = "kernels"\ncpu = {cpu}'
    folder = write(path, {"op_package.toml": manifest, "rules.py": MODULE})
    if library is not None:
        (folder / f"libkernels{SUFFIX}").write_bytes(library.read_bytes())
    return folder


def test_a_library_that_is_not_built(tmp_path: Path) -> None:
    folder = folder_with_library(tmp_path / "folder")
    said = refused(folder)
    assert "not built" in said
    assert f"run-pipeline ops build {folder}" in said


def test_a_library_is_left_alone_where_no_rule_wants_it(tmp_path: Path) -> None:
    assert load(folder_with_library(tmp_path / "folder"), target="torch").library is None


def test_a_library_for_nobody(tmp_path: Path) -> None:
    path = tmp_path / f"text{SUFFIX}"
    path.write_text("This is no library, though it is long enough to have a header." * 9)
    assert "built for another platform" in refused(path)


@pytest.mark.skipif(sys.platform != "linux", reason="the header that is forged is Linux's")
def test_a_library_for_another_processor(tmp_path: Path, silu_library: Path) -> None:
    content = bytearray(silu_library.read_bytes())
    content[18:20] = (62 if platform.machine() == "aarch64" else 183).to_bytes(2, "little")
    path = tmp_path / "other.so"
    path.write_bytes(content)
    said = refused(path)
    assert f"another platform than Linux on {platform.machine()}" in said
    assert "run-pipeline ops build" in said


def test_a_processor_without_what_the_library_needs(tmp_path: Path, silu_library: Path) -> None:
    folder = folder_with_library(
        tmp_path / "folder", silu_library, '["time_travel", "antigravity"]'
    )
    assert "needs a processor with antigravity, time_travel" in refused(folder)


@pytest.mark.parametrize(
    "line", ["flags\t\t: fpu avx2 avx512f", "Features\t: asimd avx2 asimddp avx512f"]
)
def test_features_are_read_as_linux_spells_them(tmp_path: Path, line: str) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\n{line}\n\nprocessor\t: 1\n{line}\n")
    assert {"avx2", "avx512f"} <= processor_features(cpuinfo)
    assert processor_features(tmp_path / "gone") == frozenset()


def test_a_library_of_something_else(tmp_path: Path) -> None:
    path = compile_library(tmp_path / f"other{SUFFIX}", 'extern "C" int answer() { return 42; }')
    assert "does not export RegisterCustomOps" in refused(path)


REFUSING = """
#include <cstdint>
struct Base { const void* (*table)(uint32_t); const char* (*version)(); };
using Create = void* (*)(int, const char*);
extern "C" __attribute__((visibility("default"))) void* RegisterCustomOps(void*, const Base* base) {
  return (*static_cast<const Create*>(base->table(1)))(1, "made for : 0.1 only");
}
"""


def test_a_library_for_another_runtime(tmp_path: Path) -> None:
    said = refused(compile_library(tmp_path / f"refusing{SUFFIX}", REFUSING))
    assert "refuses ONNX Runtime 1." in said
    assert "made for : 0.1 only" in said


def test_a_bare_library_has_rules_for_what_it_has(silu_library: Path) -> None:
    package = load(silu_library)
    assert {rule.name for rule in package.rules("cpu")} == {"SiLU", "Embedding"}
    assert {rule.package for rule in package.rules("cpu")} == {"two_kernels"}
    assert load(silu_library, target="torch").library is None


def test_a_bare_library_without_neutral_operators(tmp_path: Path) -> None:
    source = SILU.replace('"pipelines"', '"elsewhere"')
    said = refused(compile_library(tmp_path / f"strange{SUFFIX}", source))
    assert "has none of the operators Linear, Embedding" in said


class TestOfARun:
    """The packages of a run: in which order, and what is only a notice."""

    @pytest.fixture
    def registry(self) -> Registry:
        """One without what ships with the project."""
        registry = Registry.discover()
        self.builtin = registry.op_packages.pop("native")
        return registry

    def register(self, registry: Registry, name: str, path: Path) -> None:
        record = OpPackageRecord(name, "Example.", path, everywhere=True)
        registry.op_packages[name] = Entry(record, self.builtin.plugin)

    def loaded(self, registry: Registry, messages: Messages, *paths: Path) -> list[str]:
        packages = registry.packages.of_model(ModelOptions(custom_ops=paths), messages)
        return [package.name for package in packages]

    def make(self, path: Path, module: str = MODULE) -> Path:
        path.parent.mkdir(exist_ok=True)
        path.write_text(module)
        return path

    def test_the_last_comes_first_and_plugins_after(
        self, registry: Registry, messages: Messages, tmp_path: Path
    ) -> None:
        a, b, c, d = (self.make(tmp_path / f"{name}.py") for name in "abcd")
        self.register(registry, "c", c)
        self.register(registry, "d", d)
        assert self.loaded(registry, messages, a, b) == ["b", "a", "d", "c"]
        # Named, what a plugin brings is among the named; and nothing is there twice.
        assert self.loaded(registry, messages, c, a, c) == ["c", "a", "d"]

    def test_of_two_for_one_pattern_the_last_wins_and_says_so(
        self, registry: Registry, messages: Messages, tmp_path: Path
    ) -> None:
        a, b = self.make(tmp_path / "a.py"), self.make(tmp_path / "b.py")
        self.register(registry, "c", self.make(tmp_path / "c.py"))
        self.loaded(registry, messages, b, a)
        (notice,) = messages.notices
        assert "'b' and 'a' both have a rule for SiLU; 'a'" in notice

    def test_two_of_one_name(self, registry: Registry, messages: Messages, tmp_path: Path) -> None:
        paths = [self.make(tmp_path / folder / "same.py") for folder in ("one", "two")]
        with pytest.raises(OpPackageError) as error:
            self.loaded(registry, messages, *paths)
        assert "called 'same'" in str(error.value)
        assert all(str(path) in str(error.value) for path in paths)

    def test_one_that_was_named_and_is_broken_is_an_error(
        self, registry: Registry, messages: Messages, tmp_path: Path
    ) -> None:
        with pytest.raises(OpPackageError):
            self.loaded(registry, messages, self.make(tmp_path / "broken.py", "1 / 0"))

    def test_one_that_a_plugin_brings_and_is_broken_is_a_notice(
        self, registry: Registry, messages: Messages, tmp_path: Path
    ) -> None:
        self.register(registry, "broken", self.make(tmp_path / "broken.py", "1 / 0"))
        assert self.loaded(registry, messages, self.make(tmp_path / "a.py")) == ["a"]
        (notice,) = messages.notices
        assert "'broken' is left out" in notice
        assert "ZeroDivisionError" in notice

    def test_native_kernels_that_are_not_built(
        self, registry: Registry, messages: Messages, tmp_path: Path
    ) -> None:
        self.register(registry, "native", folder_with_library(tmp_path / "native"))
        assert self.loaded(registry, messages) == []
        (notice,) = messages.notices
        assert "the stock operators run" in notice
        assert "run-pipeline ops build native" in notice

        options = ModelOptions(native_ops=False)
        assert registry.packages.of_model(options, messages) == ()
        assert [p.name for p in registry.packages.of_model(ModelOptions(target="torch"), messages)]
        assert len(messages.notices) == 1

    def test_a_package_goes_by_its_name_too(self, registry: Registry, tmp_path: Path) -> None:
        path = self.make(tmp_path / "file.py")
        self.register(registry, "called", path)
        called = registry.packages.typed("called")
        assert called == FoundPackage("called", path, typed=True)
        assert registry.packages.typed(str(path)) == FoundPackage("file", path, typed=True)
        assert registry.packages.load(called).name == "called"

    def test_a_name_is_no_path_where_registered_ones_are_looked_up(
        self, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = self.make(tmp_path / "file.py")
        self.register(registry, "called", path)
        monkeypatch.chdir(tmp_path)
        assert registry.packages.registered("called") == FoundPackage("called", path, typed=False)
        for name in ("file.py", "file", str(path), "./called", "~", ""):
            assert registry.packages.registered(name) is None
