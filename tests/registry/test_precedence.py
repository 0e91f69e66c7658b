"""Names that several plugins claim: which one has it, and when nobody has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from plugin_sources import PLUGIN, TARGET_PLUGIN, weight_format

from pipelines.common.errors import PluginError
from pipelines.common.progress import Progress
from pipelines.common.registry import plugins
from pipelines.common.registry.registry import Registry
from pipelines.common.registry.target_choice import choose_to_build

OP_PACKAGE = """
from pathlib import Path
from pipelines.common.registry.hookspecs import OpPackageRecord, hookimpl

@hookimpl
def register_op_packages():
    return [OpPackageRecord("{name}", "Other.", Path("x"))]
"""

FORMAT = (
    weight_format("suffixes=('.same',)")
    .replace('"bad"', '"{name}"')
    .replace("open=open", "open=__name__.find")
)

SAMPLER = """
from pipelines.common.registry.hookspecs import SamplerRecord, hookimpl

@hookimpl
def register_samplers():
    return [SamplerRecord("{name}", "Other.", load=lambda setup: None)]
"""

# A plugin with one record, by kind, and the name of one that ships with the project.
KINDS = {
    "pipeline": (PLUGIN, "echo"),
    "target": (TARGET_PLUGIN.replace("{requires}", "()"), "cpu"),
    "op package": (OP_PACKAGE, "native"),
    "weight format": (FORMAT, "gguf"),
    "sampler": (SAMPLER, "top_k"),
}


def use(registry: Registry, kind: str, name: str, folder: Path) -> object:
    """Uses a record by its name; of a format a file of it."""
    if kind == "pipeline":
        return registry.load_pipeline(name)
    if kind == "target":
        return choose_to_build(registry, name, Progress())
    if kind == "sampler":
        return registry.load_sampler(name)
    if kind == "op package":
        return registry.packages.typed(name)
    (folder / "model.same").touch()
    return registry.opener(folder / "model.same")


def entries(registry: Registry, kind: str) -> dict:
    return getattr(registry, f"{kind.replace(' ', '_')}s")


@pytest.mark.parametrize("kind", KINDS)
def test_the_nearest_plugin_has_a_name(
    kind: str, make_plugin: Callable, install: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path before an entry point before what ships with the project."""
    source, name = KINDS[kind]
    source = source.replace("{name}", name)
    shipped = make_plugin(source, "shipped.py")
    monkeypatch.setattr(plugins, "shipped_plugins", lambda: iter([shipped]))
    assert entries(Registry.discover(), kind)[name].plugin.name == "shipped"
    install("forged", {"installed": "forged_one"}, forged_one=source)
    assert entries(Registry.discover(), kind)[name].plugin.name == "installed"
    path = make_plugin(source, "named.py")
    registry = Registry.discover([path], strict=True)  # which is about clashes
    entry = entries(registry, kind)[name]
    assert entry.plugin.name == "named"
    left_out = ["plugin 'builtins' (built-in)", f"plugin 'shipped' ({shipped})"]
    left_out += ["plugin 'installed' (entry point (forged 1.2))"]
    assert sorted(registry.overrides) == sorted(
        f"{kind} '{name}' is that of {entry.plugin}; that of {other} is left out"
        for other in left_out
    )
    assert registry.problems == []
    assert [n for n in entries(registry, kind) if n == name] == [name]


@pytest.mark.parametrize("kind", KINDS)
def test_of_two_that_are_equally_near_neither_has_it(
    kind: str, make_plugin: Callable, tmp_path: Path
) -> None:
    source, _ = KINDS[kind]
    first, second = (make_plugin(source, f"{n}.py", name="same") for n in ("first", "second"))
    registry = Registry.discover([first, second])
    assert "same" not in entries(registry, kind)
    (problem,) = registry.problems
    assert problem == (
        f"{kind} 'same' is disabled: plugin 'first' ({first}) and plugin 'second' ({second}) both"
        " bring it; rename one, or leave a plugin out with `left_out`"
    )
    with pytest.raises(PluginError) as error:
        use(registry, kind, "same", tmp_path)
    assert str(error.value).endswith(problem)
    with pytest.raises(PluginError) as error:
        Registry.discover([first, second], strict=True)
    assert str(error.value) == problem
    alone = Registry.discover([first, second], left_out=["second"])
    assert alone.problems == []
    assert use(alone, kind, "same", tmp_path)


def test_a_clash_leaves_no_other_in_its_place(make_plugin: Callable) -> None:
    """Or one would run something else than either has meant."""
    paths = [make_plugin(PLUGIN, f"{n}.py", name="echo") for n in ("first", "second")]
    registry = Registry.discover(paths)
    assert "echo" not in registry.pipelines
    (line,) = registry.overrides
    assert line.startswith("pipeline 'echo' of plugin 'builtins' (built-in) is left out as well")


def test_only_the_name_is_concerned(make_plugin: Callable) -> None:
    more = "return [PipelineRecord('{own}', 'E.', load=lambda: '{own}'), "
    paths = [
        make_plugin(PLUGIN.replace("return [", more), f"{own}.py", name="same", own=own)
        for own in ("one", "two")
    ]
    registry = Registry.discover(paths)
    assert [registry.load_pipeline(own) for own in ("one", "two")] == ["one", "two"]
    assert "llama3" in registry.pipelines


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ("suffixes=('.x', '.y')", "suffixes=('.z', '.x')", "the ending .x"),
        ("suffixes=(), magic=(b'AB',)", "suffixes=(), magic=(b'ABC',)", "the beginning b'ABC'"),
    ],
)
def test_two_formats_that_files_could_not_be_told_by(
    make_plugin: Callable, first: str, second: str, shared: str, tmp_path: Path
) -> None:
    paths = [
        make_plugin(weight_format(fields).replace('"bad"', f'"{name}"'), f"{name}.py")
        for name, fields in {"one": first, "two": second}.items()
    ]
    registry = Registry.discover(paths)
    assert set(registry.weight_formats) & {"gguf", "one", "two"} == {"gguf"}
    assert f"{shared};" in registry.problems[0]
    assert "weight formats 'one' of plugin 'one'" in registry.problems[0]
    model = tmp_path / "model.x"
    model.write_bytes(b"ABCD")
    with pytest.raises(PluginError, match=f"{model} cannot be read: weight formats 'one'"):
        registry.opener(model)


@pytest.mark.parametrize("magic", [b"GGUF", b"GG", b"GGUF2"])
def test_a_nearer_format_that_begins_alike(make_plugin: Callable, magic: bytes) -> None:
    path = make_plugin(weight_format(f"suffixes=('.gg',), magic=({magic!r},)"))
    registry = Registry.discover([path])
    assert set(registry.weight_formats) & {"gguf", "bad"} == {"bad"}
    (line,) = registry.overrides
    assert line.startswith(
        "weight format 'gguf' of plugin 'builtins' (built-in) is left out: 'bad'"
    )
    assert "has the beginning" in line


def test_a_plugin_that_is_left_out_is_not_imported(
    make_plugin: Callable, install: Callable
) -> None:
    install("forged", {"installed": "forged_two"}, forged_two="raise AssertionError")
    path = make_plugin("raise AssertionError", "named.py")
    registry = Registry.discover([path], left_out=["named", "installed"])
    assert registry.problems == []
    assert [plugin.name for plugin in registry.left_out] == ["installed", "named"]
