"""What is checked of a pipeline of decoders or encoders, and of a target, on random weights."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from pipelines.common.encodings import ENCODINGS, Encoding
from pipelines.common.encodings.requests import REQUESTS
from pipelines.common.errors import TargetError
from pipelines.common.export.write import export
from pipelines.common.pipeline_check.backends import (
    NATIVE_CPU,
    REFERENCE,
    STOCK_CPU,
    Backend,
    backends,
)
from pipelines.common.pipeline_check.compare import near, relative_error
from pipelines.common.pipeline_check.outcome import (
    Check,
    CheckSkippedError,
    require,
)
from pipelines.common.pipeline_check.plugin_module import check_module
from pipelines.common.pipeline_check.subject import Subject, Told, rows
from pipelines.common.program.encoder import TextEncoder
from pipelines.common.program.runner import Row, Runner
from pipelines.common.text_generation import RandomPipeline

MODULE = "plugin's module"
"""The check of the module that registers a plugin."""

_LENGTHS = (3, 11, 20)
"""Tokens of the prompts that are computed side by side."""

_STEPS = 4
_ROUNDED = 0.1
"""How far logits may be relative to the largest, where activations are rounded to int8."""

_UNKNOWN = "are not known"


def pipeline_checks(subject: Subject) -> list[Check]:
    """All checks of a pipeline of decoders or encoders that need nothing but it.

    Args:
        subject: The pipeline and its weights.
    """
    module = partial(check_module, subject.registry.pipelines[subject.pipeline].plugin)
    if not isinstance(subject.loaded, RandomPipeline):
        return [Check(MODULE, module), Check("results", partial(_not_random, subject.pipeline))]
    checks = {
        MODULE: module,
        "metadata": partial(check_metadata, subject),
        "model file": partial(check_file, subject),
        f"variety of {subject.gives}": partial(check_variety, subject),
    }
    for name in subject.registry.targets:
        if name != REFERENCE:
            checks[f"graph for {name}"] = partial(check_graph, subject, name)
    for backend in backends(subject.registry):
        checks |= _of_backend(subject, backend)
    checks["graph from the cache"] = partial(check_cached, subject)
    checks["exported folder"] = partial(check_export, subject)
    for encoding in ENCODINGS.values() if subject.path is None else ():
        checks[f"stored in {encoding}"] = partial(check_stored, subject, encoding)
    for request in REQUESTS:
        if request not in ("auto", "float32"):  # as they are stored, and what all others run in
            checks[f"asked for in {request}"] = partial(check_encoding, subject, request)
    return [Check(name, call) for name, call in checks.items()]


def target_checks(subject: Subject, target: str) -> list[Check]:
    """All checks of a target, with a pipeline whose models run on it.

    Args:
        subject: The pipeline and its weights.
        target: The target's name.
    """
    checks = {
        MODULE: partial(check_module, subject.registry.targets[target].plugin),
        f"graph for {target}": partial(check_graph, subject, target),
        **_of_backend(subject, Backend(target, target)),
    }
    return [Check(name, call) for name, call in checks.items()]


def _of_backend(subject: Subject, backend: Backend) -> dict[str, partial[str]]:
    if subject.encodes:
        return {
            f"vectors on {backend.name}": partial(check_logits, subject, backend),
            f"batches on {backend.name}": partial(check_texts, subject, backend),
        }
    return {
        f"logits on {backend.name}": partial(check_logits, subject, backend),
        f"steps on {backend.name}": partial(check_steps, subject, backend),
        f"batches on {backend.name}": partial(check_batches, subject, backend),
    }


def check_metadata(subject: Subject) -> str:
    """A model's own keys are all known, and one that is not is told.

    Args:
        subject: The pipeline and its weights.
    """
    told = Told()
    subject.open(progress=told)
    unknown = [message for message in told.messages if _UNKNOWN in message]
    require(not unknown, f"not all keys of its own model are read: {unknown}")
    if subject.path is not None:
        return "its keys are read"
    architecture = subject.checkpoint.metadata.string("general.architecture")
    key = f"{architecture}.a_key_of_the_checks"
    subject.varied(metadata={**subject.random.metadata, key: 1}).open(progress=told)
    require(any(key in message for message in told.messages), "a key that is unknown is not told")
    return "its keys are read, others are told"


def check_file(subject: Subject) -> str:
    """Written as GGUF and read again it is the same model.

    Args:
        subject: The pipeline and its weights.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = subject.at(subject.write(Path(folder, "model.gguf")))
        ours, theirs = subject.described.config, file.described.config
        require(ours == theirs, f"the config is {theirs}, expected {ours}")
        error = relative_error(file.reference, subject.reference)
    require(error == 0, f"logits differ by {error:.1e}")
    return "GGUF, written and read again"


