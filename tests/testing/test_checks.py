"""The checks fail where something is wrong, and say what."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from unittest import SkipTest

import pytest

from pipelines.testing import (
    STAND_INS,
    STOCK_CPU,
    Backend,
    CheckFailedError,
    CheckSkippedError,
    Subject,
    check_batches,
    check_cached,
    check_graph,
    check_logits,
    check_metadata,
    check_module,
    check_variety,
    near,
    pipeline_checks,
)

HEAD = """
from pipelines.plugin import DecoderConfig, decoder, hookimpl

@hookimpl
def register_pipelines():
    return [decoder("odd", "Odd.", architectures=("odd",), network=f"{__name__}:build")]

def build(config: DecoderConfig):
    from pipelines.plugin import nn, ops
"""
"""The beginning of a plugin in one file, up to where its network is made."""

FINE = "    return nn.Decoder(config, [nn.Block(config) for _ in range(config.layers)])\n"

BROKEN = """
    class Odd(nn.Decoder):
        def logits(self, x):
            {changed}

    return Odd(config, [nn.Block(config) for _ in range(config.layers)])
"""


@pytest.fixture
def odd(tmp_path: Path) -> Callable[..., Subject]:
    def make(network: str, before: str = "") -> Subject:
        path = tmp_path / "odd.py"
        path.write_text(before + HEAD + network)
        return Subject.of("odd", path)

    return make


def changed(line: str) -> str:
    return BROKEN.format(changed=line)


def test_nothing_is_wrong_with_what_is_right(odd: Callable[..., Subject]) -> None:
    """All of them are run by the tests of the command and of the families that ship."""
    checks = {each.name: each for each in pipeline_checks(odd(FINE))}
    logits = checks["logits on cpu without native ops"].result()
    assert (logits.outcome, logits.why.startswith("largest error")) == ("ok", True)
    assert checks["stored in q6_k"].result().outcome == "ok"
    assert checks["graph from the cache"].result().outcome == "ok"


def test_a_model_file_can_be_checked_too(odd: Callable[..., Subject], tmp_path: Path) -> None:
    subject = odd(FINE)
    checks = pipeline_checks(subject.at(subject.write(tmp_path / "model.gguf")))
    outcomes = {each.name: each.result() for each in checks}
    assert {result.outcome for result in outcomes.values()} <= {"ok", "skipped"}
    assert "stored in q4_0" not in outcomes


def test_a_graph_that_computes_something_else(odd: Callable[..., Subject]) -> None:
    subject = odd(
        changed("return super().logits(x) + (0.5 if hasattr(x, 'requires_grad') else 0.0)")
    )
    for backend in (STOCK_CPU, *STAND_INS):
        with pytest.raises(CheckFailedError, match=r"largest error 1.*, \de-0\d allowed"):
            check_logits(subject, backend)
    with pytest.raises(CheckFailedError, match="largest error"):
        check_batches(subject, STOCK_CPU)


def test_logits_that_tell_nothing(odd: Callable[..., Subject]) -> None:
    with pytest.raises(CheckFailedError, match="after different tokens logits differ by no more"):
        check_variety(odd(changed("return super().logits(x * 0 + 1)")))


def test_a_network_that_looks_at_one_token(odd: Callable[..., Subject]) -> None:
    class_ = """
    class Blind(nn.Block):
        def forward(self, x, step):
            super().forward(x, step)
            return self.add(x, self.feed_forward(self.feed_forward_norm(x)))

    return nn.Decoder(config, [Blind(config) for _ in range(config.layers)])
"""
    with pytest.raises(CheckFailedError, match="the order of the tokens makes no difference"):
        check_variety(odd(class_))


def test_a_graph_that_is_another_each_time(odd: Callable[..., Subject], tmp_path: Path) -> None:
    counter = tmp_path / "counter.txt"
    counter.write_text("1")
    subject = odd(
        f"""
    from pathlib import Path
    count = int(Path({str(counter)!r}).read_text())
    Path({str(counter)!r}).write_text(str(count + 1))
"""
        + changed("return super().logits(x) * float(count)")
    )
    with pytest.raises(CheckFailedError, match="the graph is made anew at every start"):
        check_cached(subject)


def test_keys_that_nobody_reads(odd: Callable[..., Subject]) -> None:
    subject = odd(FINE)
    check_metadata(subject)
    with pytest.raises(CheckFailedError, match=r"not all keys of its own model .*odd\.new"):
        check_metadata(subject.varied(metadata={"odd.new": 7}))


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ("import numpy\n", "it imports numpy; import them where they are used"),
        ("print('hello there')\n", "it prints 'hello there' when imported"),
        ("import sys; sys.stderr.write('oh')\n", "it prints 'oh' when imported"),
        ("for _ in range(3 * 10**7): pass\n", r"it takes \d.* s to import, 0.2 s are allowed"),
    ],
)
def test_modules_that_are_in_the_way(
    odd: Callable[..., Subject], before: str, message: str
) -> None:
    plugin = odd(FINE, before).registry.pipelines["odd"].plugin
    with pytest.raises(CheckFailedError, match=message):
        check_module(plugin)


def test_what_cannot_be_checked_here_is_skipped(
    odd: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SkipTest, match="no graph"):
        check_graph(odd(FINE), "torch")
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    with pytest.raises(CheckSkippedError, match="it runs on macOS only"):
        Backend("coreml", "coreml").open(odd(FINE))


def test_errors_of_the_network_are_one_line(odd: Callable[..., Subject]) -> None:
    checks = {each.name: each for each in pipeline_checks(odd(changed("raise KeyError('my own')")))}
    result = checks["logits on cpu without native ops"].result()
    assert (result.outcome, result.why) == ("failed", "KeyError: 'my own'")
    with pytest.raises(KeyError, match="my own"):
        checks["logits on cpu without native ops"].result(strict=True)


def test_logits_of_another_shape() -> None:
    import numpy as np

    with pytest.raises(CheckFailedError, match=r"the logits are \[2\], expected \[3\]"):
        near(np.zeros(2, np.float32), np.zeros(3, np.float32), 1)
    with pytest.raises(CheckFailedError, match="largest error inf"):
        near(np.full(3, np.nan, np.float32), np.ones(3, np.float32), 1)
