"""What lies beside a tokenizer's file in a model repository: its special tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipelines.common.errors import TokenizerError, quoted
from pipelines.common.files import read_document

MAX_VALUES: Final = 5 << 20
"""In a file: one a token and three a merge, up to their bounds. Each takes up to 100 bytes."""

_MAX_SETTINGS_BYTES: Final = 4 << 20


@dataclass(frozen=True)
class SpecialTokens:
    """Which tokens begin and end texts.

    Attributes:
        bos_id: The token that begins a text, if there is one.
        adds_bos: Whether texts are to begin with it.
        end_ids: The tokens that end a generation.
        eos_id: That of them which the tokenizer's own settings name.
    """

    bos_id: int | None
    adds_bos: bool
    end_ids: frozenset[int]
    eos_id: int | None


@dataclass(frozen=True)
class AddedToken:
    """A token that settings describe.

    Attributes:
        id: Its id.
        text: What it is in a text.
        control: Whether it steers the model and stands for no text.
    """

    id: int
    text: str
    control: bool


class Settings:
    """The settings beside a tokenizer's file; those of files that are not there are empty.

    ``tokenizer_config.json`` names ``bos_token``, ``eos_token`` and ``add_bos_token``;
    ``special_tokens_map.json`` the former two, where it does not; ``generation_config.json`` has
    one or more ``eos_token_id``.

    Args:
        folder: Where they are.
        notice: Told what they say of tokens that the vocabulary does not have.

    Raises:
        TokenizerError: A file is malformed or too large.
    """

    def __init__(self, folder: Path, notice: Callable[[str], None]) -> None:
        self._config_file = folder / "tokenizer_config.json"
        self._map_file = folder / "special_tokens_map.json"
        self._generation_file = folder / "generation_config.json"
        self._added_file = folder / "added_tokens.json"
        self._config = _read_settings(self._config_file)
        self._map = _read_settings(self._map_file)
        self._notice = notice

    def added_tokens(self) -> list[AddedToken]:
        """The tokens that ``tokenizer_config.json`` or ``added_tokens.json`` adds, by id.

        Raises:
            TokenizerError: What they say of one is malformed.
        """
        found = {
            id: AddedToken(id, text, False)
            for text, id in _read_settings(self._added_file).items()
            if _is_id(id, self._added_file)
        }
        described = self._config.get("added_tokens_decoder") or {}
        if not isinstance(described, dict):
            raise TokenizerError(f"{self._config_file}: added_tokens_decoder is no object")
        for key, token in described.items():
            text = token.get("content") if isinstance(token, dict) else None
            if not key.isdecimal() or not isinstance(text, str):
                raise TokenizerError(
                    f"{self._config_file}: added_tokens_decoder has {quoted(key)}; expected ids"
                    " with the content of a token each"
                )
            found[int(key)] = AddedToken(int(key), text, token.get("special") is True)
        return [found[id] for id in sorted(found)]

    def special_tokens(
        self,
        id_of: Callable[[str], int | None],
        known: Collection[int],
        *,
        bos_id: int | None,
        adds_bos: bool,
        eos_id: int | None = None,
    ) -> SpecialTokens:
        """What all of them come to.

        Args:
            id_of: The id of a token, or None where the vocabulary has none of that name.
            known: All ids.
            bos_id: What begins a text if nothing says otherwise.
            adds_bos: Whether it is added if nothing says otherwise.
            eos_id: What ends a text if nothing says otherwise.

        Raises:
            TokenizerError: A setting is malformed.
        """
        stated = self._token_id("bos_token", id_of)
        adds = self._config.get("add_bos_token")
        if not isinstance(adds, bool):
            adds = adds_bos and (stated is None or stated == bos_id)
        named_end = self._token_id("eos_token", id_of)
        eos = eos_id if named_end is None else named_end
        ends = self._generation(known) | (set() if eos is None else {eos})
        return SpecialTokens(bos_id if stated is None else stated, adds, frozenset(ends), eos)

    def _token_id(self, name: str, id_of: Callable[[str], int | None]) -> int | None:
        """The id of a token that settings name, as text or as an object with `content`."""
        for settings, file in ((self._config, self._config_file), (self._map, self._map_file)):
            token = settings.get(name)
            if isinstance(token, dict):
                token = token.get("content")
            if token is None:
                continue
            if not isinstance(token, str):
                raise TokenizerError(f"{file}: {name} is {quoted(str(token))}, expected a token")
            id = id_of(token)
            if id is None:
                self._notice(
                    f"{file}: {name} is {quoted(token)}, which the tokenizer does not have; it is"
                    " ignored"
                )
            return id
        return None

    def _generation(self, known: Collection[int]) -> set[int]:
        file = self._generation_file
        stated = _read_settings(file).get("eos_token_id")
        ids = stated if isinstance(stated, list) else [] if stated is None else [stated]
        if not all(type(id) is int for id in ids):
            raise TokenizerError(
                f"{file}: eos_token_id is {quoted(str(stated))}, expected a token id or several"
            )
        unknown = [id for id in ids if id not in known]
        if unknown:
            self._notice(
                f"{file}: eos_token_id is {quoted(str(stated))}, of which the tokenizer does not"
                f" have {unknown[0]}; it is ignored"
            )
        return set(ids) - set(unknown)


def parse(content: bytes, file: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        TokenizerError: The content is something else, or has too many values.
    """
    if sum(map(content.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise TokenizerError(f"{file}: holds more than {MAX_VALUES:,} values")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"{file}: is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise TokenizerError(f"{file}: expected a JSON object")
    return document


def _read_settings(file: Path) -> dict[str, Any]:
    """An object of settings; an empty one where there is no file."""
    try:
        content = read_document(file, _MAX_SETTINGS_BYTES)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise TokenizerError(f"{file}: cannot be read: {error.strerror}") from error
    return parse(content, file)


def _is_id(value: object, file: Path) -> bool:
    if type(value) is not int:
        raise TokenizerError(f"{file}: expected an id for each token, not {quoted(str(value))}")
    return True