def check_variety(subject: Subject) -> str:
    """Results are numbers, and depend on the tokens: nothing else would be worth comparing.

    Args:
        subject: The pipeline and its weights.
    """
    logits = subject.reference
    require(np.isfinite(logits).all(), f"the network's {subject.gives} are not all finite")
    least = np.abs(np.diff(logits, axis=0)).max(-1).min()
    require(
        least > 0.01 * np.abs(logits).max(),
        f"after different tokens {subject.gives} differ by no more than {least:.1e}; so errors"
        " would not be seen",
    )
    order = subject.start(subject.open(REFERENCE))
    swapped = [subject.tokens[1], subject.tokens[0], *subject.tokens[2:]]
    moved = relative_error(rows(order, swapped)[2:], logits[2:])
    require(moved > 1e-3, "the order of the tokens makes no difference")
    return f"from {logits.min():.2g} to {logits.max():.2g}"


def check_graph(subject: Subject, target: str) -> str:
    """It is lowered for a target, which has kernels for all of it.

    Args:
        subject: The pipeline and its weights.
        target: The target's name.
    """
    model = subject.open(target)
    try:
        graph = model.target.lower(model.deployment(slots=1, max_length=subject.room))
    except TargetError as error:
        raise CheckSkippedError(str(error)) from error
    return f"{sum(taken.nodes for taken in graph.taken)} operators lowered"


def check_logits(subject: Subject, backend: Backend) -> str:
    """Logits, or vectors, are those of the network run eagerly.

    Args:
        subject: The pipeline and its weights.
        backend: Where it is run.
    """
    made = rows(backend.start(subject), subject.tokens)
    return near(made, subject.reference, backend.tolerance(subject))


def check_steps(subject: Subject, backend: Backend) -> str:
    """A prompt as a whole, in parts and token by token gives what scoring it does.

    Args:
        subject: The pipeline and its weights.
        backend: Where it is run.
    """
    runner, tokens, tolerance = (
        _runner(subject, backend),
        subject.tokens,
        backend.tolerance(subject),
    )
    middle = len(tokens) // 2
    made = {
        len(tokens) - 1: runner.prefill(0, tokens).copy(),
        middle - 1: runner.prefill(0, tokens[:middle]).copy(),
        middle: runner.prefill(0, tokens[middle : middle + 1], middle).copy(),
    }
    for place in range(middle + 1, len(tokens)):
        made[place] = runner.decode([tokens[place]])[0].copy()
    places = sorted(made)
    logits = np.stack([made[place] for place in places])
    return near(logits, subject.reference[places], tolerance)


def check_batches(subject: Subject, backend: Backend) -> str:
    """Sequences of different lengths beside each other give what each gives alone.

    Args:
        subject: The pipeline and its weights.
        backend: Where it is run.
    """
    runner = _runner(subject, backend, slots=len(_LENGTHS))
    lengths = [min(length, len(subject.tokens) - _STEPS) for length in _LENGTHS]
    prompts = [Row(slot, subject.tokens[:length]) for slot, length in enumerate(lengths)]
    made = {(0, slot): logits[-1].copy() for slot, logits in enumerate(runner.forward(prompts))}
    for step in range(_STEPS):
        logits = runner.decode([subject.tokens[length + step] for length in lengths])
        made |= {(step + 1, slot): logits[slot].copy() for slot in range(len(lengths))}
    expected = [subject.reference[lengths[slot] + step - 1] for step, slot in made]
    said = near(np.stack([*made.values()]), np.stack(expected), backend.tolerance(subject))
    if not runner.batch_invariant:
        return said
    alone = rows(backend.start(subject), subject.tokens)
    same = all(
        np.array_equal(logits, alone[lengths[slot] + step - 1])
        for (step, slot), logits in made.items()
    )
    require(same, "it promises batch invariance, and neighbours change the last bits")
    return f"{said}; neighbours change nothing"


