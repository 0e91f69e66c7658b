"""Modules that wait to be executed until they are looked into."""

from __future__ import annotations

import importlib
import sys
import zipfile

import pytest

from pipelines.common import deferred
from pipelines.common.cache import Cache
from pipelines.common.program.sources import sources


@pytest.fixture
def heavy(tmp_path, monkeypatch):
    """A package that says when it is executed, and a module that imports it; gone afterwards."""
    (tmp_path / "heavy_package").mkdir()
    (tmp_path / "heavy_package/__init__.py").write_text("import log\nlog.said.append('heavy')\n")
    (tmp_path / "heavy_package/inner.py").write_text("VALUE = 7\n")
    (tmp_path / "log.py").write_text("said = []\n")
    (tmp_path / "user.py").write_text("import heavy_package\nimport log\nlog.said.append('user')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    names = ("heavy_package", "heavy_package.inner", "log", "user")
    yield tmp_path
    for name in names:
        sys.modules.pop(name, None)
    deferred._deferred.difference_update(names)
    deferred._waiting.difference_update(names)


@pytest.mark.usefixtures("heavy")
def test_a_deferred_module_is_executed_when_it_is_looked_into():
    deferred.defer("heavy_package")
    import log
    import user

    assert log.said == ["user"]
    assert deferred.is_waiting("heavy_package")
    assert user.heavy_package.__name__ == "heavy_package"
    assert log.said == ["user", "heavy"]
    assert not deferred.is_waiting("heavy_package")


@pytest.mark.usefixtures("heavy")
@pytest.mark.parametrize(
    "statement", ["from heavy_package import inner", "import heavy_package.inner as inner"]
)
def test_what_is_in_a_deferred_package_is_imported_as_ever(statement):
    deferred.defer("heavy_package")
    import log
    import user  # noqa: F401

    found = {}
    exec(statement, found)
    assert found["inner"].VALUE == 7
    assert log.said == ["user", "heavy"]


@pytest.mark.usefixtures("heavy")
def test_what_is_imported_already_is_left_alone():
    import log
    import user  # noqa: F401

    assert log.said == ["heavy", "user"]
    deferred.defer("heavy_package")
    assert not deferred.is_waiting("heavy_package")
    assert importlib.reload(sys.modules["heavy_package"]).__name__ == "heavy_package"
    assert log.said == ["heavy", "user", "heavy"]


@pytest.mark.usefixtures("heavy")
def test_what_only_asks_for_it_leaves_it_deferred():
    deferred.defer("heavy_package")
    assert importlib.util.find_spec("heavy_package").origin.endswith("__init__.py")
    assert not deferred.is_waiting("heavy_package")
    import user  # noqa: F401

    assert deferred.is_waiting("heavy_package")


def test_a_module_in_an_archive_is_imported_as_ever(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("archived_module.py", "VALUE = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path / "archive.zip"))
    deferred.defer("archived_module")
    try:
        import archived_module

        assert not deferred.is_waiting("archived_module")
        assert archived_module.VALUE == 1
    finally:
        deferred._deferred.discard("archived_module")
        sys.modules.pop("archived_module", None)


def test_what_has_not_been_executed_is_no_source_of_a_graph(heavy, tmp_path):
    deferred.defer("heavy_package")
    import user

    cache = Cache(tmp_path / "cache")
    package = str(heavy / "heavy_package/__init__.py")
    found = sources(cache)["files"]
    assert str(heavy / "user.py") in found
    assert package not in found
    assert deferred.is_waiting("heavy_package")  # still: to be counted is not to be used
    assert user.heavy_package.__name__
    assert package in sources(cache)["files"]
