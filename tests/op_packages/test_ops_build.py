"""``ops build``: what it leaves behind, the one line when it fails, and builds that are old."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ops_program import needs_compiler, program, silu_gate, single_file


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*")}


@needs_compiler
def test_build_adds_the_library_and_nothing_else(tmp_path: Path) -> None:
    package = silu_gate(tmp_path)
    before = files(package)
    outcome = program("ops", "build", package)
    assert outcome.code == 0, outcome.err
    note, library = sorted(files(package) - before)
    assert note == f".{library}.sources"
    assert outcome.out == f"built {package / library}\n"
    # A second build replaces the file: a process that has it loaded keeps what it has.
    with (package / library).open("rb") as loaded:
        assert program("ops", "build", package).code == 0
        assert not os.path.samestat(os.fstat(loaded.fileno()), (package / library).stat())
    assert files(package) == {*before, library, note}


@needs_compiler
def test_a_failing_build_names_the_first_error_and_changes_nothing(tmp_path: Path) -> None:
    package = silu_gate(tmp_path)
    old = package / "libsilu_gate.so"
    old.write_bytes(b"old")
    before = files(package)
    source = package / "silu_gate.cpp"
    source.write_text(source.read_text().replace("context.input(0)", "context.inptu(0)"))
    error = program("ops", "build", package).error
    assert error.startswith(f"building {package} failed: ")
    assert "silu_gate.cpp:" in error
    assert "inptu" in error
    assert (files(package), old.read_bytes()) == (before, b"old")


@needs_compiler
def test_errors_of_the_build_script(tmp_path: Path) -> None:
    package = silu_gate(tmp_path)
    script = package / "CMakeLists.txt"
    text = script.read_text()
    script.write_text(text + 'message(FATAL_ERROR "needs the moon")\n')
    line = len(text.splitlines()) + 1
    assert f"CMakeLists.txt:{line}: needs the moon" in program("ops", "build", package).error
    script.write_text(text.replace("DESTINATION .", "DESTINATION lib"))
    assert (
        "its install rule puts lib in the prefix's root" in program("ops", "build", package).error
    )
    assert not list(package.glob("lib*"))


@needs_compiler
def test_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "there is no C++ compiler" in program("ops", "build", silu_gate(tmp_path)).error


def test_no_cmake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "pip install cmake" in program("ops", "build", silu_gate(tmp_path)).error


def test_nothing_to_build(tmp_path: Path) -> None:
    single, package = single_file(tmp_path, "single", ""), silu_gate(tmp_path)
    assert f"{single} has nothing to build" in program("ops", "build", single).error
    (package / "CMakeLists.txt").unlink()
    assert f"{package} has nothing to build" in program("ops", "build", package).error
    assert "no such op package" in program("ops", "build", package / "nowhere").error


OLD = "and that build is what is checked; build it again: run-pipeline ops build "


@needs_compiler
def test_a_build_that_is_not_of_its_sources(tmp_path: Path) -> None:
    package = silu_gate(tmp_path)
    source = package / "silu_gate.cpp"
    assert program("ops", "build", package).code == 0
    (library,) = package.glob("lib*")

    def said() -> str:
        outcome = program("ops", "check", package)
        assert outcome.code == 0, outcome.err
        assert "all ok" in outcome.out
        return outcome.err

    os.utime(source)  # it is the content that counts
    (package / "tests").mkdir()
    (package / "tests" / "driver.cpp").write_text("int main() {}")
    assert said() == ""
    source.write_text(source.read_text() + "// edited\n")
    other = f"{library} was built from other sources than are there now"
    assert said() == f"run_pipeline: {other}, {OLD}{package}\n"
    (package / "silu_gate.cpp").write_text(source.read_text().removesuffix("// edited\n"))
    assert said() == ""
    (package / "more.h").touch()
    assert other in said()
    assert program("ops", "build", package).code == 0
    assert said() == ""
    # One that was built by other means, of which only the time is known.
    os.utime(library, (1e9, 1e9))
    os.utime(source, (1e9 + 50, 1e9 + 50))
    for path in package.rglob("*"):
        if path not in (library, source):
            os.utime(path, (1e9, 1e9))
    assert said() == ""
    os.utime(source, (1e9 + 100, 1e9 + 100))
    assert f"{library} is older than silu_gate.cpp, {OLD}" in said()
