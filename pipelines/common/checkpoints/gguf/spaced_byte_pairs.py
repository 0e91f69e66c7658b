"""BPE over characters from a checkpoint's metadata: the kind ``gemma4``.

Spaces are U+2581 and merges have ranks; lines are merged by themselves, and what no token spells is
spelled in tokens for bytes, ``<0x0A>``. Source: llama.cpp (``src/llama-vocab.cpp``).
"""

from __future__ import annotations

from typing import Final

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

from pipelines.common.checkpoints.gguf.byte_pair_vocabulary import BytePairVocabulary
from pipelines.common.checkpoints.tokenizer_source import REMEDY, TokenizerSource
from pipelines.common.errors import TokenizerError
from pipelines.common.text.byte_pairs import add_whole
from pipelines.common.text.sentence_pieces import SPACE
from pipelines.common.text.tokenizer import Tokenizer

_LINES: Final = r"[^\n]+|\n+"


def load(source: TokenizerSource) -> Tokenizer:
    """Builds the tokenizer.

    Raises:
        ModelFileError: A key is missing or of the wrong type.
        TokenizerError: The vocabulary is damaged or contradictory, or lacks bytes.
    """
    vocabulary = BytePairVocabulary.read(source.metadata, source.name, spells_bytes=False)
    for byte in range(256):
        if f"<0x{byte:02X}>" not in vocabulary.ids:
            raise TokenizerError(
                f"{source.name}: the tokenizer has no token <0x{byte:02X}>, so that not every text"
                f" can be written in its tokens; {REMEDY}"
            )
    built = vocabulary.build()
    source.tell(built.remarks)
    backend = _assembled(built.model)
    add_whole(backend, built.added)
    size = backend.get_vocab_size()
    return Tokenizer(
        backend,
        vocab_size=size,
        end_ids=source.end_ids(size),
        bos_id=source.bos_id(size),
        adds_bos=True,  # whatever the file says, as llama.cpp has it: some say otherwise by mistake
        source=source.name,
    )


def _assembled(model: models.BPE) -> tokenizers.Tokenizer:
    model.byte_fallback = True
    backend = tokenizers.Tokenizer(model)
    backend.normalizer = normalizers.Replace(" ", SPACE)
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(_LINES), "isolated")
    backend.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return backend
