"""A chat template: Jinja's text that makes a prompt of a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from pipelines.common.chat.messages import Message, characters
from pipelines.common.dependencies import check
from pipelines.common.errors import PromptError, TemplateError, one_line, quoted

_LONGEST: Final = 1 << 17
"""Bytes of a template; those of models have up to 30,000."""


@dataclass(frozen=True)
class ChatSettings:
    """What a model says of conversations.

    Attributes:
        template: Its template; None where it has none.
        eos_token: The token that templates end a reply with, as they spell it; may be empty.
        sampling: How it suggests that replies are chosen: settings by the names that requests have
            for them, which nobody has checked.
    """

    template: str | None = None
    eos_token: str = ""
    sampling: dict[str, bool | int | float | str] = field(default_factory=dict)


class ChatTemplate:
    """A template that has been compiled.

    Rendered as `transformers` does it (``PreTrainedTokenizerBase.apply_chat_template``), but that
    nothing in it is trusted, see `pipelines.common.chat.sandbox`.

    Attributes:
        text: What it was compiled from.
        source: Where it came from, for messages.
    """

    def __init__(self, text: str, source: str) -> None:
        """Compiles a template.

        Raises:
            TemplateError: It is none, or too large.
            DependencyError: Jinja is of a version that will not do.
        """
        check("jinja2")  # there are known ways out of the sandbox of older ones
        # Jinja takes 30 ms to import, which only those wait for who have a conversation.
        from jinja2.exceptions import TemplateSyntaxError

        from pipelines.common.chat.meter import LimitError
        from pipelines.common.chat.sandbox import Sandbox

        self.text = text
        self.source = source
        if len(text.encode(errors="replace")) > _LONGEST:
            raise TemplateError(
                f"the chat template of {source} has more than {_LONGEST >> 10} KiB; give another"
                " one with `chat_template`"
            )
        self._sandbox = Sandbox()
        try:
            self._generate = self._sandbox.compiled(text)
        except TemplateSyntaxError as error:
            reason = f"line {error.lineno}: {quoted(error.message or '')}"
        except LimitError as error:
            reason = str(error)
        except (RecursionError, SyntaxError, MemoryError, TypeError, ValueError) as error:
            # Of a template whose parts are nested too deep for Jinja, or for Python.
            reason = quoted(one_line(error))
        else:
            return
        raise TemplateError(
            f"the chat template of {source} cannot be used: {reason}; give another one with"
            " `chat_template`"
        )

    def render(
        self,
        messages: Sequence[Message],
        *,
        bos_token: str = "",
        eos_token: str = "",
        reply: bool = True,
    ) -> str:
        """The prompt of a conversation.

        Args:
            messages: The conversation.
            bos_token: The token that begins a text, as it is spelled.
            eos_token: The token that ends one.
            reply: Whether the prompt goes on to where the reply begins.

        Raises:
            PromptError: The template refuses the conversation, fails, or takes too much.
        """
        from pipelines.common.chat.meter import LimitError
        from pipelines.common.chat.sandbox import TemplateRefusal

        self._sandbox.meter.allow(characters(messages), len(messages))
        pieces = self._generate(
            messages=[{"role": each.role, "content": each.content} for each in messages],
            tools=None,
            documents=None,
            add_generation_prompt=reply,
            bos_token=bos_token,
            eos_token=eos_token,
        )
        try:
            return "".join(pieces)
        except TemplateRefusal as error:
            raise PromptError(
                f"the chat template of {self.source} refuses these messages:"
                f" {quoted(error.message or '')}"
            ) from error
        except LimitError as error:
            raise PromptError(
                f"the chat template of {self.source} is stopped: {error}; give another one with"
                " `chat_template`"
            ) from error
        except Exception as error:
            raise PromptError(
                f"the chat template of {self.source} fails: {quoted(one_line(error))}; give another"
                " one with `chat_template`"
            ) from error
