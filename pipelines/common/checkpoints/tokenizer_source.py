"""What tokenizers are made of: the metadata of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from pipelines.common.cache import Cache
from pipelines.common.checkpoints.checkpoint import Metadata
from pipelines.common.text.tokenizer import Tokenizer
from pipelines.common.text.word_pieces import WordPieces

MODEL: Final = "tokenizer.ggml.model"
"""Key that names the kind of the tokenizer; a checkpoint without it has none."""

REMEDY: Final = "give the model's tokenizer.json with `tokenizer_path`"

AnyTokenizer: TypeAlias = Tokenizer | WordPieces
"""What text is cut by: the first kind for generating it, the second for encoders."""

_END_TOKENS: Final = ("eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep")


@dataclass(frozen=True)
class TokenizerSource:
    """The vocabulary that a checkpoint carries, in GGUF's keys.

    Keys and token types are those of the GGUF specification
    (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).

    Attributes:
        metadata: The checkpoint's metadata.
        cache: Where what is dear to make is kept.
        fingerprint: A digest of the metadata.
        name: The checkpoint's name, for messages.
        notice: Told, in one line each, what is wrong with the tokenizer and does not keep it from
            being used, and when the cache cannot be written.
    """

    metadata: Metadata
    cache: Cache
    fingerprint: str
    name: str
    notice: Callable[[str], None]

    @property
    def kind(self) -> str:
        """What the file calls the kind of its tokenizer.

        Raises:
            ModelFileError: It does not say, or not in a string.
        """
        return self.metadata.string(MODEL)

    def tell(self, remarks: Iterable[str]) -> None:
        """Tells what is wrong with the vocabulary and does not keep it from being used."""
        for remark in remarks:
            self.notice(f"{self.name}: the tokenizer is used although {remark}")

    def end_ids(self, vocab_size: int) -> Iterator[int]:
        """The ids of the tokens that end a text, of those named that the vocabulary has."""
        return self._ids(_END_TOKENS, vocab_size)

    def bos_id(self, vocab_size: int) -> int | None:
        """The id of the token that begins a text, if it is named and the vocabulary has it."""
        return next(self._ids(("bos",), vocab_size), None)

    def _ids(self, names: Iterable[str], vocab_size: int) -> Iterator[int]:
        for name in names:
            key = f"tokenizer.ggml.{name}_token_id"
            id = self.metadata.integer(key, None)
            if id is None:
                continue
            if 0 <= id < vocab_size:
                yield id
            else:
                self.notice(
                    f"{self.name}: {key} is {id}, but there are {vocab_size} tokens; it is ignored"
                )


class TokenizerMaker(Protocol):
    """Makes the tokenizer of a checkpoint by its kind: the registry's `tokenizer`."""

    def __call__(self, source: TokenizerSource) -> AnyTokenizer:
        """Makes it.

        Raises:
            ModelFileError: A key is missing or of the wrong type.
            TokenizerError: It is of a kind that is not supported, damaged or contradictory.
            OfflineError: It is not in a cache that has to hold it.
        """
