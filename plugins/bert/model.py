"""The network of BERT (arXiv:1810.04805), of which MiniLM (arXiv:2002.10957) is a small one."""

from __future__ import annotations

from pipelines.plugin import EncoderConfig, nn


def build(config: EncoderConfig) -> nn.Encoder:
    """The network."""
    return nn.Encoder(config)
