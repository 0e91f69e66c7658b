"""A loaded model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Unpack, overload

from pipelines.common.engine.logprobs import log_softmax
from pipelines.common.engine.request import Request
from pipelines.common.engine.sampling.order import Find
from pipelines.common.engine.shared import SharedEngine
from pipelines.common.errors import ParameterError, PromptError, TooLongError
from pipelines.common.program.runner import PREFILL_CHUNK, Row
from pipelines.common.python.chat import Chat
from pipelines.common.python.progress import Kept
from pipelines.common.python.settings import Settings, check_integer, defaults_of
from pipelines.common.python.stream import Stream, continued
from pipelines.common.requests.messages import read_messages
from pipelines.common.requests.prompts import PromptReader
from pipelines.common.requests.session import USUAL_REPLY, ChatSession
from pipelines.common.requests.suggested import as_suggested
from pipelines.common.requests.text import Result
from pipelines.common.requests.values import RequestError
from pipelines.common.text_generation import TextModel, chat_settings


@dataclass(frozen=True)
class TokenLogprob:
    """How likely a token of a text is after those before it.

    Attributes:
        token: Its id.
        text: It in print, with escapes for what is not printable.
        logprob: The natural logarithm of its probability; None of the first, which follows nothing.
    """

    token: int
    text: str
    logprob: float | None


class Model:
    """A loaded model, made by `load`; a context manager, which closes it.

    It may be used from several threads, also while streams are open: what they ask for is computed
    side by side in its slots, one step at a time, and waits for a slot where there is none free.

    Args:
        opened: The model.
        engine: Computes for it.
        find_sampler: What the names of samplers stand for.
        slots: See the attribute.
        max_length: See the attribute.
        told: Keeps what is to be known.
        pipeline: See the attribute.
        target: See the attribute.

    Attributes:
        slots: How many texts are written side by side.
        max_length: Most tokens of a prompt and its output together.
        pipeline: Name of the pipeline that runs it.
        target: What it runs on.
    """

    def __init__(
        self,
        opened: TextModel,
        engine: SharedEngine,
        find_sampler: Find,
        *,
        slots: int,
        max_length: int,
        told: Kept,
        pipeline: str,
        target: str,
    ) -> None:
        self.slots = slots
        self.max_length = max_length
        self.pipeline = pipeline
        self.target = target
        self._opened = opened
        self._engine = engine
        self._find_sampler = find_sampler
        self._told = told

    @property
    def notices(self) -> Sequence[str]:
        """What was to be known since it was loaded, a line each."""
        return self._told.notices

    def stream(
        self, prompt: str, *, special_tokens: bool = True, **settings: Unpack[Settings]
    ) -> Stream:
        """Continues a text, in pieces as they come.

        Args:
            prompt: The text.
            special_tokens: Whether control tokens spelled in it are meant as such.
            **settings: See `Settings`.

        Raises:
            UsageError: There is no such setting, a value is none, or the model is closed.
            PromptError: The prompt is empty, or leaves no room for output.
        """
        (request,) = self._requests([prompt], special_tokens, settings)
        return continued(self._engine, request)

    @overload
    def generate(  # type: ignore[overload-overlap]  # a text is an iterable of texts as well
        self,
        prompts: str,
        *,
        n: int = 1,
        special_tokens: bool = True,
        **settings: Unpack[Settings],
    ) -> Result: ...

    @overload
    def generate(
        self,
        prompts: Iterable[str],
        *,
        n: int = 1,
        special_tokens: bool = True,
        **settings: Unpack[Settings],
    ) -> list[Result]: ...

    def generate(
        self,
        prompts: str | Iterable[str],
        *,
        n: int = 1,
        special_tokens: bool = True,
        **settings: Unpack[Settings],
    ) -> Result | list[Result]:
        """Continues one text or several, `slots` of them side by side.

        Args:
            prompts: The text, or the texts.
            n: Samples of each, whose prompt is computed once; the seed of each is one more than
                that of the one before. They are the `samples` of a result.
            special_tokens: Whether control tokens spelled in them are meant as such.
            **settings: See `Settings`.

        Returns:
            What came of it; of several texts a list, in their order.

        Raises:
            UsageError: There is no such setting, a value is none, or the model is closed.
            PromptError: A prompt is empty, or leaves no room for output.
        """
        if not isinstance(prompts, Iterable):
            raise ParameterError("prompts", prompts, "a text or several")
        texts = [prompts] if isinstance(prompts, str) else [*prompts]
        check_integer("n", n, least=1)
        requests = self._requests(texts, special_tokens, settings, n)
        engine, sequences, written = self._engine, [], []
        try:
            for request in requests:
                sequences.append(engine.add(request))
            for sequence in sequences:
                text = "".join(iter(partial(engine.next_text, sequence), None))
                if sequence.error is not None:
                    raise sequence.error
                written.append(Result.of(sequence, text, engine.tokenizer))
        finally:
            for sequence in sequences:
                engine.cancel(sequence)
        firsts = range(0, len(written), n)
        results = [Result.of_samples(written[first : first + n]) for first in firsts]
        return results[0] if isinstance(prompts, str) else results

    def chat(
        self,
        *,
        system: str | None = None,
        messages: Sequence[Mapping[str, Any]] = (),
        chat_template: str | Path | None = None,
        **settings: Unpack[Settings],
    ) -> Chat:
        """Begins a conversation.

        Args:
            system: What the model is told before the first message.
            messages: What was said before, as `Chat.messages` and OpenAI have it.
            chat_template: A template to use in place of the model's own: a file of Jinja's, or the
                name of one (``chatml``, ``gemma``, ``llama2``, ``llama3``, ``mistral``, ``phi3``).
            **settings: How replies are chosen, see `Settings`; what is left out is as the model
                suggests, which `notices` tells.

        Raises:
            UsageError: There is no such setting, a value is none, or the model is closed.
            TemplateError: There is no template, or it cannot be used.
            PromptError: The messages are none of a user and a model who take turns.
        """
        from pipelines.common.chat.named import named_template

        if not isinstance(system, str | None):
            raise ParameterError("system", system, "a text")
        if not isinstance(chat_template, str | Path | None):
            raise ParameterError("chat_template", chat_template, "a path or a name")
        self._engine.check_open()
        named = None if chat_template is None else Path(chat_template)
        said = chat_settings(self._opened)
        defaults = defaults_of(settings, self._find_sampler, max_new_tokens=USUAL_REPLY)
        reader = replace(
            self._reader,
            settings=said,
            template=None if named is None else lambda: named_template(named),
        )
        _ = reader.chat  # what is wrong with the template is told now
        session = ChatSession(
            self._engine,
            reader,
            system=system,
            defaults=as_suggested(defaults, said.sampling, settings.keys(), self._told.notice),
            max_length=self.max_length,
        )
        if messages:
            try:
                session.restore(read_messages([*messages]))
            except RequestError as error:
                raise PromptError(str(error)) from error
            session.system = session.system if system is None else system
        return Chat(session)

    def tokenize(self, text: str, *, special_tokens: bool = True) -> list[int]:
        """The token ids of a text, as the model is given it: with the token that begins texts.

        Args:
            text: The text.
            special_tokens: Whether control tokens spelled in it are meant as such.

        Raises:
            PromptError: It is no valid Unicode.
            UsageError: It is no text, or the model is closed.
        """
        if not isinstance(text, str):
            raise ParameterError("text", text, "a text")
        self._engine.check_open()
        return self._opened.tokenizer.encode(text, special=special_tokens)

    def detokenize(self, tokens: Iterable[int]) -> str:
        """The text of token ids, without control tokens.

        Args:
            tokens: The ids.

        Raises:
            UsageError: The model is closed.
        """
        self._engine.check_open()
        return self._opened.tokenizer.decode(tokens)

    def logprobs(self, text: str, *, special_tokens: bool = True) -> list[TokenLogprob]:
        """How likely each token of a text is after those before it.

        All that is being written by then is written to its end first.

        Args:
            text: The text.
            special_tokens: Whether control tokens spelled in it are meant as such.

        Raises:
            PromptError: It is no valid Unicode, or does not fit.
            UsageError: It is no text, or the model is closed.
        """
        tokens = self.tokenize(text, special_tokens=special_tokens)
        if len(tokens) > self.max_length:
            raise TooLongError(
                f"the text has {len(tokens)} tokens, and there is room for {self.max_length};"
                " shorten it, or raise `max_length` up to the model's context"
            )
        found: list[float | None] = [None]
        with self._engine.alone() as runner:
            # In parts, since the logits of all of them can be gigabytes.
            for first in range(0, len(tokens) - 1, PREFILL_CHUNK):
                part = tokens[first : min(first + PREFILL_CHUNK, len(tokens) - 1)]
                (logits,) = runner.forward([Row(0, part, first, range(len(part)))])
                for row, token in zip(logits, tokens[first + 1 :], strict=False):
                    found.append(float(log_softmax(row)[token]))
        piece = self._opened.tokenizer.piece
        return [
            TokenLogprob(token, piece(token), value)
            for token, value in zip(tokens, found[: len(tokens)], strict=True)
        ]

    def describe(self) -> dict[str, Any]:
        """What runs: model, encodings, target, versions."""
        return self._opened.describe()

    def close(self) -> None:
        """Ends all that is being written, and lets go of the model's memory."""
        self._engine.close()

    def __repr__(self) -> str:
        return (
            f"<Model: {self.pipeline} on {self.target}, slots={self.slots},"
            f" max_length={self.max_length}>"
        )

    def __enter__(self) -> Model:
        self._engine.check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def _reader(self) -> PromptReader:
        return PromptReader(self._opened.tokenizer)

    def _requests(
        self, prompts: Sequence[str], special_tokens: bool, settings: Settings, samples: int = 1
    ) -> list[Request]:
        """What is asked of the engine, the samples of a prompt together.

        Nothing is, where one of them cannot be.
        """
        self._engine.check_open()
        for prompt in prompts:
            if not isinstance(prompt, str):
                raise ParameterError("prompt", prompt, "a text")
            if not prompt:
                raise PromptError("the prompt is empty; expected at least one character")
        defaults = defaults_of(settings, self._find_sampler)
        reader = replace(self._reader, special_tokens=special_tokens)
        requests: list[Request] = []
        for index, prompt in enumerate(prompts):
            asked = replace(defaults.request(prompt, index), samples=samples)
            requests += asked.sampled(asked.encoded(reader, self.max_length))
        return requests
