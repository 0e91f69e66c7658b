from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import processors
from vocabularies import Vocabulary, load_gguf, train, write_gguf

from pipelines.common.text.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def llama3() -> Vocabulary:
    """Llama 3's kind of vocabulary, in small."""
    vocabulary = train("llama-bpe", ignore_merges=True)
    bos_id = vocabulary.tokens.index("<|begin_of_text|>")
    vocabulary.backend.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", bos_id)]
    )
    return vocabulary


@pytest.fixture(scope="session")
def llama3_gguf(llama3: Vocabulary, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF that holds it."""
    return write_gguf(tmp_path_factory.mktemp("gguf") / "llama3.gguf", llama3.metadata())


@pytest.fixture(scope="session")
def llama3_tokenizer(llama3_gguf: Path) -> Tokenizer:
    """What is under test, read from the GGUF."""
    return load_gguf(llama3_gguf)
