"""Checks a ``tokenizer.json`` before the `tokenizers` library sees it.

The library takes much for granted: it panics at some contradictions, and allocates whatever a file
asks for. What it refuses by itself, with an error, is left to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from pipelines.common.errors import TokenizerError, quoted
from pipelines.common.text import bounds

_EXPECTED: Final = "expected byte-level BPE, or SentencePiece with byte fall-back"

_MAX_GROWTH: Final = 1024
"""How many characters normalizers may put in the place of one, as far as they are checked."""


def check_document(document: Mapping[str, Any], source: str) -> None:
    """Checks the vocabulary and what is done to a text before it is looked up there.

    Args:
        document: What the file holds.
        source: The file's name, for messages.

    Raises:
        TokenizerError: It is too large, of another kind, or contradicts itself.
    """
    model = _object(document.get("model"))
    _check_bounds(model, _items(document.get("added_tokens")), source)
    kind = model.get("type", "BPE")
    check_model = _MODELS.get(str(kind))
    if check_model is None:
        raise TokenizerError(f"{source}: the vocabulary is of the kind {_shown(kind)}; {_EXPECTED}")
    check_model(model, source)
    _check_normalizer(document.get("normalizer"), source)
    _check_template(document.get("post_processor"), source)


def template_bos_id(post_processor: object) -> int | None:
    """What a tokenizer's template puts in front of a text, if anything."""
    processor = _object(post_processor)
    match processor.get("type"):
        case "Sequence":
            found = map(template_bos_id, _items(processor.get("processors")))
            return next((id for id in found if id is not None), None)
        case "TemplateProcessing":
            first = next(iter(_items(processor.get("single"))), None)
            name = _object(_object(first).get("SpecialToken")).get("id")
            described = _object(processor.get("special_tokens")).get(str(name))
            id = next(iter(_items(_object(described).get("ids"))), None)
        case "BertProcessing" | "RobertaProcessing":
            id = next(iter(_items(processor.get("cls"))[1:]), None)
        case _:
            return None
    return id if isinstance(id, int) else None


def _check_bounds(model: Mapping[str, Any], added: list[Any], source: str) -> None:
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        bounds.check_tokens(vocabulary, source)
        bounds.check_ids(vocabulary.values(), source)  # a table has as many rows as they go
    else:
        tokens = [str(pair[0]) for pair in map(_items, _items(vocabulary)) if pair]
        bounds.check_count(len(tokens), bounds.MAX_TOKENS, "tokens", source)
        bounds.check_tokens(tokens, source)
    contents = [str(_object(token).get("content")) for token in added]
    bounds.check_tokens(contents, source)
    bounds.check_added(contents, source)
    bounds.check_ids((_object(token).get("id") for token in added), source)


def _check_bpe(model: Mapping[str, Any], source: str) -> None:
    for affix in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(affix):
            raise TokenizerError(
                f"{source}: the vocabulary marks words with {affix} {_shown(model[affix])};"
                f" {_EXPECTED}"
            )
    if model.get("dropout"):
        raise TokenizerError(
            f"{source}: the vocabulary has the dropout {_shown(model['dropout'])}, which makes"
            " tokens random; set it to null"
        )
    vocabulary, unknown = _object(model.get("vocab")), model.get("unk_token")
    if isinstance(unknown, str) and unknown not in vocabulary:
        raise TokenizerError(
            f"{source}: unk_token is {quoted(unknown)}, which the vocabulary does not have"
        )
    for rank, merge in enumerate(_items(model.get("merges"))):  # of which there are half a million
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if isinstance(pair, list) and len(pair) == 2:
            left, right = pair
            if isinstance(left, str) and isinstance(right, str) and left + right in vocabulary:
                continue
        raise TokenizerError(f"{source}: merge {rank} does not name two tokens that make a third")


def _check_unigram(model: Mapping[str, Any], source: str) -> None:
    if model.get("unk_id") is None:
        raise TokenizerError(
            f"{source}: unk_id is missing, the token for what the vocabulary does not have"
        )


_MODELS: Final[Mapping[str, Callable[[Mapping[str, Any], str], None]]] = {
    "BPE": _check_bpe,
    "Unigram": _check_unigram,
}


def _check_normalizer(normalizer: object, source: str) -> None:
    """Checks that it is of a kind that does not panic, and makes no large text of a small one."""
    growth = 1
    for step in _steps(normalizer):
        match step.get("type"):
            case "Precompiled":
                raise TokenizerError(
                    f"{source}: the normalizer has a precompiled table of characters; {_EXPECTED}"
                )
            case "Replace":
                growth *= max(1, len(str(step.get("content"))))
            case "Prepend":
                growth *= max(1, len(str(step.get("prepend"))))
        if growth > _MAX_GROWTH:
            raise TokenizerError(
                f"{source}: the normalizer makes more than {_MAX_GROWTH:,} characters of one"
            )


def _check_template(post_processor: object, source: str) -> None:
    """Checks that a text is in it once: the library applies templates also without BOS and EOS."""
    processor = _object(post_processor)
    for inner in _items(processor.get("processors")):
        _check_template(inner, source)
    if processor.get("type") == "TemplateProcessing":
        pieces = map(_object, _items(processor.get("single")))
        texts = [piece["Sequence"] for piece in pieces if "Sequence" in piece]
        if [_object(text).get("id") for text in texts] != ["A"]:
            raise TokenizerError(f"{source}: the template does not have the text in it once")


def _steps(normalizer: object) -> Iterator[Mapping[str, Any]]:
    step = _object(normalizer)
    yield step
    for inner in _items(step.get("normalizers")):
        yield from _steps(inner)


def _object(value: object) -> Mapping[str, Any]:
    """A JSON object; what is none counts as an empty one."""
    return value if isinstance(value, dict) else {}


def _items(value: object) -> list[Any]:
    """A JSON array; what is none counts as an empty one."""
    return value if isinstance(value, list) else []


def _shown(value: object) -> str:
    return quoted(str(value))
