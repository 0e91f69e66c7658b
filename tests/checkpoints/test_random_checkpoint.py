"""Random weights: a checkpoint of no file, as good as one of a file to whoever reads it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from notices import Notices

from pipelines.common.cache import Cache
from pipelines.common.checkpoints.random import (
    RandomCheckpoint,
    RandomWeights,
    metadata_of,
    random_values,
)
from pipelines.common.checkpoints.table import check_table, tensor_shapes
from pipelines.common.decoder.read import decoder_config
from pipelines.common.encodings import ENCODINGS, F32, Q4_0
from pipelines.common.encodings.convert import dequantize
from pipelines.common.errors import ParameterError, PipelineError, UsageError
from pipelines.common.models.pipeline import DecoderPipeline
from pipelines.common.models.random import random_checkpoint
from pipelines.common.registry.registry import Registry
from pipelines.common.text_generation import ModelOptions
from pipelines.llama3.pipeline import BUNDLED
from pipelines.plugin import DecoderConfig, key, nn

REGISTRY = Registry.discover()
DECODERS = sorted(
    name
    for name, e in REGISTRY.pipelines.items()
    if e.record.architectures and e.record.task == "generate"
)


@dataclass(frozen=True)
class OddConfig(DecoderConfig):
    """Numbers of every kind, without defaults."""

    window: int = key("attention.window", least=5, most=9)
    scale: float = key("scale", most=0.5)
    loud: bool = key("loud")
    names: str = key("names")
    widths: tuple[int, ...] = key("widths", least=3)
    inner: int = key("inner_length")
    usual: float = key("usual", 7.0)


def build(config: OddConfig) -> nn.Decoder:
    return nn.Decoder(config, [nn.Block(config) for _ in range(config.layers)])


ODD = DecoderPipeline("odd", ("odd",), f"{__name__}:build")


def odd(**wanted: Any) -> tuple[RandomCheckpoint, OddConfig]:
    made = random_checkpoint(ODD, "odd", RandomWeights(config=wanted))
    return made, decoder_config(made, "odd", OddConfig)


@pytest.mark.parametrize("name", DECODERS)
def test_it_has_exactly_the_tensors_of_the_network(name: str) -> None:
    pipeline = REGISTRY.load_pipeline(name)
    assert isinstance(pipeline, DecoderPipeline)
    made = pipeline.random_checkpoint(RandomWeights())
    config = decoder_config(made, pipeline.architectures[0], pipeline.numbers)
    table = pipeline.build(config).weights()
    check_table(made, table)
    assert {n: t.shape for n, t in made.tensors.items()} == tensor_shapes(table)
    assert (config.hidden_size, config.layers, config.heads, config.kv_heads) == (64, 2, 4, 2)
    for tensor, info in made.tensors.items():
        raw = made.raw(tensor)
        assert raw.shape == (info.rows, info.nbytes // info.rows)
        assert not raw.flags.writeable
        made.release(tensor)


def test_sizes_and_numbers_of_the_family_can_be_asked_for() -> None:
    wanted = {
        "vocabulary": 300,
        "hidden_size": 96,
        "layers": 3,
        "head_dim": 8,
        "window": 6,
        "usual": 2,
        "tied": True,
    }
    made, config = odd(**wanted)
    assert {name: getattr(config, name) for name in wanted} == wanted
    assert "output.weight" not in made.tensors
    assert made.tensors["blk.2.attn_q.weight"].shape == (32, 96)
    made, config = odd(biases=("attn_q", "ffn_down"))
    assert config.biases == ("attn_q", "ffn_down")
    assert made.tensors["blk.1.ffn_down.bias"].shape == (64,)


def test_numbers_without_a_default_are_within_their_bounds() -> None:
    _, config = odd()
    own = (config.window, config.scale, config.loud, config.names, config.widths, config.usual)
    assert own == (5, 0.5, False, "", (3, 3), 7.0)
    assert config.inner == 32


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (
            {"width": 3},
            "`width` is 3; expected one of the numbers vocabulary, .*, inner, usual",
        ),
        ({"layers": "2"}, "`layers` is '2'; expected an integer"),
        ({"layers": True}, "`layers` is True; expected an integer"),
        ({"layers": 10**9}, "`layers` is 1000000000; expected 4096 or less"),
        ({"layers": 0}, "'odd.block_count' is 0; expected a positive"),
        ({"vocabulary": 255}, "`vocabulary` is 255; expected 261 or more"),
        ({"heads": 3, "head_dim": 8}, "3 attention heads cannot be shared out among 2"),
        ({"head_dim": 7}, "expected even numbers"),
        ({"window": 12}, "'odd.attention.window' is 12; expected a number from 5 to 9"),
        ({"biases": ("attn_qkv",)}, r"`biases` is \('attn_qkv',\); expected what this network can"),
        ({"widths": 3}, "`widths` is 3; expected a tuple of int"),
        ({"interleaved": True}, "`interleaved` is True; expected one of the numbers"),
    ],
)
def test_sizes_that_make_no_sense(wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        odd(**wanted)


def test_values_follow_from_seed_name_and_shape_alone() -> None:
    made = random_values(7, "blk.0.attn_q.weight", (3, 5))
    other = random_checkpoint(ODD, "odd", RandomWeights(7, {"layers": 1}))
    more = random_checkpoint(ODD, "odd", RandomWeights(7, {"layers": 2, "intermediate_size": 32}))
    name = "blk.0.attn_q.weight"
    np.testing.assert_array_equal(other.raw(name), more.raw(name))
    for seed, tensor, shape in ((8, name, (3, 5)), (7, "blk.1.x", (3, 5)), (7, name, (5, 3))):
        values = random_values(seed, tensor, shape)
        assert not np.array_equal(values.reshape(-1), made.reshape(-1))
    # The same wherever it is computed, and in every release.
    digest = hashlib.blake2b(random_values(7, "a", (301, 7)).tobytes(), digest_size=8).hexdigest()
    assert digest == "314d6851659a7589"


def test_values_keep_the_size_of_vectors() -> None:
    matrix = random_values(0, "x.weight", (999, 64))
    assert abs(matrix.std() - 64**-0.5) < 1e-3
    assert abs(matrix.mean()) < 1e-3
    norm = random_values(0, "norm.weight", (5000,))
    assert 0.5 <= norm.min() < norm.max() < 1.5
    bias = random_values(0, "x.bias", (5000,))
    assert -0.5 <= bias.min() < 0 < bias.max() < 0.5
    experts = random_values(0, "ffn_up_exps.weight", (4, 32, 64))
    assert abs(experts.std() - 64**-0.5) < 1e-2


@pytest.mark.parametrize("encoding", [e for e in ENCODINGS.values() if e.encode], ids=str)
def test_matrices_may_be_in_any_encoding_that_numbers_can_be_put_into(encoding: Any) -> None:
    made = random_checkpoint(ODD, "odd", RandomWeights(encoding=encoding))
    name = "blk.0.ffn_up.weight"
    assert made.tensors[name].encoding == encoding
    assert made.tensors["output_norm.weight"].encoding == F32
    exact = random_values(0, name, (96, 64))
    np.testing.assert_allclose(dequantize(encoding, made.raw(name)), exact, atol=0.06)
    assert made.raw(name).nbytes == made.tensors[name].nbytes


def test_what_cannot_be_asked_for() -> None:
    for seed in (-1, 2**63, 1.0, True, "1"):
        with pytest.raises(ParameterError, match=r"`random.seed` is .*; expected an integer from"):
            RandomWeights(seed)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="`random` is 7; expected RandomWeights"):
        ModelOptions(random=7)  # type: ignore[arg-type]


def test_the_tokenizer_spells_every_text(tmp_path: Any) -> None:
    made, _ = odd(vocabulary=1000)
    tokenizer = made.tokenizer(Cache(tmp_path), pytest.fail, Registry.discover().tokenizer)
    text = "Grüße, 世界\n\t\x00 [UNUSED_3]"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode("<|eot_id|>") == [259]
    assert tokenizer.end_ids == {258, 259}
    assert tokenizer.vocab_size == 1000


def test_fingerprints_tell_what_is_not_the_same_apart() -> None:
    digests = Cache.default().digests
    checkpoints = [
        random_checkpoint(ODD, "odd", wanted)
        for wanted in (
            RandomWeights(),
            RandomWeights(1),
            RandomWeights(0, {"layers": 3}),
            RandomWeights(0, {"window": 6}),
            RandomWeights(encoding=Q4_0),
        )
    ]
    assert len({made.fingerprint(digests) for made in checkpoints}) == len(checkpoints)
    again = random_checkpoint(ODD, "odd", RandomWeights(0, {"window": 5}))
    assert again.fingerprint(digests) == checkpoints[0].fingerprint(digests)


def test_in_the_place_of_a_file() -> None:
    notices = Notices()
    options = ModelOptions(model_path=BUNDLED, random=RandomWeights(3), encoding="float32")
    model = REGISTRY.load_pipeline("llama3").open(options, REGISTRY, notices)
    own = REGISTRY.load_pipeline("llama3").open(
        ModelOptions(model_path=BUNDLED, encoding="float32"), REGISTRY, notices
    )
    assert "llama3 runs on random weights: what it says means nothing" in notices.messages
    assert model.config == own.config
    assert model.config.rope == own.config.rope
    assert model.tokenizer.encode("Once upon") == own.tokenizer.encode("Once upon")
    weights = model.program.weights
    expected = random_values(
        3, "blk.1.ffn_up.weight", weights.float32("layers.1.feed_forward.up.weight").shape
    )
    np.testing.assert_array_equal(weights.float32("layers.1.feed_forward.up.weight"), expected)
    assert model.describe()["model"] == f"{BUNDLED} with random weights, seed 3"
    assert model.describe()["model_fingerprint"] != own.describe()["model_fingerprint"]
    sized = ModelOptions(model_path=BUNDLED, random=RandomWeights(config={"layers": 1}))
    with pytest.raises(UsageError, match="have its sizes; leave out layers, or leave out"):
        REGISTRY.load_pipeline("llama3").open(sized, REGISTRY, notices)


def test_metadata_of_pairs(tmp_path: Any) -> None:
    metadata = metadata_of(tmp_path, {"a": 1, "b": [1.5, 2.5], "c": [], "d": ["x"]})
    assert dict(metadata) == {"a": 1, "b": [1.5, 2.5], "c": [], "d": ["x"]}
    assert metadata.numbers("b") == [1.5, 2.5]
    assert metadata.strings("c") == []
