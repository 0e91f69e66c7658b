"""Token ids to text, as they come."""

from __future__ import annotations

import codecs

from pipelines.common.text.tokenizer import Tokenizer


class Detokenizer:
    """Turns a stream of tokens into text, character by whole character.

    A token may end in the middle of a character: its bytes are held back until they are a whole
    one. Bytes that can no longer become one come out as U+FFFD. The pieces together are exactly the
    text of the whole sequence, as one that goes on: a space that begins it stays.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, id: int) -> str:
        """Takes one token and returns the text that is complete now, often none."""
        return self._decoder.decode(self._tokenizer.token_bytes(id))

    def flush(self) -> str:
        """Ends the stream: returns what was held back, and starts afresh."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest
