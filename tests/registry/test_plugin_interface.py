"""What a plugin is made for, and what it means to be a hook."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from plugin_sources import PLUGIN

from pipelines.common.errors import PluginError
from pipelines.common.registry.hookspecs import API_VERSION
from pipelines.common.registry.registry import Registry
from pipelines.plugin import API_VERSION as TOLD

HOOKS = (
    "register_pipelines",
    "register_targets",
    "register_weight_formats",
    "register_op_packages",
    "register_tasks",
    "register_commands",
    "register_samplers",
)


def problem(path: object) -> str:
    registry = Registry.discover([path])
    (line,) = registry.problems
    assert "\n" not in line
    assert registry.plugins[-1].problem in line
    return line


def test_a_plugin_for_this_version(make_plugin: Callable) -> None:
    assert TOLD == API_VERSION
    path = make_plugin(f"PIPELINES_API = {API_VERSION}\n{PLUGIN.format(name='mine')}")
    assert "mine" in Registry.discover([path], strict=True).pipelines


@pytest.mark.parametrize("fails", ["", "from pipelines.plugin import gone", "match = = 3"])
@pytest.mark.parametrize(
    ("version", "advice"),
    [(0, "install a newer version of the plugin"), (99, "update the driver, or install an older")],
)
@pytest.mark.parametrize("kind", ["path", "package", "entry point"])
def test_a_plugin_for_another_version(
    make_plugin: Callable, install: Callable, version: int, advice: str, fails: str, kind: str
) -> None:
    """Also one that cannot even be imported."""
    source = f"{fails}\nPIPELINES_API = {version}  # a comment\n{PLUGIN.format(name='mine')}"
    if kind == "entry point":
        install("forged", {"other": "forged_versioned"}, forged_versioned=source)
        (line,) = Registry.discover().problems
    else:
        line = problem(
            make_plugin(source, "other.py" if kind == "path" else "other/__init__.py").parent
        )
    assert (
        f"was skipped: it was made for version {version} of the plugin interface, and this driver"
        in line
    )
    assert f"has version {API_VERSION}; {advice}" in line


def test_strict_raises_what_it_was_made_for(make_plugin: Callable) -> None:
    path = make_plugin("PIPELINES_API: int = 99\n1 / 0")
    with pytest.raises(PluginError, match="made for version 99"):
        Registry.discover([path], strict=True)


@pytest.mark.parametrize("declared", ["'1'", "True", "1.0", "[1]"])
def test_a_version_that_is_none(make_plugin: Callable, declared: str) -> None:
    path = make_plugin(f"PIPELINES_API = {declared}\n{PLUGIN.format(name='mine')}")
    assert "expected a whole number, which is 2 for this driver" in problem(path)


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("edit", [lambda name: name[:-1], lambda name: name.replace("ter", "tre")])
def test_a_misspelled_hook(make_plugin: Callable, hook: str, edit: Callable[[str], str]) -> None:
    wrong = edit(hook)
    path = make_plugin(PLUGIN.format(name="mine").replace("register_pipelines", wrong))
    assert f"there is no hook '{wrong}', did you mean '{hook}'? There are: register_" in problem(
        path
    )


def test_a_hook_like_none(make_plugin: Callable) -> None:
    path = make_plugin(PLUGIN.format(name="mine").replace("register_pipelines", "zzz"))
    assert "there is no hook 'zzz'. There are: register_pipelines, " in problem(path)


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_that_is_not_marked(make_plugin: Callable, hook: str) -> None:
    """Which would be left out without a word."""
    alone = make_plugin(f"def {hook}(): return []", "alone.py")
    assert f"its function '{hook}' is no hook without @hookimpl" in problem(alone)
    misspelled = make_plugin(f"def {hook[:-1]}(): return []", "misspelled.py")
    assert f"each needs @hookimpl; did you mean '{hook[:-1]}' to be one?" in problem(misspelled)
