"""What a model on the disk gives, whatever its format: numbers, tensors and a tokenizer.

All formats speak one vocabulary, that of GGUF: its metadata keys and its tensors' names, for which
tables exist for every family of models (the `gguf` package has them). A format that has names of
its own translates them when it is opened, so that nobody above knows where a model came from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol, TypeAlias, TypeVar

from pipelines.common.encodings import Encoding
from pipelines.common.errors import ModelFileError, quoted
from pipelines.common.files import exists, open_regular

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipelines.common.cache import Cache
    from pipelines.common.cache.digests import Digests
    from pipelines.common.checkpoints.tokenizer_source import AnyTokenizer, TokenizerMaker

T = TypeVar("T")
Scalar: TypeAlias = bool | int | float | str

FOREIGN: Final = "backslashreplace"
"""How text that is not UTF-8 is decoded where it is only shown: with an escape for each byte."""

_REQUIRED: Final[Any] = object()
_NAMES: Final[Mapping[type[Scalar], str]] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
}


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies in its file, and as what.

    Attributes:
        name: Its name, in the vocabulary of GGUF.
        shape: Dimensions, outermost first; a row is the innermost.
        encoding: How a row is stored; may be one that is not `Encoding.supported`.
        offset: Bytes from the start of its file; 0 where it is made of several tensors.
        nbytes: Bytes that it takes.
    """

    name: str
    shape: tuple[int, ...]
    encoding: Encoding
    offset: int
    nbytes: int

    @property
    def row_length(self) -> int:
        """Elements of a row."""
        return self.shape[-1]

    @property
    def rows(self) -> int:
        """Number of rows: the product of all dimensions but the innermost."""
        return math.prod(self.shape[:-1])


@dataclass(frozen=True)
class MetadataArray:
    """An array of a metadata block, decoded when asked for.

    Attributes:
        element: What it holds.
        length: How many.
        decode: Makes a fresh list of them. It is told what to do with text that is not UTF-8, as
            `bytes.decode` is: with "strict" it raises `ValueError`.
    """

    element: type[Scalar]
    length: int
    decode: Callable[[str], list[Any]]


class Metadata(Mapping[str, Any]):
    """Key-value pairs of a model file; arrays read as lists, decoded at each look-up.

    Text in another encoding than UTF-8 has escapes in it (`FOREIGN`), but for `strings`, which is
    for those that something is made of: it refuses such text.

    The typed getters return a value of the type that they are named after, also where the file has
    the same number in another type. They raise `ModelFileError` when the value is something else,
    or is missing and no `default` is given.
    """

    def __init__(self, path: Path, values: Mapping[str, Scalar | MetadataArray]) -> None:
        self._path = path
        self._values = values

    def __getitem__(self, key: str) -> Any:
        value = self._values[key]
        return value.decode(FOREIGN) if isinstance(value, MetadataArray) else value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def describe(self, key: str) -> str:
        """Says what a key holds, without decoding arrays: ``array of 128256 strings``."""
        value = self._values[key]
        if isinstance(value, MetadataArray):
            plural = "" if value.length == 1 else "s"
            return f"array of {value.length} {_NAMES[value.element]}{plural}"
        shown = quoted(value) if isinstance(value, str) else str(value).lower()
        return f"{_NAMES[type(value)]} {shown}"

    def length(self, key: str) -> int | None:
        """Elements of an array; None where the key has something else, or is missing."""
        value = self._values.get(key)
        return value.length if isinstance(value, MetadataArray) else None

    def integer(self, key: str, default: T = _REQUIRED) -> int | T:
        """An integer."""
        return self._scalar(key, default, _integer, "an integer")

    def number(self, key: str, default: T = _REQUIRED) -> float | T:
        """A finite number."""
        return self._scalar(key, default, _number, "a finite number")

    def boolean(self, key: str, default: T = _REQUIRED) -> bool | T:
        """A boolean."""
        return self._scalar(key, default, _boolean, "a boolean")

    def string(self, key: str, default: T = _REQUIRED) -> str | T:
        """A string."""
        return self._scalar(key, default, _string, "a string")

    def strings(self, key: str, default: T = _REQUIRED) -> list[str] | T:
        """An array of strings."""
        return self._array(key, default, (str,), "an array of strings")

    def integers(self, key: str, default: T = _REQUIRED) -> list[int] | T:
        """An array of integers."""
        return self._array(key, default, (int,), "an array of integers")

    def numbers(self, key: str, default: T = _REQUIRED) -> list[float] | T:
        """An array of integers or floating-point numbers, which need not be finite."""
        return self._array(key, default, (int, float), "an array of numbers")

    def _scalar(
        self, key: str, default: T, convert: Callable[[Any], Any], expected: str
    ) -> Any | T:
        value = self._values.get(key)
        if value is None:
            return self._default(key, default, expected)
        converted = convert(value)
        if converted is None:
            raise self._wrong(key, expected)
        return converted

    def _array(self, key: str, default: T, types: tuple[type, ...], expected: str) -> Any | T:
        value = self._values.get(key)
        if value is None:
            return self._default(key, default, expected)
        if not isinstance(value, MetadataArray) or value.element not in types:
            raise self._wrong(key, expected)
        try:
            return value.decode("strict")
        except ValueError as error:
            raise ModelFileError(
                f"{self._path}: metadata key {quoted(key)} is damaged: {error}"
            ) from error

    def _default(self, key: str, default: T, expected: str) -> T:
        if default is _REQUIRED:
            raise ModelFileError(
                f"{self._path}: metadata key {quoted(key)} is missing, expected {expected}"
            )
        return default

    def _wrong(self, key: str, expected: str) -> ModelFileError:
        return ModelFileError(
            f"{self._path}: metadata key {quoted(key)} is the {self.describe(key)}, "
            f"expected {expected}"
        )


