"""``check``: what it says of plugins that are right, and of those that are not."""

from __future__ import annotations

import json
import re

import pytest

from pipelines.common.encodings import ENCODINGS
from pipelines.common.pipeline_check import checks

PLUGIN = """
{before}
from pipelines.plugin import DecoderConfig, decoder, hookimpl

@hookimpl
def register_pipelines():
    return [decoder("odd", "Odd.", architectures=("odd",), network=f"{{__name__}}:build")]

def build(config: DecoderConfig):
    from pipelines.plugin import nn

    class Odd(nn.Decoder):
        def logits(self, x):
            return super().logits(x) * {factor}

    return Odd(config, [nn.Block(config) for _ in range(config.layers)])
"""

TARGET = """
from pipelines.plugin import TargetRecord, hookimpl

@hookimpl
def register_targets():
    def load():
        from pipelines.common.targets.cpu import CpuTarget
        return CpuTarget()
    return [TargetRecord("mine", "Mine.", (), load)]
"""


@pytest.fixture(autouse=True)
def few_encodings(monkeypatch):
    """All of them are tried of the families that ship with the project."""
    few = {name: ENCODINGS[name] for name in ("bf16", "q4_0")}
    monkeypatch.setattr(checks, "ENCODINGS", few)


def test_a_plugin_that_is_right(cli, make_plugin):
    path = make_plugin("odd", PLUGIN.format(before="", factor=2.0))
    outcome = cli("check", path)
    assert outcome.code == 0, outcome.out
    heading, *lines, summary = outcome.out.splitlines()
    assert heading == "pipeline odd"
    told = [line for line in lines if "... and " not in line]
    more = [
        int(re.search(r"and (\d+) more checks? +skipped  as '", m)[1]) for m in lines[len(told) :]
    ]
    assert summary.startswith(f"{len(told) + sum(more)} checks, all ok")
    assert any(line.split()[:4] == ["logits", "on", "cpu", "ok"] for line in lines)
    assert any("coreml's graph on the CPU  ok " in line for line in lines)
    assert any(line.split()[:4] == ["stored", "in", "q4_0", "ok"] for line in lines)
    assert outcome.err == ""


def test_a_plugin_that_is_wrong(cli, make_plugin):
    wrong = "(1.5 if hasattr(x, 'requires_grad') else 1.0)"
    path = make_plugin("odd", PLUGIN.format(before="import numpy", factor=wrong))
    outcome = cli("--plugin-path", path, "check", "odd", "--json")
    assert (outcome.code, outcome.err) == (1, "")
    records = {record["check"]: record for record in json.loads(outcome.out)}
    assert records["plugin's module"] == {
        "of": "pipeline odd",
        "check": "plugin's module",
        "outcome": "failed",
        "why": "it imports numpy; import them where they are used",
    }
    assert records["logits on cpu without native ops"]["outcome"] == "failed"
    assert records["variety of logits"]["outcome"] == "ok"


def test_what_fails_is_told(cli, make_plugin):
    source = PLUGIN.format(before="import numpy", factor=1.0)
    # No check gets far where there is no network.
    path = make_plugin("odd", source.replace("    from pipelines.plugin import nn\n", ""))
    outcome = cli("check", path)
    assert (outcome.code, outcome.err) == (1, "")
    assert "FAILED   it imports numpy" in outcome.out
    assert " failed" in outcome.out.splitlines()[-1]


def test_one_cause_is_told_once(cli, make_plugin):
    source = PLUGIN.format(before="", factor="x.missing")
    outcome = cli("check", make_plugin("odd", source))
    assert outcome.code == 1
    causes = [line for line in outcome.out.splitlines() if "AttributeError" in line]
    assert len(causes) == len({line.split("AttributeError")[1] for line in causes}) <= 2
    assert re.search(r"\n  \.\.\. and \d+ more checks +FAILED   as '", outcome.out)


def test_sizes_can_be_others(cli, make_plugin):
    path = make_plugin("odd", PLUGIN.format(before="", factor=2.0))
    outcome = cli("check", path, "--random-config", "layers=0")
    assert outcome.code == 1
    assert "'odd.block_count' is 0; expected a positive" in outcome.out


def test_a_target(cli, make_plugin):
    outcome = cli("check", make_plugin("mine", TARGET), "--json")
    assert outcome.code == 0, outcome.out
    assert [record["check"] for record in json.loads(outcome.out)] == [
        "plugin's module",
        "graph for mine",
        "logits on mine",
        "steps on mine",
        "batches on mine",
    ]


def test_a_pipeline_without_weights(cli):
    outcome = cli("check", "echo", "--json")
    assert outcome.code == 0
    assert [record["outcome"] for record in json.loads(outcome.out)] == ["ok", "skipped"]


def test_all_of_a_plugin_that_has_one_name_for_several(cli):
    outcome = cli("check", "torch", "--json")
    assert {record["of"] for record in json.loads(outcome.out)} == {"target torch"}


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("lama3", "unknown pipeline, target or plugin 'lama3', did you mean 'llama3'?"),
        ("native", "native is about op packages, which are checked by: run-pipeline ops check nat"),
        ("{path}", "{path} is no plugin; expected a .py file, or a folder with an __init__.py"),
    ],
)
def test_what_cannot_be_checked(cli, tmp_path, what, message):
    (tmp_path / "trap.py").write_text("raise SystemExit('run, though nobody named it')")
    outcome = cli("check", what.format(path=tmp_path))
    assert (outcome.code, outcome.out) == (2, "")
    assert message.format(path=tmp_path) in outcome.err
    assert "nobody named it" not in outcome.err


def test_a_plugin_that_does_not_load(cli, make_plugin):
    outcome = cli("check", make_plugin("odd", "1 / 0"))
    assert (outcome.code, outcome.out) == (1, "")
    assert "plugin 'odd' (" in outcome.err
    assert "was skipped: ZeroDivisionError" in outcome.err
    assert "Traceback" not in outcome.err