def check_texts(subject: Subject, backend: Backend) -> str:
    """Texts of different and of equal lengths beside each other give what each gives alone.

    Args:
        subject: The pipeline and its weights.
        backend: Where it is run.
    """
    encoder, reference = backend.start(subject), subject.start(subject.open(REFERENCE))
    require(isinstance(encoder, TextEncoder), f"pipeline {subject.pipeline} encodes no texts")
    assert isinstance(encoder, TextEncoder)
    lengths = [min(length, len(subject.tokens)) for length in _LENGTHS]
    texts = [subject.tokens[:length] for length in lengths]
    texts += [subject.tokens[-length:] for length in lengths]
    made, expected = encoder.encode(texts), [rows(reference, text) for text in texts]
    return near(np.concatenate(made), np.concatenate(expected), backend.tolerance(subject))


def check_cached(subject: Subject) -> str:
    """A graph that was made once is taken from the cache.

    Args:
        subject: The pipeline and its weights.
    """
    for _ in range(2):
        told = Told()
        model = subject.open(progress=told)
        model.target.lower(model.deployment(slots=1, max_length=subject.room))
    require(
        "lower" in told.from_cache,
        "the graph is made anew at every start: it is not the same each time, or the cache keeps"
        " nothing",
    )
    return "taken from it the second time"


def check_export(subject: Subject) -> str:
    """An exported folder runs as the model does.

    Args:
        subject: The pipeline and its weights.
    """
    model = subject.open()
    with tempfile.TemporaryDirectory() as folder:
        export(model, "cpu", Path(folder, "out"), reference_weights=False)
        opened = subject.at(Path(folder, "out")).open()
        require(opened.config == model.config, f"its config is {opened.config}, not {model.config}")
        made = rows(subject.start(opened), subject.tokens)
    return near(made, rows(STOCK_CPU.start(subject), subject.tokens), 1e-6)


def check_stored(subject: Subject, encoding: Encoding) -> str:
    """Matrices that are stored in an encoding run in it, native or not.

    Args:
        subject: The pipeline and its weights.
        encoding: What they are stored in.
    """
    config = subject.described.config
    if (config.hidden_size % encoding.block_size) or config.intermediate_size % encoding.block_size:
        sizes = dict.fromkeys(("hidden_size", "intermediate_size"), encoding.block_size)
        subject = subject.varied(config={**subject.random.config, **sizes})
    exact = bool(encoding.element)
    return check_encoding(subject.varied(encoding=encoding), "auto", exact=exact)


def check_encoding(subject: Subject, encoding: str, *, exact: bool = False) -> str:
    """Matrices run in an encoding, native or not.

    Args:
        subject: The pipeline and its weights.
        encoding: What is asked for.
        exact: Whether they are floats, so that no activations are rounded.
    """
    expected = rows(subject.start(subject.open(REFERENCE, encoding)), subject.tokens)
    said = []
    for backend in (NATIVE_CPU, STOCK_CPU):
        try:
            logits = rows(backend.start(subject, encoding), subject.tokens)
        except CheckSkippedError:
            continue
        allowed = 1e-3 if exact else _ROUNDED
        # A close choice of experts may be another one where activations are rounded.
        said.append(near(logits, expected, allowed, of_most=subject.chooses and not exact))
    return max(said)


def _runner(subject: Subject, backend: Backend, slots: int = 1) -> Runner:
    """Starts a decoder."""
    started = backend.start(subject, slots=slots)
    if isinstance(started, TextEncoder):
        raise CheckSkippedError(f"pipeline {subject.pipeline} is of encoders, which keep nothing")
    return started


def _not_random(pipeline: str) -> str:
    raise CheckSkippedError(f"pipeline {pipeline} does not run on random weights")
