from __future__ import annotations

import json

import pytest

PLUGIN = """
from types import SimpleNamespace
from pipelines.common.registry.hookspecs import TargetRecord, hookimpl
from pipelines.common.program.target import Availability, Device

HERE = Availability((Device("Loom", memory=3 << 30, free=1 << 30), Device("Jenny")))
GONE = Availability(reason="the mill is closed", fix="open the mill")

@hookimpl
def register_targets():
    return [
        TargetRecord("loom", "Weaves.", (), lambda: target(HERE), preference=99),
        TargetRecord("mill", "Grinds.", (), lambda: target(GONE), preference=100),
        TargetRecord("kiln", "Burns.", ("no_such_module",), lambda: target(HERE)),
    ]

def target(found):
    return SimpleNamespace(availability=lambda: found, versions=lambda: {"yarn": "1.2"})
"""


@pytest.fixture
def targets(cli, monkeypatch, tmp_path):
    (tmp_path / "weaver.py").write_text(PLUGIN)
    monkeypatch.setenv("RUN_PIPELINE_PLUGIN_PATH", str(tmp_path / "weaver.py"))
    return lambda *args: cli("targets", *args)


def test_each_is_listed_with_its_devices_or_what_is_missing(targets):
    lines = [line.strip() for line in targets().out.splitlines()]
    at = lines.index("loom    ready, yarn 1.2 (what --target auto takes)")
    assert lines[at + 1 : at + 3] == [
        "device 0: Loom, 3.0 GiB of memory, 1.0 GiB free",
        "device 1: Jenny",
    ]
    at = lines.index("mill    not here: the mill is closed, yarn 1.2")
    assert lines[at + 1] == "to change that: open the mill"
    at = lines.index("kiln    not here: no_such_module is not installed")
    assert lines[at + 1] == "to change that: pip install no_such_module"


def test_the_record_has_all_of_it(targets):
    record = json.loads(targets("--json").out)
    assert record["auto"] == "loom"
    by_name = {target["name"]: target for target in record["targets"]}
    assert by_name["loom"]["available"]
    assert by_name["loom"]["versions"] == {"yarn": "1.2"}
    assert by_name["loom"]["devices"][0] == {"name": "Loom", "memory": 3 << 30, "free": 1 << 30}
    assert not by_name["mill"]["available"]
    assert by_name["mill"]["reason"] == "the mill is closed"
    assert by_name["mill"]["fix"] == "open the mill"
    assert by_name["kiln"]["versions"] == {}
    assert by_name["cpu"]["available"]
