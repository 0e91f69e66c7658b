"""How the next token is chosen from logits: a chain of samplers, and a draw from what they leave.

A sampler is a small object that takes candidates, tokens with their logits, and gives those that
are left of them. There is one file for each; `chain` has the whole of it.
"""

from pipelines.common.engine.sampling.params import RANDOM_SEED, SamplingParams

__all__ = ["RANDOM_SEED", "SamplingParams"]
