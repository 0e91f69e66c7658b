"""Commands and samplers that plugins bring, as users of the program see them."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from batch_files import write_rows
from programs import ROOT

COMMANDS = """
from typing import Annotated
import typer
from pipelines.plugin import CommandRecord, PipelineRecord, UsageError, hookimpl

def greet(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Whom.")],
    loud: Annotated[bool, typer.Option("--loud", help="In capitals.")] = False,
) -> None:
    from pipelines.plugin import print_lines, registry_of
    print("to stderr")
    if name == "nobody":
        raise UsageError("there is nobody; name `model_path`")
    if name == "bug":
        raise ValueError("a bug")
    text = f"hello {name}, of {len(registry_of(ctx).commands)}"
    print_lines(text.upper() if loud else text)

tools = typer.Typer(help="Tools of mine.", no_args_is_help=True)
inner = typer.Typer()
tools.add_typer(inner, name="inner")

@tools.command("count")
def count(numbers: list[int]) -> None:
    "Counts them."
    from pipelines.plugin import print_json
    print("to stderr")
    print_json({"count": len(numbers)}, indented=False)

@inner.command("deep")
def deep() -> None:
    print("to stderr")

@inner.command("other")
def other() -> None:
    pass

@hookimpl
def register_commands():
    return [CommandRecord(name, f"Does {name}.", command=what) for name, what in COMMANDS.items()]
"""
PIPELINE = """
@hookimpl
def register_pipelines():
    return [PipelineRecord("{name}", "Mine.", load="pipelines.echo.pipeline:EchoPipeline")]
"""


def plugin(make_plugin, commands, name="own", more=""):
    return make_plugin(name, f"{COMMANDS}\nCOMMANDS = {commands}\n{more}")


def test_a_command_of_a_plugin(cli, make_plugin):
    path = plugin(make_plugin, "{'greet': greet}")
    outcome = cli("--plugin-path", path, "greet", "you", "--loud")
    assert (outcome.code, outcome.err) == (0, "to stderr\n")
    assert re.fullmatch(r"HELLO YOU, OF \d+\n", outcome.out)
    assert "greet       Does greet." in cli("--plugin-path", path, "--help").out
    told = cli("--plugin-path", path, "greet", "--help").out
    assert "Usage: run_pipeline.py greet [OPTIONS] {name}" in told
    assert "Does greet." in told
    assert "In capitals." in told
    listed = json.loads(cli("--plugin-path", path, "list", "--json").out)["commands"]
    assert [row["provenance"] for row in listed if row["name"] == "greet"] == [str(path)]
    outcome = cli("--plugin-path", path, "gret")
    assert "unknown pipeline or command 'gret', did you mean 'greet'?" in outcome.err


def test_what_a_command_of_a_plugin_raises(cli, make_plugin):
    path = plugin(make_plugin, "{'greet': greet}")
    outcome = cli("--plugin-path", path, "greet", "nobody")
    assert outcome.code == 2
    assert outcome.err.endswith("run_pipeline: error: there is nobody; name --model-path\n")
    with pytest.raises(ValueError, match="a bug"):
        cli("--plugin-path", path, "greet", "bug")


def test_a_group_of_commands(cli, make_plugin):
    path = plugin(make_plugin, "{'tools': tools}")
    outcome = cli("--plugin-path", path, "tools", "count", "1", "2")
    assert (outcome.code, outcome.out, outcome.err) == (0, '{"count": 2}\n', "to stderr\n")
    outcome = cli("--plugin-path", path, "tools", "inner", "deep")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "to stderr\n")
    assert "count  Counts them." in cli("--plugin-path", path, "tools", "--help").out


def test_a_command_that_is_not_there_is_told_when_it_is_used(cli, make_plugin):
    path = plugin(make_plugin, "{'lost': 'not_there:lost', 'greet': greet}")
    assert "lost        Does lost." in cli("--plugin-path", path, "--help").out
    outcome = cli("--plugin-path", path, "lost")
    assert outcome.code == 1
    assert "cannot load 'lost': ModuleNotFoundError" in outcome.err
    assert cli("--plugin-path", path, "greet", "you").code == 0


@pytest.mark.parametrize(
    ("commands", "more", "problem"),
    [
        ("{'list': greet, 'greet': greet}", "", "command 'list' of {} was skipped: that is a com"),
        (
            "{'mine': greet, 'greet': greet}",
            PIPELINE.format(name="mine"),
            "command 'mine' of {} was skipped: that is a pipeline; rename it",
        ),
        ("{'llama3': greet, 'greet': greet}", "", "command 'llama3' of {} was skipped: that is a"),
    ],
)
def test_a_name_that_is_taken_disables_that_command_alone(
    cli, make_plugin, commands, more, problem
):
    path = plugin(make_plugin, commands, more=more)
    problem = problem.format(f"plugin 'own' ({path})")
    outcome = cli("--plugin-path", path, "greet", "you")
    assert outcome.code == 0
    assert f"run_pipeline: {problem}" in outcome.err
    assert "Samplers" in cli("--plugin-path", path, "list").out
    strict = cli("--strict-plugins", "--plugin-path", path, "list")
    assert strict.code == 1
    assert problem in strict.err


def test_two_plugins_with_one_command(cli, make_plugin):
    paths = [plugin(make_plugin, "{'greet': greet}", name) for name in ("one", "two")]
    named = [word for path in paths for word in ("--plugin-path", path)]
    outcome = cli(*named, "greet", "you")
    assert outcome.code == 1
    assert "command 'greet' is disabled: plugin 'one'" in outcome.err.splitlines()[-1]
    assert cli(*named, "--no-plugin", "two", "greet", "you").code == 0


def test_help_and_list_import_no_command():
    code = (
        "import sys; sys.argv[1:] = [{!r}]; from pipelines.common.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "names = ('inspect', 'generate', 'export', 'check', 'run', 'doctor')\n"
        "heavy = {{'numpy', 'torch', 'onnxruntime', 'tokenizers', 'rich'}} & {{*sys.modules}}\n"
        "own = [n for n in names if f'pipelines.common.cli.{{n}}' in sys.modules]\n"
        "print(sorted(heavy), own, file=sys.stderr)\n"
    )
    for command in ("--help", "list"):
        done = subprocess.run(
            [sys.executable, "-c", code.format(command)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
        )
        assert done.stderr.splitlines()[-1] == "[] []", command


SAMPLER = """
from pipelines.plugin import SamplerRecord, hookimpl

