"""Opens folders as Hugging Face's hub has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.common.cache import Cache, digest
from pipelines.common.cache.digests import Digests
from pipelines.common.checkpoints.checkpoint import Metadata, TensorInfo, metadata_of
from pipelines.common.checkpoints.huggingface.config import architecture_numbers, as_stated
from pipelines.common.checkpoints.huggingface.generation import (
    GENERATION_CONFIG,
    sampling_metadata,
)
from pipelines.common.checkpoints.huggingface.model import HuggingFaceModel
from pipelines.common.checkpoints.huggingface.shards import open_shards
from pipelines.common.checkpoints.huggingface.sources import Said, Source, Stored
from pipelines.common.checkpoints.huggingface.tensors import gguf_tensors
from pipelines.common.checkpoints.huggingface.vocabulary import (
    TEMPLATE,
    TOKENIZER_CONFIG,
    pooling,
    vocabulary_metadata,
)
from pipelines.common.checkpoints.json_file import MAX_CONFIG_BYTES, read_object
from pipelines.common.checkpoints.model_file import ModelFile
from pipelines.common.checkpoints.opening import MAPPED, Opening
from pipelines.common.checkpoints.tokenizer_source import (
    MODEL,
    AnyTokenizer,
    TokenizerMaker,
    TokenizerSource,
)
from pipelines.common.encodings import MXFP4
from pipelines.common.errors import ModelFileError, TokenizerError, quoted
from pipelines.common.files import exists, is_folder
from pipelines.common.text.folder import TOKENIZER_FILES, tokenizer_of_folder

CONFIG: Final = "config.json"

_BESIDE: Final = (
    CONFIG,
    GENERATION_CONFIG,
    "special_tokens_map.json",
    TEMPLATE,
    TOKENIZER_CONFIG,
    *TOKENIZER_FILES,
)
"""What results depend on beside the tensors."""

_QUANTIZED: Final = ("quantization_config", "compression_config")


class HuggingFaceFolder:
    """An opened folder; implements `Checkpoint`. Make one with `open_folder`.

    Args:
        path: The folder.
        metadata: Its config, in the vocabulary of GGUF.
        sources: Where each tensor comes from, likewise.
        files: The files of the tensors.
        interleaved: See `Checkpoint.interleaved`.
    """

    def __init__(
        self,
        path: Path,
        metadata: Metadata,
        sources: Mapping[str, Source],
        files: list[ModelFile],
        *,
        interleaved: bool,
    ) -> None:
        self.path: Final = path
        self.metadata: Final = metadata
        self.tensors: Final[Mapping[str, TensorInfo]] = {
            name: source.info for name, source in sources.items()
        }
        self.interleaved: Final = interleaved
        count = f", {len(files)} files" * (len(files) > 1)
        self.format: Final = f"Hugging Face folder, safetensors{count}"
        self._sources = sources
        self._files = files

    @property
    def has_tokenizer(self) -> bool:
        """See `Checkpoint.has_tokenizer`."""
        return any(exists(self.path / name) for name in TOKENIZER_FILES)

    def tokenizer(
        self, cache: Cache, notice: Callable[[str], None], make: TokenizerMaker
    ) -> AnyTokenizer:
        """See `Checkpoint.tokenizer`."""
        if MODEL in self.metadata:
            fingerprint = digest(dict(self.metadata))
            return make(TokenizerSource(self.metadata, cache, fingerprint, str(self.path), notice))
        if not self.has_tokenizer:
            raise TokenizerError(
                f"{self.path}: has no tokenizer, expected {' or '.join(TOKENIZER_FILES)}; give one"
                " with `tokenizer_path`"
            )
        return tokenizer_of_folder(self.path, notice)

    def fingerprint(self, digests: Digests) -> str:
        """See `Checkpoint.fingerprint`; a digest of all files that results depend on."""
        small = [self.path / name for name in _BESIDE if exists(self.path / name)]
        files = [*self._files, *(ModelFile(path, "mmap", "a JSON file") for path in small)]
        return digest(*(f"{file.path.name} {file.digest(digests)}" for file in files))

    def raw(self, name: str, rows: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """See `Checkpoint.raw`."""
        encoding = self.tensors[name].encoding
        if not encoding.supported:
            raise ModelFileError(
                f"{self.path}: tensor {quoted(name)} is in {encoding}, which cannot be run"
            )
        return self._sources[name].raw(rows)

    def release(self, name: str) -> None:
        """See `Checkpoint.release`."""
        self._sources[name].release()


def open_folder(path: Path, opening: Opening = MAPPED) -> HuggingFaceFolder:
    """Opens a folder, or the folder of a file in it.

    All of it is checked but the values of tensors. A model of a type that no family has a
    translation for keeps the names that it has, so that it can be looked at.

    Raises:
        ModelFileError: A file is missing, cannot be read or is not sound; the config has something
            that changes results and cannot be said; or the model is quantized in a way of its own.
    """
    folder, named = (path, "") if is_folder(path) else (path.parent, path.name)
    folder = folder if folder.name else folder.absolute()  # messages call it by its name
    if not exists(folder / CONFIG):
        raise ModelFileError(
            f"{path}: has no {CONFIG} beside it, which says what the model is; expected the folder"
            " of a model"
        )
    config = read_object(folder / CONFIG, MAX_CONFIG_BYTES)
    model_type = config.get("model_type")
    known = {model.model_type: model for model in opening.translations}
    model: HuggingFaceModel | None = known.get(model_type) if isinstance(model_type, str) else None
    _take_quantization(folder / CONFIG, config, model)
    shards = open_shards(folder, named, opening)
    sources: dict[str, Source]
    if model is None:
        architecture, numbers = str(model_type), as_stated(config)
        sources = {n: Stored(shard.file, i) for shard in shards for n, i in shard.tensors.items()}
    else:
        architecture = model.architecture
        if model.part:
            config = _part(folder / CONFIG, config, model.part)
        numbers, factors = architecture_numbers(config, model, folder / CONFIG)
        sources = gguf_tensors(folder, shards, model, config)
        sources.update((name, Said(name, values)) for name, values in factors.items())
        numbers.update(pooling(folder))
    pairs = {
        "general.architecture": architecture,
        **{f"{architecture}.{key}": value for key, value in numbers.items()},
        **vocabulary_metadata(folder),
        **sampling_metadata(folder),
    }
    return HuggingFaceFolder(
        folder,
        metadata_of(folder, pairs),
        sources,
        [shard.file for shard in shards],
        interleaved=model is not None and model.interleaved,
    )


def _part(path: Path, config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object of a config.

    Raises:
        ModelFileError: There is none of that name.
    """
    part = config.get(name)
    if not isinstance(part, dict):
        raise ModelFileError(f"{path}: has no {name}, expected the config of the part that is run")
    return part


def _take_quantization(path: Path, config: dict[str, Any], model: HuggingFaceModel | None) -> None:
    """Takes out what says that tensors are codes, of those that are made sense of.

    Raises:
        ModelFileError: They are others.
    """
    settings = next((stated for key in _QUANTIZED if (stated := config.pop(key, None))), None)
    if settings is None:
        return
    method = settings.get("quant_method") if isinstance(settings, dict) else None
    if model is not None and model.stacked_experts and method == MXFP4.name:
        return
    raise ModelFileError(
        f"{path}: is quantized by {quoted(str(method or 'a method that it does not name'))}, which"
        " cannot be run; expected weights in bfloat16, float16 or float32: use the model that it"
        " was made of, or a GGUF file of it"
    )
