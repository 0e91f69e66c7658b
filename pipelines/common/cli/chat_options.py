"""The options of conversations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.common.cli.options import path_of
from pipelines.common.errors import UsageError

if TYPE_CHECKING:
    from pipelines.common.chat.template import ChatTemplate
    from pipelines.common.requests.prompts import PromptReader
    from pipelines.common.text_generation import TextModel


@dataclass(frozen=True)
class ChatOptions:
    """How a model is talked to."""

    chat: Annotated[
        bool,
        typer.Option(
            "--chat", help="Prompts are messages to the model; without one, a conversation begins."
        ),
    ] = False
    system_prompt: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="What the model is told before the first message."),
    ] = None
    chat_template: Annotated[
        Path | None,
        typer.Option(
            parser=path_of("--chat-template"),
            metavar="FILE|NAME",
            help="A chat template to use instead of the model's: a file of Jinja's, or chatml,"
            " gemma, llama2, llama3, mistral or phi3.",
        ),
    ] = None
    hide_thinking: Annotated[
        bool, typer.Option("--hide-thinking", help="Leave out what the model thinks first.")
    ] = False

    def check(self, *, rows: bool) -> None:
        """Makes sure that the options have an effect.

        Args:
            rows: Whether prompts are rows of a file, which can be messages.

        Raises:
            UsageError: One has none without ``--chat``.
        """
        if self.chat:
            return
        if self.hide_thinking:
            raise UsageError("--hide-thinking is for replies; add --chat")
        for option, value in (
            ("--system-prompt", self.system_prompt),
            ("--chat-template", self.chat_template),
        ):
            if value is not None and not rows:
                raise UsageError(f"{option} is for messages, and a prompt is continued; add --chat")

    def reader(self, model: TextModel, *, special_tokens: bool) -> PromptReader:
        """Makes tokens of prompts for a model.

        Raises:
            TemplateError: Prompts are messages, and there is no template, or it cannot be used.
        """
        from pipelines.common.requests.prompts import PromptReader
        from pipelines.common.text_generation import chat_settings

        reader = PromptReader(
            tokenizer=model.tokenizer,
            special_tokens=special_tokens,
            settings=chat_settings(model),
            template=self._template,
            asks=self.chat,
            system=self.system_prompt,
        )
        if self.chat or self.chat_template is not None:
            _ = reader.chat  # what is wrong with it is told before the model is started
        return reader

    @property
    def _template(self) -> Callable[[], ChatTemplate] | None:
        path = self.chat_template
        if path is None:
            return None

        def named() -> ChatTemplate:
            from pipelines.common.chat.named import named_template

            return named_template(path)

        return named
