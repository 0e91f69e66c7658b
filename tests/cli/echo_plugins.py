"""Sources of plugins whose pipeline is echo but for its model or its runner."""

from __future__ import annotations

_PLUGIN = """
import os, sys, time
from pipelines.common.registry.hookspecs import PipelineRecord, hookimpl
from pipelines.echo.pipeline import EchoModel, EchoRunner

{model}

class Pipeline:
    def open(self, options, registry, progress):
        return Model()

@hookimpl
def register_pipelines():
    return [PipelineRecord("{name}", "Echo in another way.", load=Pipeline)]
"""

_MODEL = """
class Model(EchoModel):
    def start(self, *, slots, max_length):
        return Runner(slots, max_length)
"""


def with_model(name: str, model: str) -> str:
    """A pipeline with a class ``Model``."""
    return _PLUGIN.format(name=name, model=model)


def with_runner(name: str, runner: str) -> str:
    """A pipeline whose model starts a class ``Runner``."""
    return with_model(name, runner + _MODEL)


def slow_to_start(name: str, seconds: float) -> str:
    """A pipeline that takes its time to start, which is shown."""
    return f"""
import time
from pipelines.common.registry.hookspecs import PipelineRecord, hookimpl
from pipelines.echo.pipeline import EchoModel

class Model(EchoModel):
    def start(self, *, slots, max_length):
        with self.progress.phase("build", "Building something"):
            time.sleep({seconds})
        return super().start(slots=slots, max_length=max_length)

class Pipeline:
    def open(self, options, registry, progress):
        model = Model()
        model.progress = progress
        return model

@hookimpl
def register_pipelines():
    return [PipelineRecord("{name}", "Takes its time.", load=Pipeline)]
"""
