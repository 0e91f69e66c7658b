"""How fast a model is on the target, for `benchmarks.gpu`."""

from __future__ import annotations

import copy
import time
from typing import Any

import torch

from benchmarks.gpu_parts.model import Steps, make_target, open_model, random_tokens
from benchmarks.gpu_parts.part import Part, Recorder, Settings
from benchmarks.gpu_parts.profile import record_kernels
from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.engine.engine import Engine
from pipelines.common.engine.request import Request
from pipelines.common.models.model import Model as OpenedModel
from pipelines.common.program.runner import Runner
from pipelines.common.view.anatomy import of_lowered

_WARM_UP = 4
_PROFILED_STEPS = 8


def speed(part: Part, settings: Settings, recorder: Recorder) -> None:
    """Records load time, decode steps, prompts, text, and the kernels of a step."""
    model = open_model(part, settings)
    target = make_target(settings, part.options)
    deployment = model.deployment(slots=max(settings.batches), max_length=settings.max_length)
    cost = of_lowered(target.lower(deployment), model.config.layers, context=1).cost
    before = _device_bytes()
    begin = time.perf_counter()
    runner = target.start(deployment)
    recorder.record(
        "load",
        **part.labels,
        seconds=time.perf_counter() - begin,
        phases=model.progress.seconds,
        device_bytes=_device_bytes() - before,
        weight_bytes_per_step=cost.weights,
        state_bytes_per_token=cost.state,
    )
    first, *others = settings.batches
    tasks = [(first, settings.context), (first, settings.long_context)]
    tasks += [(batch, settings.context) for batch in others]
    for batch, context in tasks:
        with recorder.attempt(f"decode, batch {batch}, context {context}"):
            steps = Steps(model, runner, batch, context)
            figures = _decode(steps, batch, settings)
            read = cost.weights + batch * figures["context"] * cost.state
            recorder.record("decode", **part.labels, **figures, bytes_per_step=read)
    if part.options.get("graph_capture", True):  # prompts are never captured
        for tokens in settings.prompts:
            with recorder.attempt(f"prompt of {tokens}"):
                rates = [_prefill(model, runner, tokens) for _ in range(settings.windows + 1)][1:]
                flops = prompt_flops(model.config, tokens)
                recorder.record("prefill", **part.labels, tokens=tokens, rates=rates, flops=flops)
    for batch in dict.fromkeys((settings.batches[0], settings.batches[-1])):
        with recorder.attempt(f"scheduler, batch {batch}"):
            rate = _schedule(model, runner, batch, settings)
            recorder.record("scheduler", **part.labels, batch=batch, rate=rate)
    recorder.record("memory", **part.labels, device_bytes=_device_bytes() - before)
    # The profiler comes last: what it leaves behind may slow down what follows.
    with recorder.attempt("kernels"):
        steps = Steps(model, runner, first, settings.context)
        on_gpu = settings.device == "cuda"
        record_kernels(steps.run, _PROFILED_STEPS, recorder, on_gpu=on_gpu, **part.labels)


def prompt_flops(config: DecoderConfig, tokens: int) -> int:
    """Floating-point operations of a prompt: products and attention, two a multiplication.

    The output matrix is used for the last token alone. Attention is counted for the keys that a
    token sees.
    """
    width = config.heads * config.head_dim
    keys = config.kv_heads * config.head_dim
    layer = config.hidden_size * (2 * width + 2 * keys + 3 * config.intermediate_size)
    attention = width * tokens * (tokens + 1)
    return 2 * (
        config.layers * (tokens * layer + attention) + config.vocabulary * config.hidden_size
    )


def _decode(steps: Steps, batch: int, settings: Settings) -> dict[str, Any]:
    """Tokens a second of all sequences together, after the first steps, which are not timed.

    In those, graphs are captured and kernels are chosen.
    """
    for _ in range(_WARM_UP):
        steps.run()
    first, rates = steps.context, []
    for _ in range(settings.windows):
        begin = time.perf_counter()
        for _ in range(settings.steps):
            steps.run()
        rates.append(batch * settings.steps / (time.perf_counter() - begin))
    return {"batch": batch, "context": (first + steps.context) / 2, "rates": rates}


def _prefill(model: OpenedModel, runner: Runner, tokens: int) -> float:
    prompt = random_tokens(model, tokens)
    begin = time.perf_counter()
    runner.prefill(0, prompt)
    return tokens / (time.perf_counter() - begin)


def _schedule(model: OpenedModel, runner: Runner, batch: int, settings: Settings) -> float:
    """Tokens a second of sequences that the engine continues greedily, prompts not counted."""
    # Random weights may choose an end token at any time.
    tokenizer = copy.copy(model.tokenizer)
    tokenizer.end_ids = frozenset()
    new = settings.steps * settings.windows
    engine = Engine(runner, tokenizer)
    sequences = [
        engine.add(
            Request(random_tokens(model, settings.context, seed=slot), settings.context + 1 + new)
        )
        for slot in range(batch)
    ]
    while not all(sequence.tokens for sequence in sequences):
        engine.step()
    begin = time.perf_counter()
    while not engine.idle:
        engine.step()
    return batch * new / (time.perf_counter() - begin)


def _device_bytes() -> int:
    """Bytes in use on the GPU by everybody; 0 without one."""
    if not torch.cuda.is_available():
        return 0
    free, total = torch.cuda.mem_get_info()
    return total - free
