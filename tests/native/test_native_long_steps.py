"""Steps over many keys, in which the query heads of a key-value head are shared out to threads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from native_nodes import attention


@pytest.mark.parametrize("sinks", [False, True])
@pytest.mark.parametrize("name", ["RotaryAttention", "Attention", "AttentionFloat32"])
def test_a_step_is_what_the_same_token_is_in_a_prompt(
    native_library: Path, name: str, sinks: bool
) -> None:
    """With one key-value head there are pieces as soon as there are two threads."""
    prompt = attention(
        name, tokens=2, past=(700,), capacity=1024, kv_heads=1, sinks=sinks, window=600
    )
    inputs = {**prompt.inputs, "total": np.array([702], np.int32)}
    mixed, keys, values = replace(prompt, inputs=inputs).run(native_library)
    step = {
        name: array[:, 1:] for name, array in inputs.items() if name in ("query", "key", "value")
    }
    inputs = {**inputs, **step, "past_key": keys, "past_value": values}
    inputs["past"] = np.array([701], np.int32)
    alone, new_keys, new_values = replace(prompt, inputs=inputs).run(native_library)
    np.testing.assert_array_equal(alone[:, 0], mixed[:, 1])
    np.testing.assert_array_equal(new_keys, keys)
    np.testing.assert_array_equal(new_values, values)
