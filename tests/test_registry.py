"""Plugins: where they are found, how they fail alone, and how they conflict."""

from __future__ import annotations

import os
import sys

import pytest

from pipelines.common.errors import ModelFileError, PluginError, TargetError, UsageError
from pipelines.common.registry import plugins
from pipelines.common.registry.registry import Registry

PLUGIN = """
from pipelines.common.registry.hookspecs import PipelineRecord, hookimpl

@hookimpl
def register_pipelines():
    return [PipelineRecord("{name}", "A pipeline.", load=lambda: "loaded {name}")]
"""

BAD = PLUGIN.format(name="bad")

TARGET_PLUGIN = """
from pipelines.common.registry.hookspecs import TargetRecord, hookimpl

@hookimpl
def register_targets():
    return [TargetRecord("{name}", "A target.", requires={requires}, load=lambda: "loaded {name}")]
"""


def target(fields, load="pass"):
    """A plugin with a target."""
    return f"""
from pipelines.common.registry.hookspecs import TargetRecord, hookimpl

def load():
    {load}

@hookimpl
def register_targets():
    return [TargetRecord("bad", "A target.", load=load, {fields})]
"""


def weight_format(fields):
    """A plugin with a weight format."""
    return f"""
from pipelines.common.registry.hookspecs import WeightFormatRecord, hookimpl

@hookimpl
def register_weight_formats():
    return [WeightFormatRecord("bad", "A format.", open=open, {fields})]
"""


@pytest.fixture(autouse=True)
def no_shipped_plugins(monkeypatch):
    """Leaves out the plugins of this checkout, whatever they are."""
    monkeypatch.setattr(plugins, "shipped_plugins", lambda: iter(()))


@pytest.fixture
def make_plugin(tmp_path):
    def make(source, filename="plugin.py", **values):
        path = tmp_path / filename
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source.format(**values) if values else source)
        return path

    return make


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Forges an installed distribution: modules, and entry points to them."""

    def make(distribution, entry_points, **modules):
        site = tmp_path / f"site-{distribution}"
        info = site / f"{distribution}-1.2.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Name: {distribution}\nVersion: 1.2\n")
        lines = [f"{name} = {module}" for name, module in entry_points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[run_pipeline.plugins]", *lines]))
        for module, source in modules.items():
            (site / f"{module}.py").write_text(source)
            monkeypatch.delitem(sys.modules, module, raising=False)
        monkeypatch.syspath_prepend(str(site))

    return make


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


def test_of_two_records_of_one_name_the_first_stays(make_plugin, install):
    install("forged", {"first": "forged_first"}, forged_first=PLUGIN.format(name="same"))
    path = make_plugin(PLUGIN, "second.py", name="same")
    registry = Registry.discover([path])
    assert registry.pipelines["same"].plugin.name == "first"
    problem = (
        f"pipeline 'same' of plugin 'second' ({path}) was skipped:"
        " plugin 'first' (entry point (forged 1.2)) has that name; rename one of them"
    )
    assert registry.problems == [problem]
    with pytest.raises(PluginError) as error:
        Registry.discover([path], strict=True)
    assert str(error.value) == problem


OP_PACKAGE = """
from pathlib import Path
from pipelines.common.registry.hookspecs import OpPackageRecord, hookimpl

@hookimpl
def register_op_packages():
    return [OpPackageRecord("native", "Other.", Path("x"))]
