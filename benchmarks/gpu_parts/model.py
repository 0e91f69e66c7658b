"""The models of `benchmarks.gpu`: their files, their graphs, and how they are started."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from benchmarks.gpu_parts.part import Part, Recorder, Settings
from benchmarks.models import Model
from pipelines.common.models.model import Model as OpenedModel
from pipelines.common.program.runner import CandidateRunner, Runner
from pipelines.common.program.target import Target
from pipelines.common.progress import Progress
from pipelines.common.registry.registry import Registry
from pipelines.common.text_generation import ModelOptions


def make(part: Part, settings: Settings, recorder: Recorder) -> None:
    """Writes the model file, and lowers its graph for every part that runs it."""
    start = time.perf_counter()
    file = Model.at(settings.folder, part.shape, part.encoding)
    written = time.perf_counter()
    recorder.record(
        "file",
        shape=part.shape,
        encoding=part.encoding,
        bytes=file.total_bytes,
        seconds=written - start,
    )
    with recorder.attempt("lowering the graph"):
        model = open_model(part, settings)
        deployment = model.deployment(slots=1, max_length=2)
        make_target(settings, {}).lower(deployment)
        if settings.target == "cuda" and part.encoding == "q4_0":
            make_target(settings, {"fpa_intb_gemm": True}).lower(deployment)
        recorder.record(
            "graph",
            shape=part.shape,
            encoding=part.encoding,
            seconds=time.perf_counter() - written,
            phases=model.progress.seconds,
        )


def open_model(part: Part, settings: Settings) -> OpenedModel:
    """Opens a model whose file is there; it runs as stored, with the stock operators."""
    options = ModelOptions(
        model_path=Model.at(settings.folder, part.shape, part.encoding).path,
        encoding="auto",
        target=settings.target,
        native_ops=False,
    )
    registry = Registry.discover()
    model = registry.load_pipeline("llama3").open(options, registry, Progress())
    assert isinstance(model, OpenedModel)
    return model


def make_target(settings: Settings, options: Mapping[str, bool]) -> Target:
    """The target with some options; only that for CUDA has any."""
    if settings.target == "cuda":
        from pipelines.common.targets.cuda import CudaTarget

        return CudaTarget(**options)
    return Registry.discover().load_target(settings.target)


def random_tokens(model: OpenedModel, count: int, seed: int = 0) -> list[int]:
    """Tokens to feed."""
    return np.random.default_rng(seed).integers(model.config.vocabulary, size=count).tolist()


def start(part: Part, settings: Settings, slots: int) -> tuple[OpenedModel, Runner]:
    """A runner of the part's model, with room for the longest of its tasks."""
    model = open_model(part, settings)
    deployment = model.deployment(slots=slots, max_length=settings.max_length)
    return model, make_target(settings, part.options).start(deployment)


class Steps:
    """Decode steps of some sequences, each fed what the step before has found.

    Args:
        model: Says which tokens there are.
        runner: Computes; its first slots are used.
        batch: Sequences side by side.
        context: Tokens of each before the first step.
    """

    def __init__(self, model: OpenedModel, runner: Runner, batch: int, context: int) -> None:
        self._runner = runner
        self._tokens = random_tokens(model, batch)
        for slot in range(batch):
            runner.prefill(slot, random_tokens(model, context, seed=slot))
        self.context = context

    def run(self) -> None:
        """Does one, as the engine does it with greedy sampling."""
        if isinstance(self._runner, CandidateRunner):
            best = self._runner.advance(self._tokens).tokens[:, 0]
        else:
            best = self._runner.decode(self._tokens).argmax(-1)
        self._tokens = best.tolist()
        self.context += 1
