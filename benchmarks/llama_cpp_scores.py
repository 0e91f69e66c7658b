"""Writes llama.cpp's logits of texts to stdout, for `benchmarks.agreement`.

Each line of stdin is a text, the list of its tokens. Its logits are written as float32, ``[tokens,
vocabulary]``, before the next line is read.
"""

from __future__ import annotations

import json
import os
import sys

import llama_cpp

from benchmarks.engine import read_setup
from benchmarks.llama_cpp_engine import LlamaCppRunner, load, vocabulary_size


def main() -> None:
    """Loads the model, scores what it is given."""
    # What libraries print must not come between the logits.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    setup = read_setup()
    model = load(setup.model)
    vocabulary = vocabulary_size(model)
    runner = LlamaCppRunner(model, setup, llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED)
    for line in sys.stdin:
        answers.write(runner.score(json.loads(line), vocabulary).tobytes())
        answers.flush()


if __name__ == "__main__":
    main()