"""


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (PLUGIN.format(name="llama3"), "pipeline 'llama3' of plugin 'plugin'"),
        (TARGET_PLUGIN.format(name="cpu", requires="()"), "target 'cpu' of plugin 'plugin'"),
        (OP_PACKAGE, "op package 'native' of plugin 'plugin'"),
        (weight_format("suffixes=('.x', '.gguf')"), "weight format 'bad' of plugin 'plugin'"),
        (weight_format("suffixes=('.x',)").replace('"bad"', '"gguf"'), "weight format 'gguf' of"),
    ],
)
def test_a_built_in_cannot_be_replaced(make_plugin, source, problem):
    path = make_plugin(source)
    registry = Registry.discover([path])
    (said,) = registry.problems
    assert said.startswith(problem)
    assert "plugin 'builtins' (built-in) has " in said
    kinds = (registry.pipelines, registry.targets, registry.weight_formats, registry.op_packages)
    assert {entry.plugin.name for kind in kinds for entry in kind.values()} == {"builtins"}
    with pytest.raises(PluginError, match=problem):
        Registry.discover([path], strict=True)


def test_a_clash_leaves_a_plugin_its_other_names(make_plugin):
    source = PLUGIN.replace("return [", "return [PipelineRecord('echo', 'E.', load=print), ")
    registry = Registry.discover([make_plugin(source, name="mine")])
    assert registry.load_pipeline("mine") == "loaded mine"
    assert registry.pipelines["echo"].plugin.name == "builtins"


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


def test_unknown_names_suggest_the_nearest():
    registry = Registry.discover()
    with pytest.raises(UsageError, match="unknown target 'toch', did you mean 'torch'"):
        registry.load_target("toch")
    with pytest.raises(UsageError, match=r"unknown pipeline 'xyz'\. There are: echo, llama3"):
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


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("MODEL.GGUF", b""),
        ("model.gguf", b"something else"),
        ("model.gguf", b"GGUF"),
        ("model.bin", b"GGUF\3\0\0\0"),
        ("sha256-00e1317cbf74d901", b"GGUF\3\0\0\0"),  # a blob of Ollama's or of Hugging Face's
    ],
)
def test_a_format_is_told_by_the_first_bytes_or_else_by_the_ending(tmp_path, name, content):
    from pipelines.common.checkpoints.gguf.reader import open_gguf

    model = tmp_path / name
    model.write_bytes(content)
    link = tmp_path / "link"
    link.symlink_to(model)
    assert Registry.discover().opener(model) is open_gguf
    if content.startswith(b"GGUF"):
        assert Registry.discover().opener(link) is open_gguf


OTHER_FORMAT = """
from pipelines.common.registry.hookspecs import WeightFormatRecord, hookimpl

@hookimpl
def register_weight_formats():
    return [WeightFormatRecord("other", "Other.", (".gg",), "os:{function}", magic=({magic},))]
"""


def test_the_first_bytes_win_over_the_ending(make_plugin, tmp_path):
    other = make_plugin(OTHER_FORMAT, function="fspath", magic=b"OTHER")
    model = tmp_path / "model.gguf"
    model.write_bytes(b"OTHER and more")
    assert Registry.discover([other]).opener(model) is os.fspath


@pytest.mark.parametrize("magic", [b"GGUF", b"GG", b"GGUF2"])
def test_two_formats_cannot_begin_alike(make_plugin, magic):
    other = make_plugin(OTHER_FORMAT, function="fspath", magic=magic)
    registry = Registry.discover([other])
    assert "other" not in registry.weight_formats
    (problem,) = registry.problems
    assert "has the beginning b'GGUF'; rename one of them" in problem
    with pytest.raises(PluginError, match="the beginning b'GGUF'"):
        Registry.discover([other], strict=True)


def test_what_is_of_no_known_format(tmp_path):
    registry = Registry.discover()
    other = tmp_path / "model.bin"
    other.write_bytes(b"PK\3\4 and more")
    with pytest.raises(ModelFileError, match=r"first bytes, b'PK.*', nor its name are .* gguf"):
        registry.opener(other)
    with pytest.raises(ModelFileError, match="no such model file"):
        registry.opener(tmp_path / "missing.gguf")
    with pytest.raises(ModelFileError, match="Is a directory; expected a regular file"):
        registry.opener(tmp_path)
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(ModelFileError, match="Is a named pipe; expected a regular file"):
        registry.opener(tmp_path / "pipe.gguf")


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
