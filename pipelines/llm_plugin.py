"""Models for the program `llm` (https://llm.datasette.io): ``llm -m pipelines/llama3 "Hi"``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import llm
from pydantic import Field

import pipelines
from pipelines.common.errors import TemplateError
from pipelines.common.registry.environment import discovered


class PipelineModel(llm.Model):  # type: ignore[misc, unused-ignore]
    """The model of a pipeline, or one that it is told to run; loaded when it is asked something.

    Args:
        pipeline: The pipeline's name.
    """

    can_stream = True

    class Options(llm.Options):  # type: ignore[misc, unused-ignore]
        """What ``-o NAME VALUE`` takes; `pipelines.Settings` says what it means."""

        model_path: str | None = Field(None, description="Model file, folder, or name of the hub")
        max_new_tokens: int | None = Field(None, description="Most tokens of output")
        stop: str | None = Field(None, description="End before this text")
        temperature: float | None = Field(None, description="0 takes the most likely token")
        top_k: int | None = Field(None, description="Sample from the k most likely tokens")
        top_p: float | None = Field(
            None, description="Sample from tokens of this joint probability"
        )
        min_p: float | None = Field(None, description="Sample from tokens this likely, relatively")
        repetition_penalty: float | None = Field(None, description="Above 1, less of what occurred")
        seed: int | None = Field(None, description="Same seed, same text")

    def __init__(self, pipeline: str) -> None:
        self.model_id = f"pipelines/{pipeline}"
        self._pipeline = pipeline
        self._loaded: dict[str | None, pipelines.Model] = {}

    def execute(
        self,
        prompt: Any,
        stream: bool,  # noqa: ARG002 - whoever wants all at once collects the pieces
        response: Any,
        conversation: Any,
    ) -> Iterator[str]:
        """Replies to a prompt, or continues it where the model has no chat template."""
        settings = {name: value for name, value in prompt.options if value is not None}
        path = settings.pop("model_path", None)
        if path not in self._loaded:
            self._loaded[path] = pipelines.load(self._pipeline, model_path=path)
        model = self._loaded[path]
        before = [] if conversation is None else conversation.responses
        systems = filter(None, [prompt.system, *(each.prompt.system for each in before)])
        messages = []
        for each in before:
            messages.append({"role": "user", "content": each.prompt.prompt})
            messages.append({"role": "assistant", "content": each.text()})
        try:
            chat = model.chat(system=next(systems, None), messages=messages, **settings)
        except TemplateError:
            written = model.stream(prompt.prompt, **settings)
        else:
            written = chat.send(prompt.prompt)
        with written:
            yield from written
        response.set_usage(
            input=written.result.prompt_tokens, output=written.result.generated_tokens
        )


@llm.hookimpl  # type: ignore[untyped-decorator, unused-ignore]
def register_models(register: Callable[[Any], None]) -> None:
    """Tells `llm` of a model for each pipeline that writes text."""
    registry = discovered((), (), strict=False)
    for name, entry in registry.pipelines.items():
        if entry.record.task == "generate":
            register(PipelineModel(name))
