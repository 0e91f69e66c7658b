"""Prompts on their way to tokens: text to continue, or a conversation to reply in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from pipelines.common.chat.format import ChatFormat
from pipelines.common.chat.messages import Message, Messages, question
from pipelines.common.chat.template import ChatSettings, ChatTemplate
from pipelines.common.text.length import least_tokens
from pipelines.common.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class PromptReader:
    """Makes tokens of prompts.

    Attributes:
        tokenizer: The model's.
        special_tokens: Whether control tokens spelled in a text to continue are meant as such; in
            conversations they never are.
        settings: What the model says of conversations.
        template: Makes the template that is used in place of the model's; None for the model's.
        asks: Whether a text is what a user says, and no text to continue.
        system: What the model is told at the beginning of conversations that do not say it.
    """

    tokenizer: Tokenizer
    special_tokens: bool = True
    settings: ChatSettings = field(default_factory=ChatSettings)
    template: Callable[[], ChatTemplate] | None = None
    asks: bool = False
    system: str | None = None

    @cached_property
    def chat(self) -> ChatFormat:
        """How the model takes conversations; the template is compiled when one is asked for.

        Raises:
            TemplateError: There is no template, or it cannot be used.
        """
        named = None if self.template is None else self.template()
        return ChatFormat.of(self.settings, self.tokenizer, named)

    def conversation(self, prompt: str | Messages) -> Messages | None:
        """The messages that a prompt is; None of a text to continue."""
        if isinstance(prompt, str):
            return question(prompt, self.system) if self.asks else None
        if self.system is None or prompt[0].role == "system":
            return prompt
        return (Message("system", self.system), *prompt)

    def tokens(self, prompt: str | Messages) -> list[int]:
        """The tokens of a prompt.

        Raises:
            PromptError: It is no valid Unicode, or the template refuses the conversation.
            TemplateError: There is no template, or it cannot be used.
        """
        messages = self.conversation(prompt)
        if messages is not None:
            return self.chat.tokens(messages)
        assert isinstance(prompt, str)
        return self.tokenizer.encode(prompt, special=self.special_tokens)

    def least_tokens(self, prompt: str | Messages) -> int:
        """A number of tokens that a prompt has at least, see `least_tokens` of `text.length`."""
        texts = (prompt,) if isinstance(prompt, str) else (each.content for each in prompt)
        return sum(least_tokens(self.tokenizer, text) for text in texts)
