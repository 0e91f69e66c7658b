"""Plugins: where they are found, and how they fail alone."""

from __future__ import annotations

import sys

import pytest
from plugin_sources import BAD, PLUGIN, target, weight_format

from pipelines.common.errors import PluginError, UsageError
from pipelines.common.registry import plugins
from pipelines.common.registry.registry import Registry


def test_built_ins_come_through_the_hooks():
    registry = Registry.discover()
    assert {"llama3", "echo"} <= registry.pipelines.keys()
    assert {"cpu", "torch"} <= registry.targets.keys()
    assert registry.weight_formats["gguf"].plugin.provenance == "built-in"
    assert registry.problems == []


def test_a_named_file_is_a_plugin(make_plugin):
    path = make_plugin(PLUGIN, name="mine")
    registry = Registry.discover([path])
    assert registry.load_pipeline("mine") == "loaded mine"
    assert registry.pipelines["mine"].plugin.provenance == str(path)


def test_a_named_folder_is_a_folder_of_plugins(make_plugin, tmp_path):
    make_plugin(PLUGIN, "one.py", name="one")
    make_plugin(PLUGIN, "package/__init__.py", name="two")
    make_plugin("raise RuntimeError", "_private.py")
    make_plugin("raise RuntimeError", ".hidden.py")
    make_plugin("no python", "README.md")
    make_plugin("no package", "data/file.txt")
    registry = Registry.discover([tmp_path])
    assert {"one", "two"} <= registry.pipelines.keys()
    assert registry.problems == []


def test_a_package_in_a_folder_points_to_its_own_modules(make_plugin):
    source = PLUGIN.replace('lambda: "loaded {name}"', 'f"{{__name__}}.model:make"')
    package = make_plugin(source, "packaged/__init__.py", name="packaged").parent
    make_plugin("from . import parts\ndef make(): return parts.NAME", "packaged/model.py")
    make_plugin("NAME = 'from parts'", "packaged/parts.py")
    registry = Registry.discover([package])
    assert registry.load_pipeline("packaged") == "from parts"


def test_plugins_of_one_file_name_do_not_collide(make_plugin):
    paths = [make_plugin(PLUGIN, f"{name}/plugin.py", name=name) for name in ("one", "two")]
    registry = Registry.discover(paths)
    assert {"one", "two"} <= registry.pipelines.keys()
    modules = [registry.pipelines[name].plugin.module for name in ("one", "two")]
    assert modules[0] is not modules[1]
    for module in modules:
        assert sys.modules[module.__name__] is module


def test_a_plugin_found_twice_is_loaded_once(make_plugin, tmp_path):
    path = make_plugin(PLUGIN, name="mine")
    registry = Registry.discover([path, tmp_path, path.parent / "." / path.name])
    assert "mine" in registry.pipelines


def test_a_path_that_does_not_exist_is_wrong_usage(tmp_path):
    with pytest.raises(UsageError, match=r"no such plugin path: .*nothing"):
        Registry.discover([tmp_path / "nothing"])


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def broken(:", "SyntaxError"),
        ("import a_module_that_is_not_there", "No module named 'a_module_that_is_not_there'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("raise ValueError('on\\ntwo lines')", "ValueError: on two lines"),
        ("x = 1", "each needs @hookimpl"),
        (BAD.replace("register_pipelines", "register_pipelnes"), "register_pipelnes"),
        (BAD.replace("register_pipelines()", "register_pipelines(wrong)"), "wrong"),
        (BAD.replace('"A pipeline.", ', ""), "TypeError"),
        (BAD.replace("return [", "return [1, "), "expected PipelineRecord records"),
        (BAD.replace('"bad"', '"Not a name"'), "'Not a name' is no name"),
        (BAD.replace('lambda: "loaded bad"', '"no_colon"'), "not 'module:function'"),
        (BAD.replace('lambda: "loaded bad"', "5"), "'bad' is given 5; expected a function"),
        (BAD.replace('"A pipeline."', "None"), "the summary of 'bad' is no text"),
        (BAD.replace('"bad"', "7"), "'7' is no name"),
        (BAD.replace("return [", "return None, ["), "expected PipelineRecord records"),
        (BAD.replace("load=", "load_="), "TypeError"),
        (BAD.replace("    return", "    1 / 0  #"), "ZeroDivisionError"),
        (BAD.replace("return [", "return 5  # ["), "not iterable"),
        (target("requires='numpy'"), "what 'bad' requires is 'numpy'; expected a tuple of texts"),
        (target("requires=(1,)"), "what 'bad' requires is (1,)"),
        (target("requires=(), preference='high'"), "the preference of 'bad' is no integer"),
        (weight_format("suffixes='.x'"), "the endings of 'bad' is '.x'; expected a tuple of texts"),
    ],
)
def test_a_plugin_that_fails_is_one_line_and_stops_nobody(make_plugin, source, reason):
    bad = make_plugin(source, "bad.py")
    good = make_plugin(PLUGIN, "good.py", name="good")
    registry = Registry.discover([bad, good])
    assert "good" in registry.pipelines
    (problem,) = registry.problems
    assert problem.startswith(f"plugin 'bad' ({bad}) was skipped: ")
    assert reason in problem
    assert "\n" not in problem


