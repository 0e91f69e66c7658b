"""How one model takes conversations: its template, and its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pipelines.common.chat.marks import Marks
from pipelines.common.chat.messages import Message
from pipelines.common.chat.template import ChatSettings, ChatTemplate
from pipelines.common.errors import TemplateError
from pipelines.common.text.tokenizer import Tokenizer, check_unicode

_ANCHORS: Final = ("\n", "\x01", "|")
"""What a text can be put behind to be cut into tokens as one that does not begin there."""


@dataclass(frozen=True)
class ChatFormat:
    """Makes prompts of conversations.

    Attributes:
        template: The model's, or the one that the user named.
        tokenizer: The model's.
        eos_token: See `ChatSettings`.
    """

    template: ChatTemplate
    tokenizer: Tokenizer
    eos_token: str = ""

    @classmethod
    def of(
        cls, settings: ChatSettings, tokenizer: Tokenizer, named: ChatTemplate | None = None
    ) -> ChatFormat:
        """How a model takes them.

        Args:
            settings: What the model says.
            tokenizer: The model's.
            named: A template to use in place of the model's.

        Raises:
            TemplateError: There is no template, or it cannot be used.
        """
        if named is None:
            if settings.template is None:
                raise TemplateError(
                    f"{tokenizer.source} has no chat template; name one with `chat_template`, a"
                    " file or one of those that 'run-pipeline chat --help' lists"
                )
            named = ChatTemplate(settings.template, tokenizer.source)
        return cls(named, tokenizer, settings.eos_token)

    def rendered(self, messages: Sequence[Message], *, reply: bool = True) -> str:
        """The prompt as the template makes it, without marks: for people, and to be compared.

        Raises:
            PromptError: See `ChatTemplate.render`.
        """
        return self.template.render(
            messages, bos_token=self._bos, eos_token=self.eos_token, reply=reply
        )

    def tokens(self, messages: Sequence[Message], *, reply: bool = True) -> list[int]:
        """The prompt's tokens; control tokens are only those that the template writes.

        Args:
            messages: The conversation.
            reply: Whether the prompt goes on to where the reply begins.

        Raises:
            PromptError: See `ChatTemplate.render`; or a message is no valid Unicode.
        """
        for message in messages:
            check_unicode(message.content)
        marks = Marks(messages, self.tokenizer.control_tokens.values())
        prompt = self.rendered(marks.marked(messages), reply=reply)
        tokens: list[int] = []
        begun = False
        for number, (text, plain) in enumerate(marks.parts(prompt)):
            if not plain:
                tokens += self.tokenizer.encode(text, bos=None if not number else False)
            else:
                tokens += self._inner(text) if begun else self._plain(text)
            begun = begun or bool(text)
        return tokens

    @property
    def _bos(self) -> str:
        bos = self.tokenizer.bos_id
        return "" if bos is None else self.tokenizer.decode([bos], special=True)

    def _inner(self, text: str) -> list[int]:
        """The tokens of a text that stands behind a control token, all of it being text."""
        whole = self._plain(text)
        if not self._begins_afresh:
            for anchor in _ANCHORS:
                first, both = self._plain(anchor), self._plain(anchor + text)
                if both[: len(first)] == first:
                    return both[len(first) :]
        return whole

    @property
    def _begins_afresh(self) -> bool:
        """Whether a text behind a control token has the tokens that it has at the beginning.

        Vocabularies of SentencePiece may put a space in front of a text, and only there.
        """
        for id, control in self.tokenizer.control_tokens.items():
            behind = self.tokenizer.encode(f"{control}a", bos=False)
            if behind[:1] == [id]:
                return behind[1:] == self._plain("a")
        return True

    def _plain(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, special=False, bos=False)