@hookimpl
def register_samplers():
    return [SamplerRecord("odd", "Odd letters.", load=load, settings={{"by": 2.0}})]

def load(setup):
    from pipelines.plugin import Sampler
    {first}
    class Odd(Sampler):
        def apply(self, candidates, history):
            return candidates.where(candidates.tokens % setup.settings["by"] == 1)

    return Odd()
"""
ODD = ("--temperature", "5", "--seed", "1", "--max-new-tokens", "30", "--json")


def test_a_sampler_of_a_plugin(cli, make_plugin, tmp_path):
    path = make_plugin("odd", SAMPLER.format(first=""))
    named = ("--plugin-path", path, "echo")
    assert "odd          Odd letters." in cli("--plugin-path", path, "list").out
    plain = json.loads(cli(*named, "--prompt", "abcdefgh", *ODD, "--quiet").out)
    assert plain["sampling"]["samplers"].count("odd") == 0
    order = ("--samplers", "odd;temperature", "--ignore-eos")
    outcome = cli(*named, "--prompt", "abcdefgh", *order, *ODD, "--quiet")
    record = json.loads(outcome.out)
    assert record["sampling"]["samplers"] == "odd(by=2);temperature"
    assert record["generated_tokens"] == 30
    assert {ord(char) % 2 for char in record["text"] if ord(char) < 128} == {1}
    by_three = json.loads(
        cli(*named, "--prompt", "a", "--samplers", "odd(by=3)", *ODD[:-1], "--json", "--quiet").out
    )
    assert {ord(char) % 3 for char in by_three["text"] if ord(char) < 128} == {1}
    rows = write_rows(
        tmp_path / "rows.jsonl",
        {"prompt": "abcd", "temperature": 5, "samplers": "odd"},
        {"prompt": "abcd", "samplers": ["odd(by=x)"]},
        {"prompt": "abcd", "samplers": "od"},
        {"prompt": "abcd", "logit_bias": {"300": 1}},
    )
    outcome = cli(*named, "--prompts-file", rows, "--ordered", "--quiet")
    assert outcome.code == 1
    good, by, name, bias = map(json.loads, outcome.out.splitlines())
    assert {ord(char) % 2 for char in good["text"] if ord(char) < 128} == {1}
    assert by["error"] == 'line 2: samplers is "odd(by=x)"; expected by=NUMBER'
    assert name["error"].startswith("line 3: unknown sampler 'od', did you mean 'odd'? There are:")
    assert bias["error"].startswith("line 4: `logit_bias` has token 300, and the model's tokens")


def test_a_sampler_that_fails_is_told_in_its_plugins_name(cli, make_plugin):
    path = make_plugin("odd", SAMPLER.format(first="1 / 0"))
    args = ("--plugin-path", path, "echo", "--prompt", "a", "--samplers", "odd")
    outcome = cli(*args, *ODD)
    assert outcome.code == 1
    problem = f"plugin 'odd' ({path}): 'odd' fails: ZeroDivisionError: division by zero"
    assert outcome.err.splitlines()[-1] == f"run_pipeline: error: {problem}"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--samplers", "topk"), "unknown sampler 'topk', did you mean 'top_k'?"),
        (("--samplers", "top_k,top_p"), "--samplers is 'top_k,top_p'; expected names between"),
        (("--typical-p", "0"), "--typical-p is 0.0; expected a number above 0 and at most 1"),
        (("--logit-bias", "5"), "--logit-bias is '5'; expected a token's id and what is added"),
        (("--logit-bias", "257+1"), "--logit-bias has token 257, and the model's tokens are 0 to"),
        (
            ("--dry-multiplier", "1", "--dry-sequence-breaker", "ab"),
            "--dry-sequence-breaker has 'ab', which no token of the model has in it",
        ),
        (("--repeat-last-n", "-2"), "--repeat-last-n is -2; expected an integer from 0 to 2^63"),
    ],
)
def test_settings_that_are_wrong(cli, args, message):
    outcome = cli("echo", "--prompt", "a", *args)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err


def test_end_tokens_and_biases(cli):
    args = ("echo", "--prompt", "ab", "--max-new-tokens", "5", "--quiet")
    assert cli(*args).out == "ab"
    assert len(cli(*args, "--ignore-eos").out) == 5
    assert cli(*args, "--logit-bias", "120+100").out == "xxxxx"
    assert cli(*args, "--logit-bias", "120+100", "--logit-bias", "120-1").out == "ab"
