"""Trains the tokenizer: byte-level BPE as Llama 3 has it, with a small vocabulary."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from training.documents import BEGIN, END, END_OF_TURN, PADDING, documents
from training.split import Split

VOCABULARY = 1536
SPECIAL_TOKENS = (
    BEGIN,
    END,
    "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>",
    PADDING,
    "<|reserved_special_token_2|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    END_OF_TURN,
    "<|python_tag|>",
    *(f"<|reserved_special_token_{number}|>" for number in range(3, 8)),
)
# The split of Llama 3: https://github.com/meta-llama/llama3/blob/main/llama/tokenizer.py
SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TRAINING_DOCUMENTS = 20_000
FILE = Path(__file__).parent / "tokenizer.json"


def train_tokenizer() -> Tokenizer:
    """Trains on generated documents; deterministic."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = islice(documents(0, Split.TRAIN), TRAINING_DOCUMENTS)
    # Digits stay single tokens, so that the model can add them place by place.
    tokenizer.train_from_iterator((re.sub(r"<\|\w+\|>|\d", "", text) for text in texts), trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL_TOKENS])
    return tokenizer


def main() -> None:
    """Writes `FILE`."""
    tokenizer = train_tokenizer()
    tokenizer.save(str(FILE))
    print(f"{FILE}: {tokenizer.get_vocab_size()} tokens")


if __name__ == "__main__":
    main()
