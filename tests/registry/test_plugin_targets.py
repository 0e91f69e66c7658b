"""Targets of plugins: what they lack, and how they fail."""

from __future__ import annotations

import sys

import pytest
from plugin_sources import TARGET_PLUGIN, target

from pipelines.common.errors import TargetError
from pipelines.common.registry.registry import Registry

FAILING_TARGETS = {
    "1 / 0": "ZeroDivisionError: division by zero",
    "import a_module_that_is_not_there": "No module named 'a_module_that_is_not_there'",
    "raise OSError(28, 'No space')": "No space",
    "return None": "AttributeError: 'NoneType' object has no attribute 'availability'",
    "from types import SimpleNamespace as S; return S(availability=lambda: None)": (
        "TypeError: availability() returned None; expected an Availability"
    ),
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
    with pytest.raises((ArithmeticError, AttributeError, ImportError, OSError, TypeError)):
        Registry.discover([path], strict=True).availability("bad")


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
