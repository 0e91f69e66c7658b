"""Plugins as users of the program see them: clashes, leaving them out, versions, slow ones."""

from __future__ import annotations

import json

import pytest

PLUGIN = """
from pipelines.common.registry.hookspecs import PipelineRecord, hookimpl

ECHO = "pipelines.echo.pipeline:EchoPipeline"

@hookimpl
def register_pipelines():
    return [PipelineRecord(name, "Summary.", load=ECHO) for name in {names}]
"""

ANYTHING = [["list"], ["--help"], ["echo", "--prompt", "hi", "--quiet"]]


@pytest.mark.parametrize("args", ANYTHING)
def test_the_nearest_plugin_has_a_name_and_a_line_says_so(cli, make_plugin, args):
    path = make_plugin("second", PLUGIN.format(names=["echo"]))
    for strict in ([], ["--strict-plugins"]):
        outcome = cli(*strict, "--plugin-path", path, *args)
        assert outcome.code == 0
        assert outcome.err == (
            f"run_pipeline: pipeline 'echo' is that of plugin 'second' ({path}); that of plugin"
            " 'builtins' (built-in) is left out\n"
        )
    assert ("Summary." in outcome.out) == (args != ANYTHING[-1])


@pytest.mark.parametrize("args", ANYTHING)
def test_a_clash_disables_a_name_and_stops_nothing(cli, make_plugin, args):
    paths = [make_plugin(name, PLUGIN.format(names=["same", name])) for name in ("one", "two")]
    named = [word for path in paths for word in ("--plugin-path", path)]
    outcome = cli(*named, *args)
    problem = (
        f"pipeline 'same' is disabled: plugin 'one' ({paths[0]}) and plugin 'two' ({paths[1]}) both"
        " bring it; rename one, or leave a plugin out with --no-plugin NAME before the command"
    )
    assert (outcome.code, outcome.err) == (0, f"run_pipeline: {problem}\n")
    used = cli(*named, "same", "--prompt", "hi")
    assert (used.code, used.out) == (1, "")
    assert used.err.splitlines()[-1] == f"run_pipeline: error: {problem}"
    assert cli(*named, "one", "--prompt", "hi", "--quiet").out == "hi"
    assert cli("--strict-plugins", *named, *args).error == problem
    assert cli(*named, "--no-plugin", "two", "same", "--prompt", "hi", "--quiet").err == ""


@pytest.mark.parametrize("args", ANYTHING)
def test_a_pipeline_that_is_called_like_a_command(cli, make_plugin, args):
    path = make_plugin("second", PLUGIN.format(names=["inspect"]))
    plain, outcome = cli(*args), cli("--plugin-path", path, *args)
    problem = (
        f"pipeline 'inspect' of plugin 'second' ({path}) was skipped: that is a command of the"
        " driver; rename it"
    )
    assert (outcome.code, outcome.out, outcome.err) == (0, plain.out, f"run_pipeline: {problem}\n")
    assert cli("--strict-plugins", "--plugin-path", path, *args).error == problem


@pytest.mark.parametrize("kind", ["option", "variable"])
def test_a_plugin_can_be_left_out(cli, make_plugin, monkeypatch, kind):
    for name in ("one", "two"):
        path = make_plugin(name, "raise AssertionError('imported')")
    named = ["--plugin-path", path.parent]
    if kind == "option":
        named += ["--no-plugin", "one", "--no-plugin", "two"]
    else:
        monkeypatch.setenv("RUN_PIPELINE_NO_PLUGIN", "one::two:")
    outcome = cli(*named, "list", "--verbose")
    assert (outcome.code, outcome.err) == (0, "")
    assert (
        f"one       not used: left out, as was asked for [{path.parent / 'one.py'}]" in outcome.out
    )


@pytest.mark.parametrize("kind", ["option", "variable"])
@pytest.mark.parametrize("args", ANYTHING)
def test_a_plugin_that_is_not_there_cannot_be_left_out(cli, make_plugin, monkeypatch, args, kind):
    named = ["--plugin-path", make_plugin("granny", PLUGIN.format(names=["mine"]))]
    if kind == "option":
        named += ["--no-plugin", "grany"]
    else:
        monkeypatch.setenv("RUN_PIPELINE_NO_PLUGIN", "grany")
    outcome = cli(*named, *args)
    assert outcome.code == 2
    assert outcome.error.startswith("unknown plugin 'grany', did you mean 'granny'? There are: ")
    assert "builtins" not in outcome.error


def test_a_plugin_for_another_version_is_skipped(cli, make_plugin):
    path = make_plugin("newer", "PIPELINES_API = 99\nfrom pipelines.plugin import new_thing")
    outcome = cli("--plugin-path", path, "echo", "--prompt", "hi", "--quiet")
    assert (outcome.code, outcome.out) == (0, "hi")
    assert outcome.err == (
        f"run_pipeline: plugin 'newer' ({path}) was skipped: it was made for version 99 of the"
        " plugin interface, and this driver has version 2; update the driver, or install an older"
        " version of the plugin\n"
    )
    assert "made for version 99" in cli("--strict-plugins", "--plugin-path", path, "list").error


def test_a_misspelled_hook_is_told(cli, make_plugin):
    source = PLUGIN.format(names=["mine"]).replace("register_pipelines", "register_pipeline")
    outcome = cli("--plugin-path", make_plugin("mine", source), "list")
    assert "there is no hook 'register_pipeline', did you mean 'register_pipelines'?" in outcome.err


def test_a_slow_import_is_told(process, make_plugin):
    slow = make_plugin("slow", "import time; time.sleep(0.12)" + PLUGIN.format(names=["late"]))
    quick = make_plugin("quick", PLUGIN.format(names=["early"]))
    named = ("--plugin-path", slow, "--plugin-path", quick)
    lines = process(*named, "list").out.splitlines()
    heading = lines.index("Plugins that slow down every start")
    (row,) = lines[heading + 1 :]
    assert row.startswith("  slow  imported in 1")
    assert row.endswith(f"ms, which is slow: import what is heavy inside of functions [{slow}]")
    rows = {line.split()[0]: line for line in process(*named, "list", "--verbose").out.splitlines()}
    assert {"slow", "quick", "builtins", "granite"} <= rows.keys()
    record = json.loads(process(*named, "list", "--json").out)
    plugins = {row["name"]: row for row in record["plugins"]}
    assert plugins["slow"]["slow"]
    assert plugins["slow"]["import_ms"] >= 100
    assert not plugins["quick"]["slow"]
    assert "Plugins that" not in process("--plugin-path", quick, "list").out
