"""What each field of a request is worth here: one table, OpenAI's and vLLM's names.

https://platform.openai.com/docs/api-reference/completions/create, .../chat/create, and
https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

INTEGERS: Final = ("top_k", "seed", "repeat_last_n", "dry_allowed_length", "dry_penalty_last_n")
NUMBERS: Final = (
    "temperature",
    "top_p",
    "min_p",
    "typical_p",
    "top_n_sigma",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "xtc_probability",
    "xtc_threshold",
    "dry_multiplier",
    "dry_base",
)
OTHERS: Final = ("dry_sequence_breakers", "ignore_eos", "logit_bias", "samplers")
"""Settings of sampling that are neither; llama.cpp's names where OpenAI and vLLM have none."""
LOGPROBS: Final = ("logprobs", "top_logprobs")
"""What asks for log-probabilities: a number as of completions, or true and a number as of chat."""
LIMITS: Final = ("max_new_tokens", "max_tokens", "max_completion_tokens")
"""Names of the most tokens of output."""

TAKEN: Final = frozenset(
    {"prompt", "messages", "n", "stop", *LIMITS, *LOGPROBS, *NUMBERS, *INTEGERS, *OTHERS}
)
"""Fields that are honoured."""

NOT_OFFERED: Final[Mapping[str, tuple[Any, ...]]] = {
    # of OpenAI's completions
    "best_of": (1,),
    "echo": (False,),
    "stream": (False,),
    "suffix": ("",),
    # of OpenAI's chat
    "audio": (),
    "function_call": ("none",),
    "functions": ([],),
    "modalities": (["text"],),
    "prediction": (),
    "reasoning_effort": (),
    "response_format": ({"type": "text"},),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "verbosity": (),
    "web_search_options": (),
    # of llama.cpp
    "mirostat": (0,),
    # of vLLM
    "add_generation_prompt": (True,),
    "chat_template": (),
    "chat_template_kwargs": ({},),
    "continue_final_message": (False,),
    "documents": ([],),
    "add_special_tokens": (True,),
    "allowed_token_ids": ([],),
    "bad_words": ([],),
    "guided_choice": (),
    "guided_grammar": (),
    "guided_json": (),
    "guided_regex": (),
    "include_stop_str_in_output": (False,),
    "length_penalty": (1,),
    "logits_processors": ([],),
    "min_tokens": (0,),
    "prompt_embeds": (),
    "prompt_logprobs": (),
    "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,),
    "skip_special_tokens": (True,),
    "stop_token_ids": ([],),
    "structured_outputs": (),
    "truncate_prompt_tokens": (),
    "use_beam_search": (False,),
}
"""Fields that would change the result or its form, with the values that do not; null never does."""

HARMLESS: Final = frozenset(
    {
        "cache_salt",
        "guided_decoding_backend",
        "guided_whitespace_pattern",
        "metadata",
        "model",
        "parallel_tool_calls",
        "priority",
        "prompt_cache_key",
        "prompt_cache_retention",
        "request_id",
        "safety_identifier",
        "service_tier",
        "spaces_between_special_tokens",
        "store",
        "stream_options",
        "user",
    }
)
"""Fields that say nothing of the text, or nothing without one of the others."""

KNOWN: Final = TAKEN | NOT_OFFERED.keys() | HARMLESS
