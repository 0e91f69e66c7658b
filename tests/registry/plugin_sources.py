"""Sources of plugins, with one record each."""

from __future__ import annotations

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