def test_strict_raises_what_the_plugin_raised(make_plugin):
    with pytest.raises(ZeroDivisionError):
        Registry.discover([make_plugin("1 / 0")], strict=True)


def test_a_failed_plugin_can_be_loaded_again(make_plugin):
    path = make_plugin("1 / 0")
    assert Registry.discover([path]).problems
    path.write_text(PLUGIN.format(name="mended"))
    assert "mended" in Registry.discover([path]).pipelines


def test_entry_points_are_loaded_each_on_its_own(install):
    install(
        "forged",
        {"good": "forged_good", "bad": "forged_bad", "gone": "forged_gone"},
        forged_good=PLUGIN.format(name="forged"),
        forged_bad="1 / 0",
    )
    registry = Registry.discover()
    assert registry.load_pipeline("forged") == "loaded forged"
    assert registry.pipelines["forged"].plugin.provenance == "entry point (forged 1.2)"
    assert len(registry.problems) == 2
    assert "plugin 'bad' (entry point (forged 1.2)) was skipped" in registry.problems[0]
    assert "plugin 'gone'" in registry.problems[1]


def test_an_entry_point_has_to_be_a_module(install):
    install("forged", {"value": "forged_value:VALUE"}, forged_value="VALUE = 1")
    (problem,) = Registry.discover().problems
    assert "'forged_value:VALUE' is no module" in problem


def test_unknown_names_suggest_the_nearest():
    registry = Registry.discover()
    with pytest.raises(UsageError, match="unknown target 'toch', did you mean 'torch'"):
        registry.load_target("toch")
    with pytest.raises(
        UsageError, match=r"unknown pipeline 'xyz'\. There are: echo, llama2, llama3"
    ):
        registry.load_pipeline("xyz")


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("a_module_that_is_not_there:make", "No module named"),
        ("pipelines.common.errors:nothing", "does not exist"),
    ],
)
def test_a_reference_to_nothing_names_the_plugin(make_plugin, reference, reason):
    source = PLUGIN.replace('lambda: "loaded {name}"', f'"{reference}"')
    registry = Registry.discover([make_plugin(source, "lost.py", name="lost")])
    with pytest.raises(PluginError, match=f"plugin 'lost' .*{reason}"):
        registry.load_pipeline("lost")


def test_pipelines_are_found_by_the_architectures_that_they_run(make_plugin):
    source = PLUGIN.replace("load=", 'architectures=("a", "b"), load=')
    registry = Registry.discover([make_plugin(source, name="mine")])
    assert registry.pipelines_for("b") == ["mine"]
    assert registry.pipelines_for("llama") == ["llama3"]
    assert registry.pipelines_for("c") == []


def test_shipped_plugins_lie_beside_the_package_or_within_it(tmp_path, monkeypatch):
    """Beside it only in a checkout: an installed package has strangers for neighbours."""
    monkeypatch.undo()  # the fixture above
    package = tmp_path / "pipelines"
    package.mkdir()
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "stranger.py").write_text(PLUGIN.format(name="stranger"))
    monkeypatch.setattr("pipelines.__file__", str(package / "__init__.py"))
    assert list(plugins.shipped_plugins()) == []
    (tmp_path / "run_pipeline.py").touch()
    assert list(plugins.shipped_plugins()) == [tmp_path / "plugins" / "stranger.py"]
    within = package / "_shipped" / "plugins"
    within.mkdir(parents=True)
    (within / "own.py").write_text(PLUGIN.format(name="own"))
    assert list(plugins.shipped_plugins()) == [within / "own.py"]
