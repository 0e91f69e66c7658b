"""Targets of plugins: what they lack, and how they fail."""

from __future__ import annotations

import sys

import pytest
from plugin_sources import TARGET_PLUGIN, target

from pipelines.common.errors import TargetError
from pipelines.common.progress import Progress
from pipelines.common.registry.registry import Registry
from pipelines.common.registry.target_choice import choose, looked_at

FAILURES = (
    ArithmeticError,
    AttributeError,
    ImportError,
    MemoryError,
    OSError,
    SystemExit,
    TypeError,
)

SAYS = (
    "from types import SimpleNamespace as S\n"
    "    from pipelines.common.program.target import Availability\n"
    "    return S(availability=lambda: Availability"
)
FAILING_TARGETS = {
    "1 / 0": "ZeroDivisionError: division by zero",
    "import a_module_that_is_not_there": "No module named 'a_module_that_is_not_there'",
    "raise OSError(28, 'No space')": "No space",
    "return None": "AttributeError: 'NoneType' object has no attribute 'availability'",
    "from types import SimpleNamespace as S; return S(availability=lambda: None)": (
        "TypeError: availability() returned None; expected an Availability"
    ),
    "raise SystemExit(3)": "SystemExit: 3",
    "raise MemoryError": "MemoryError",
    f"{SAYS}(devices=None))": "TypeError: an Availability's devices are None; expected a tuple",
    f"{SAYS}(devices=('a',)))": "TypeError: 'a' among an Availability's devices is no Device",
    f"{SAYS}())": "TypeError: an Availability has neither a device nor a reason",
    f"{SAYS}(reason=3))": "TypeError: an Availability's reason and fix are texts",
}


@pytest.mark.parametrize("load", FAILING_TARGETS)
def test_a_target_that_cannot_be_used_is_not_here(make_plugin, load):
    path = make_plugin(target("requires=(), preference=99", load))
    registry = Registry.discover([path])
    found = registry.availability("bad")
    assert not found.here
    assert found.device_found
    assert found.reason.startswith(f"plugin 'plugin' ({path}): ")
    assert FAILING_TARGETS[load] in found.reason
    assert "\n" not in found.reason
    assert registry.versions("bad") == {}
    assert choose(registry, "auto", 0, Progress()) == "cpu"
    assert "cpu" in looked_at(registry)
    with pytest.raises(FAILURES):
        Registry.discover([path], strict=True).availability("bad")


OWN_LINES = {
    "from pipelines.plugin import PipelineError\n    raise PipelineError('no qubits')": "no qubits",
    "from pipelines.common.errors import TargetError as T\n    raise T('no qubits')": "no qubits",
}


@pytest.mark.parametrize("load", OWN_LINES)
@pytest.mark.parametrize("strict", [False, True])
def test_a_target_that_says_why_it_cannot_be_used(make_plugin, load, strict):
    """It takes no other down; what it says is one line in any case."""
    path = make_plugin(target("requires=(), preference=99", load))
    registry = Registry.discover([path], strict=strict)
    assert OWN_LINES[load] in registry.availability("bad").reason
    assert choose(registry, "auto", 0, Progress()) == "cpu"
    assert registry.versions("bad") == {}


def test_a_required_package_that_fails(make_plugin, tmp_path, monkeypatch):
    """Of a module in it the package is imported, which may raise anything."""
    (tmp_path / "failing_package").mkdir()
    (tmp_path / "failing_package" / "__init__.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(str(tmp_path))
    path = make_plugin(target("requires=('failing_package.inner',), preference=99"), "p/plugin.py")
    registry = Registry.discover([path])
    assert choose(registry, "auto", 0, Progress()) == "cpu"
    assert "failing_package.inner is not installed" in registry.availability("bad").reason


def test_a_required_module_of_a_package_that_is_not_there(make_plugin):
    path = make_plugin(TARGET_PLUGIN, name="gone", requires="('no_such.module', '.x')")
    assert Registry.discover([path]).targets["gone"].missing_modules() == ("no_such.module", ".x")


def test_what_a_target_requires_is_looked_for_and_not_imported(make_plugin):
    present = make_plugin(TARGET_PLUGIN, "a.py", name="here", requires="('this',)")
    absent = make_plugin(TARGET_PLUGIN, "b.py", name="gone", requires="('sys', 'no_such_module')")
    registry = Registry.discover([present, absent])
    assert registry.targets["here"].missing_modules() == ()
    assert "this" not in sys.modules
    assert registry.load_target("here") == "loaded here"
    assert registry.targets["gone"].missing_modules() == ("no_such_module",)
    with pytest.raises(TargetError, match="'gone' cannot be used: no_such_module is not installed"):
        registry.load_target("gone")
