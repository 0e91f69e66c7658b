"""From what a Python program names to a loaded model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.common.checkpoints.opening import Strategy
from pipelines.common.checkpoints.random import RandomWeights
from pipelines.common.encodings.requests import REQUESTS, unknown_request
from pipelines.common.engine.shared import SharedEngine
from pipelines.common.errors import ParameterError, UsageError
from pipelines.common.files import exists, typed_path
from pipelines.common.python.model import Model
from pipelines.common.python.progress import Asked, progress_of
from pipelines.common.python.settings import check_integer, named
from pipelines.common.registry.entries import unknown_name
from pipelines.common.registry.environment import discovered
from pipelines.common.registry.opening import found, pipeline_for, prepared
from pipelines.common.registry.registry import Registry
from pipelines.common.requests.session import usual_length
from pipelines.common.text_generation import ModelOptions

if TYPE_CHECKING:
    from pipelines.common.progress import Progress
    from pipelines.common.text_generation import TextModel

_TASK = "generate"

Named = str | PathLike[str]


@named
def load(
    model: Named = "",
    *,
    model_path: Named | None = None,
    tokenizer_path: Named | None = None,
    encoding: str = "",
    weights: Strategy = "mmap",
    pack_cache: bool = False,
    random: bool | Mapping[str, Any] = False,
    target: str = "auto",
    device: int = 0,
    threads: int | None = None,
    custom_ops: Sequence[Named] = (),
    native_ops: bool = True,
    offline: bool = False,
    slots: int = 1,
    max_length: int | None = None,
    plugin_paths: Sequence[Named] = (),
    left_out: Sequence[str] = (),
    strict: bool = False,
    progress: Asked = None,
) -> Model:
    """Loads a model that writes text.

    Args:
        model: A pipeline's name (``"llama3"``, which has a small model of its own), the path of a
            model file or folder or of an exported one, or a name of Hugging Face's hub
            (``"owner/name"``, ``"owner/name:Q4_K_M"``).
        model_path: The model, where `model` is a pipeline's name; as `model` otherwise.
        tokenizer_path: A ``tokenizer.json``, a ``tokenizer.model``, or a folder with one, to use in
            place of the model's own.
        encoding: What the big matrices run in: ``q4_0``, ``q8_0``, ``float32``, or ``auto`` for
            what they are stored in, which is the default of a model that is named. A pipeline's own
            runs in ``q4_0``.
        weights: How tensors come into memory: ``mmap``, mapped from their files, or ``heap``.
        pack_cache: Whether what weights are packed into is kept in the cache, so that later loads
            map it. It takes as much room on the disk as the weights.
        random: Whether weights are random: of a tiny model, or in the place of the model's own.
            Other sizes of the tiny model, and its seed, as ``{"layers": 4, "seed": 7}``.
        target: What to run on; ``auto`` is the best that can run here.
        device: Which of the target's devices.
        threads: Threads to compute with, at most one a core; None for as many.
        custom_ops: Op packages, by path or name; of two for one pattern the last wins.
        native_ops: Whether the project's own CPU kernels are used.
        offline: Whether nothing may be fetched, nor made that the cache can hold.
        slots: How many texts are written side by side; each takes memory.
        max_length: Most tokens of a prompt and its output together; None for 8,192, or for the
            model's context where that is less.
        plugin_paths: Plugins, and folders of plugins; without any, those that the environment names
            (``RUN_PIPELINE_PLUGIN_PATH``).
        left_out: Names of plugins that are not to be imported; likewise
            (``RUN_PIPELINE_NO_PLUGIN``).
        strict: Whether a plugin that fails to load raises its error instead of being skipped.
        progress: True for a bar, on stderr or in a notebook; a function is called with a line for
            whatever is done, and for whatever should be known. Without, nothing is printed, and
            `Model.notices` has the latter.

    Raises:
        UsageError: No model is named, there is no such setting, or a value is none.
        ModelFileError: The model cannot be read, or nothing here runs it.
        PipelineError: It cannot be loaded, for any other reason that one can do something about.
    """
    telling = progress_of(progress)
    check_integer("slots", slots, least=1)
    if max_length is not None:
        check_integer("max_length", max_length, least=2)
    if encoding and encoding not in REQUESTS:
        raise UsageError(f"`encoding` {unknown_request(encoding)}")
    registry = discovered(
        [_path("plugin_paths", path) for path in plugin_paths], left_out, strict=strict
    )
    for line in (*registry.overrides, *registry.problems):
        telling.notice(line)
    name, path = _named(model, model_path, registry, telling, offline=offline)
    options = ModelOptions(
        model_path=path,
        tokenizer_path=None if tokenizer_path is None else _path("tokenizer_path", tokenizer_path),
        encoding=encoding,
        target=target,
        device=device,
        threads=threads,
        custom_ops=tuple(_path("custom_ops", package) for package in custom_ops),
        native_ops=native_ops,
        offline=offline,
        weights=weights,
        pack_cache=pack_cache,
        random=_random(random),
    )
    pipeline, options = prepared(name, options, registry, telling, _TASK)
    opened: TextModel = pipeline.open(options, registry, telling)
    length = usual_length(max_length, opened.context_length)
    engine = SharedEngine(opened.start(slots=slots, max_length=length), opened.tokenizer)
    return Model(
        opened,
        engine,
        registry.load_sampler,
        slots=slots,
        max_length=length,
        told=telling,
        pipeline=name,
        target=options.target,
    )


def _named(
    model: Named, model_path: Named | None, registry: Registry, progress: Progress, *, offline: bool
) -> tuple[str, Path | None]:
    """The pipeline that is meant, and the model where it is not the pipeline's own.

    Raises:
        PipelineError: There is none.
    """
    if not model and model_path is None:
        raise UsageError(
            "load() is given no model; expected a pipeline's name, the path of a model, or a name"
            " of Hugging Face's hub"
        )
    names = registry.pipelines.keys() | registry.disabled["pipeline"].keys()
    if isinstance(model, str) and model in names:
        return model, None if model_path is None else _path("model_path", model_path)
    if model and model_path is not None:
        raise unknown_name("pipeline", str(model), registry.pipelines)
    what = "model_path" if model_path is not None else "model"
    path = found(_path(what, model_path or model), registry, progress, offline=offline)
    # A word is hardly the name of a file that is not there.
    if path.name == str(model) and not path.suffix and not exists(path):
        raise unknown_name("pipeline", str(model), registry.pipelines)
    return pipeline_for(path, registry, _TASK), path


def _path(name: str, value: Named) -> Path:
    if not isinstance(value, str | PathLike):
        raise ParameterError(name, value, "a path")
    try:
        return typed_path(value) if isinstance(value, str) else Path(value)
    except ValueError as error:
        raise UsageError(f"`{name}` {error}") from error


def _random(asked: bool | Mapping[str, Any]) -> RandomWeights | None:
    """The random weights that are asked for; None for weights as they are."""
    if not isinstance(asked, bool | Mapping):
        raise ParameterError("random", asked, "True, or sizes by name: {'layers': 4}")
    if asked is False:
        return None
    sizes = {} if asked is True else dict(asked)
    return RandomWeights(sizes.pop("seed", 0), sizes)
