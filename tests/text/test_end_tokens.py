from __future__ import annotations

import json
from pathlib import Path

import gguf
import pytest
from vocabularies import Vocabulary, load_gguf, write_gguf

from pipelines.common.text.folder import tokenizer_of_folder
from pipelines.common.text.tokenizer import Tokenizer

# Those that llama.cpp's `llama_vocab_is_eog` tells of a file that has them all (version 0c1e570).
NAMES = [
    *("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>", "<|im_end|>", "<|end|>"),
    *("<end_of_turn>", "<end_of_utterance>", "<turn|>", "<eos>", "</s>", "[EOS]", "[e~["),
    *("<EOT>", "_<EOT>", "[EOT]", "<\uff5cend\u2581of\u2581sentence\uff5c>"),
    *("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]", "<|file_sep|>"),
    *("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"),
]


def _gguf(vocabulary: Vocabulary, kind: int | None, folder: Path) -> Tokenizer:
    tokens = [token for token in vocabulary.tokens if token not in NAMES]
    types = [vocabulary.types[vocabulary.tokens.index(token)] for token in tokens]
    metadata = vocabulary.metadata() | {
        "tokens": tokens + NAMES,
        "token_type": types + [kind] * len(NAMES),
        "eos_token_id": tokens.index("<tool>"),
        "add_bos_token": False,
    }
    if kind is None:
        del metadata["token_type"]
    return load_gguf(write_gguf(folder / "m.gguf", metadata))


def _json(vocabulary: Vocabulary, special: bool | None, folder: Path) -> Tokenizer:
    document = json.loads(vocabulary.backend.to_str())
    document["post_processor"] = None
    ids = document["model"]["vocab"]
    added = [token for token in document["added_tokens"] if token["content"] not in NAMES]
    template = added[0]
    for token in NAMES:
        id = len(vocabulary.tokens) + NAMES.index(token)
        if special is None:
            ids[token] = id
        else:
            added.append(template | {"id": id, "content": token, "special": special})
    document["added_tokens"] = added
    (folder / "tokenizer.json").write_text(json.dumps(document))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ids["a"]}))
    return tokenizer_of_folder(folder, pytest.fail)


@pytest.mark.parametrize(
    ("read", "kind", "stated"),
    [
        (_gguf, gguf.TokenType.CONTROL, "<tool>"),
        (_gguf, gguf.TokenType.USER_DEFINED, "<tool>"),
        (_gguf, gguf.TokenType.NORMAL, "<tool>"),
        (_gguf, gguf.TokenType.UNUSED, "<tool>"),
        (_gguf, None, "<tool>"),
        (_json, True, "a"),
        (_json, False, "a"),
        (_json, None, "a"),
    ],
)
def test_names_end_a_text_whatever_a_file_has_them_as(
    read: object, kind: object, stated: str, llama3: Vocabulary, tmp_path: Path
) -> None:
    tokenizer: Tokenizer = read(llama3, kind, tmp_path)
    ids = {name: tokenizer.vocabulary.id_of(name) for name in (*NAMES, stated)}
    assert tokenizer.end_ids == set(ids.values())
    for name in NAMES:
        assert tokenizer.encode(name, bos=False) == [ids[name]]
        assert tokenizer.token_bytes(ids[name]) == b""
        assert ids[name] not in tokenizer.encode(name, bos=False, special=False)
    # And so they are for whoever reads what is exported.
    (tmp_path / "again").mkdir()
    for name, content in tokenizer.vocabulary.files().items():
        (tmp_path / "again" / name).write_bytes(content)
    again = tokenizer_of_folder(tmp_path / "again", pytest.fail)
    assert again.end_ids == tokenizer.end_ids - {ids[stated]}


@pytest.mark.parametrize(
    ("names", "ends"),
    [
        ({"<|end|>", "<|return|>", "<|call|>"}, {"<|return|>", "<|call|>"}),
        ({"<|end|>", "<|flush|>", "<|calls|>"}, {"<|flush|>", "<|calls|>"}),
        ({"<|end|>", "<|call|>"}, {"<|end|>", "<|call|>"}),
        ({"<|end|>", "<|return|>"}, {"<|end|>", "<|return|>"}),
        ({"</s>", "<|tool_response>"}, {"<|tool_response>"}),
    ],
)
def test_names_that_mean_something_else_beside_others(
    names: set[str], ends: set[str], llama3: Vocabulary, tmp_path: Path
) -> None:
    metadata = llama3.metadata() | {
        "tokens": llama3.tokens + sorted(names),
        "token_type": llama3.types + [gguf.TokenType.NORMAL] * len(names),
    }
    tokenizer = load_gguf(write_gguf(tmp_path / "m.gguf", metadata))
    found = {tokenizer.piece(id) for id in tokenizer.end_ids}
    assert found == ends | {"<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"}


@pytest.mark.parametrize("key", ["eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep"])
def test_keys_that_name_an_end(key: str, llama3: Vocabulary, tmp_path: Path) -> None:
    metadata = llama3.metadata() | {f"{key}_token_id": 7}
    tokenizer = load_gguf(write_gguf(tmp_path / "m.gguf", metadata))
    assert 7 in tokenizer.end_ids
