"""The order in which GGUF files have the rows of query and key matrices."""

from __future__ import annotations

from typing import Final

INTERLEAVED: Final = frozenset(
    (
        "arcee",
        "arctic",
        "baichuan",
        "bailingmoe",
        "chameleon",
        "chatglm",
        "cohere2",
        "command-r",
        "deci",
        "deepseek",
        "deepseek2",
        "ernie4_5",
        "ernie4_5-moe",
        "granite",
        "granitehybrid",
        "granitemoe",
        "internlm2",
        "llama",
        "llama-embed",
        "llama4",
        "maincoder",
        "minicpm",
        "mistral3",
        "mistral4",
        "neo-bert",
        "olmo",
        "orion",
        "plamo",
        "plm",
        "smollm3",
        "starcoder",
        "xverse",
    )
)
"""Values of ``general.architecture`` whose converters keep, or bring, neighbours into pairs.

Those of all others leave halves, as Hugging Face has them. Source: `llama_model_rope_type` in
https://github.com/ggml-org/llama.cpp/blob/master/src/llama-model.cpp
"""
