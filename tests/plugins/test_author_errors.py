"""What an author of a family gets wrong is one line that says what, where it can be found out."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.common.errors import PluginError
from pipelines.testing import Subject

PLUGIN = """
from dataclasses import dataclass
from pipelines.plugin import DecoderConfig, decoder, hookimpl, key, nn

@hookimpl
def register_pipelines():
    return [decoder("odd", "Odd.", architectures=("odd",), network=f"{__name__}:build")]

@dataclass(frozen=True)
class Config(DecoderConfig):
    scale: float = key("scale", 2.0)

class Odd(nn.Decoder):
    def __init__(self, config):
        super().__init__(config, [nn.Block(config) for _ in range(config.layers)])
        self.more = nn.RMSNorm(config.hidden_size, 1e-5, "more_norm")

    def logits(self, x):
        return super().logits(self.more(x))

def build(config: Config):
    return Odd(config)
"""

MISTAKES = {
    "no function of that name": (
        ':build"',
        ':built"',
        ":built' does not exist",
    ),
    "no module of that name": (
        'f"{__name__}:build"',
        '"no_such_module:build"',
        "pipeline odd has no network: 'no_such_module:build' does not exist",
    ),
    "no such class": ("config: Config", 'config: "Confg"', "is annotated with Confg, which its"),
    "no dataclass": (
        "@dataclass(frozen=True)\n",
        "",
        ":build has a field scale and is no dataclass; decorate it with @dataclass(frozen=True)",
    ),
    "another class": ("config: Config", "config: dict", "no parameter that is annotated with"),
    "a tensor without a name": (
        '"more_norm"',
        '""',
        "parameter more.weight of the network is the tensor '.weight', whose name is not whole",
    ),
    "a tensor twice": (
        '"more_norm"',
        '"output_norm"',
        "parameters norm.weight and more.weight of the network are both the tensor"
        " 'output_norm.weight'",
    ),
    "logits of another width": (
        "super().logits(self.more(x))",
        "super().logits(self.more(x))[..., :7]",
        "the network gives no logits of shape [batch, wanted, 261], but some of shape",
    ),
    "logits of another rank": (
        "super().logits(self.more(x))",
        "super().logits(self.more(x)).unflatten(-1, (9, 29))",
        "the network gives no logits of shape [batch, wanted, 261], but some of shape",
    ),
}


def subject(folder: Path, old: str = "", new: str = "") -> Subject:
    assert old in PLUGIN
    path = folder / "odd_plugin.py"
    path.write_text(PLUGIN.replace(old, new) if old else PLUGIN)
    return Subject.of("odd", path)


@pytest.mark.parametrize("target", ["cpu", "torch"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(tmp_path: Path, mistake: str, target: str) -> None:
    old, new, message = MISTAKES[mistake]
    with pytest.raises(PluginError) as error:
        subject(tmp_path, old, new).open(target).start(slots=1, max_length=16).score([1, 2, 3])
    said = str(error.value)
    assert message in said
    assert "\n" not in said


def test_a_method_that_graphs_have_not(tmp_path: Path) -> None:
    made = subject(tmp_path, "super().logits(self.more(x))", "super().logits(x.clamp(0))")
    with pytest.raises(AttributeError, match="a value of a graph has no clamp; it has add, chunk,"):
        made.open("cpu").start(slots=1, max_length=16)


def test_without_a_mistake(tmp_path: Path) -> None:
    logits = subject(tmp_path).open("cpu").start(slots=1, max_length=16).score([1, 2, 3])
    assert logits.shape == (3, 261)