class Checkpoint(Protocol):
    """A model on the disk that has been opened and checked."""

    @property
    def path(self) -> Path:
        """Where it is."""

    @property
    def format(self) -> str:
        """Name and version of its format, as ``GGUF v3``."""

    @property
    def metadata(self) -> Metadata:
        """Its key-value pairs."""

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """Every tensor by name, in file order, also those in encodings that cannot be run."""

    @property
    def interleaved(self) -> bool:
        """Whether a rotation pairs neighbouring rows of a head's queries and keys, and not halves.

        Which of them depends on who has written the rows, not on the network.
        """

    @property
    def has_tokenizer(self) -> bool:
        """Whether there is a tokenizer, usable or not."""

    def tokenizer(
        self, cache: Cache, notice: Callable[[str], None], make: TokenizerMaker
    ) -> AnyTokenizer:
        """Makes its tokenizer, or takes what has been made of it before.

        Args:
            cache: Where that is kept.
            notice: Told, in one line each, what is wrong and does not keep it from being used.
            make: Makes one of metadata; a format that brings its tokenizers in files of their own
                need not ask it.

        Raises:
            ModelFileError: A key is missing or of the wrong type.
            TokenizerError: It is missing, damaged, or of a kind that is not supported.
            OfflineError: It is not in a cache that has to hold it.
        """

    def fingerprint(self, digests: Digests) -> str:
        """A digest of all that the file holds; finding it reads the file, where it is not known.

        Args:
            digests: What is known of files, see `Cache.digests`.

        Raises:
            ModelFileError: It cannot be read.
        """

    def raw(self, name: str, rows: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """A tensor's bytes, read-only, shape ``[rows, row_bytes]``; where they can be, mapped.

        Args:
            name: The tensor.
            rows: The first of its rows and the one after the last; None for all.

        Raises:
            ModelFileError: The tensor's encoding cannot be run.
        """

    def release(self, name: str) -> None:
        """Gives back the memory that reading a tensor's bytes took; they can be read again."""


def metadata_of(path: Path, pairs: Mapping[str, Any]) -> Metadata:
    """Metadata of pairs, whose lists become arrays.

    Args:
        path: What it is of, for messages.
        pairs: Scalars, and lists of scalars of one type.
    """
    return Metadata(path, {key: _stored(value) for key, value in pairs.items()})


def _stored(value: Any) -> Scalar | MetadataArray:
    if not isinstance(value, list | tuple):
        scalar: Scalar = value
        return scalar
    kind = type(value[0]) if value else str
    return MetadataArray(kind, len(value), lambda _: list(value))


def open_file(path: Path) -> BinaryIO:
    """Opens a model file to be read.

    Raises:
        ModelFileError: There is none, it is no regular file, or it cannot be read.
    """
    try:
        return open_regular(path)
    except FileNotFoundError as error:
        raise ModelFileError(f"no such model file: {path}{_of_a_hub(path)}") from error
    except OSError as error:
        raise ModelFileError(
            f"cannot use model file {path}: {error.strerror}; expected a regular file"
        ) from error


def _of_a_hub(path: Path) -> str:
    """What is to be added for a file that is not there and may be meant as a model of the hub."""
    if path.is_absolute() or len(path.parts) != 2 or exists(path.parent):
        return ""
    return "; for a model of the hub, give owner/name or owner/name:Q4_K_M"


# Exact types in what follows: a bool is an int to isinstance.


def _integer(value: Any) -> int | None:
    if type(value) is float and value.is_integer():
        return int(value)
    return value if type(value) is int else None


def _number(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) and math.isfinite(value) else None


def _boolean(value: Any) -> bool | None:
    if type(value) is int and value in (0, 1):
        return bool(value)
    return value if type(value) is bool else None


def _string(value: Any) -> str | None:
    return value if type(value) is str else None
