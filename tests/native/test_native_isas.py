"""Every instruction set computes the same bits, and so does every machine."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from native_nodes import Node, attention, embedding, linear
from numpy.typing import NDArray
from numpy_features import FEATURES, without
from tiny_models import open_model, random_tokens

from custom_ops.native.rules import BLOCKS, STORED
from pipelines.common.op_packages import instruction_set

ROOT = Path(__file__).parents[2]

# What the bundled model's logits are on every machine; only changes of what is computed, as of the
# order of a sum, change it.
LOGITS = {
    "q4_0": "aebaffee99ecb9a4bf4282783f2df0f5f9d383f37e3aa381e5c1efe1603c1864",
    "q8_0": "9f8b2ac594de05cd3f4a4523041b10e0ed527ce114a5a3bd3cbd6ef3e5a85e75",
    "auto": "da21646f11c1e941e71b5434a0a0901aae5efdfc90375da74f53c376f60c333b",
    "float32": "da21646f11c1e941e71b5434a0a0901aae5efdfc90375da74f53c376f60c333b",
}

PROGRAM = """
import hashlib, sys
from pipelines.common.progress import Progress
from pipelines.common.registry.registry import Registry
from pipelines.common.text_generation import ModelOptions
registry = Registry.discover()
for encoding in sys.argv[2:]:
    options = ModelOptions(encoding=encoding, target="cpu")
    model = registry.load_pipeline("llama3").open(options, registry, Progress())
    logits = model.start(slots=1, max_length=64).score(list(map(int, sys.argv[1].split(","))))
    print(encoding, hashlib.sha256(logits.tobytes()).hexdigest())
"""


def program(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


ISAS = sorted(
    name
    for header in (ROOT / "custom_ops" / "native" / "src").glob("simd_*.h")
    for name in re.findall(r'kName = "(.+)"', header.read_text(encoding="utf-8"))
)
"""All that there are kernels for."""


class Libraries:
    """Copies of the library, one for each instruction set; it chooses when it first computes."""

    def __init__(self, library: Path, folder: Path) -> None:
        self._library = library
        self._folder = folder
        self._refusals: dict[str, str] = {}

    def path(self, isa: str) -> Path:
        """Where the one is that takes an instruction set, if it does."""
        return self._folder / f"{isa}.so"

    def refusal(self, isa: str) -> str:
        """Why the library does not take an instruction set; empty if it does."""
        if isa not in self._refusals:
            shutil.copy(self._library, self.path(isa))
            self._refusals[isa] = ""
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("PIPELINE_NATIVE_ISA", isa)
                try:
                    linear("f32").run(self.path(isa))
                except Exception as error:  # noqa: BLE001 - the runtime's have no class in common
                    self._refusals[isa] = str(error)
        return self._refusals[isa]

    def built(self) -> list[str]:
        """The instruction sets that this build has kernels for, as it says itself."""
        known = re.search(r"expected one of ([\w, -]+)", self.refusal("none"))
        assert known is not None
        return known[1].split(", ")


@pytest.fixture(scope="module")
def libraries(native_library: Path, tmp_path_factory: pytest.TempPathFactory) -> Libraries:
    return Libraries(native_library, tmp_path_factory.mktemp("isas"))


@pytest.fixture(scope="module", params=ISAS)
def isa(request: pytest.FixtureRequest, libraries: Libraries) -> str:
    """Each instruction set; skipped are those of other processors, and nothing else."""
    name: str = request.param
    if name not in libraries.built():
        pytest.skip(f"{name} is of another family of processors, or unknown to the compiler")
    if why := libraries.refusal(name):
        assert why.endswith(f"PIPELINE_NATIVE_ISA is {name}, which this processor lacks")
        pytest.skip(f"this processor lacks {name}")
    return name


def test_nothing_is_built_that_is_not_tested(libraries: Libraries) -> None:
    assert {"portable"} <= set(libraries.built()) <= set(ISAS)
    assert libraries.refusal("portable") == ""


def test_what_is_taken_can_be_told_without_loading_it(
    libraries: Libraries, native_library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIPELINE_NATIVE_ISA", raising=False)
    told = instruction_set.choice(native_library)
    assert list(told.built) == libraries.built()
    assert set(ISAS) == set(instruction_set.SETS)
    usable = [name for name in libraries.built() if not libraries.refusal(name)]
    assert told.name == usable[0]
    for name in [*told.built, "none"]:
        monkeypatch.setenv("PIPELINE_NATIVE_ISA", name)
        told = instruction_set.choice(native_library)
        assert told.name == (name if name in usable else "")
        assert libraries.refusal(name).endswith(told.problem)


NODES: dict[str, Node] = {
    **{
        f"{encoding}, {tokens} tokens": linear(encoding, tokens=tokens, columns=columns)
        for encoding in STORED
        for tokens, columns in ((1, 256), (2, 512), (4, 256), (7, 768), (16, 256), (37, 512))
    },
    **{
        f"{encoding}, norm": linear(encoding, norm=True, weights=3, tokens=5) for encoding in STORED
    },
    **{f"{encoding}, residual": linear(encoding, residual=True, tokens=5) for encoding in STORED},
    **{
        f"{encoding}, gated by {gate}, {tokens} tokens": linear(
            encoding, gated=gate, weights=2, norm=True, tokens=tokens
        )
        for encoding in BLOCKS
        for gate in (1, 2)
        for tokens in (1, 3, 8, 20)
    },
    **{f"{encoding}, rows": embedding(encoding) for encoding in STORED},
    "f32, narrow": linear("f32", columns=19),
    **{
        f"{name}, {head_dim}, {value_dim}, {tokens} tokens, window {window}, cap {cap}": attention(
            name,
            head_dim=head_dim,
            value_dim=value_dim,
            tokens=tokens,
            interleaved=tokens == 3,
            capacity=352,
            past=past,
            window=window,
            cap=cap,
            sinks=cap > 0,
        )
        for name in (
            "RotaryAttention",
            "Attention",
            "RotaryAttentionFloat32",
            "AttentionFloat32",
        )
        for head_dim, value_dim in ((16, 16), (18, 18), (64, 64), (80, 80), (128, 128), (48, 35))
        for tokens, past in ((1, (0, 300)), (3, (0, 300)), (40, (0, 290)))
        for window, cap in ((0, 0.0), (7, 0.0), (0, 1.5))
    },
    **{
        f"{tokens} tokens on several spans": attention(
            head_dim=16, tokens=tokens, capacity=2512, past=(1500, 2500), window=2000, sinks=True
        )
        for tokens in (1, 3)
    },
}


def digest(results: list[NDArray[Any]]) -> str:
    return hashlib.sha256(b"".join(result.tobytes() for result in results)).hexdigest()


@pytest.fixture(scope="module")
def expected(libraries: Libraries) -> dict[str, str]:
    """What plain C++ computes, which is the same everywhere."""
    assert libraries.refusal("portable") == ""
    digests = {}
    for name, node in NODES.items():
        results = node.run(libraries.path("portable"))
        assert all(np.isfinite(result).all() for result in results), name
        digests[name] = digest(results)
    return digests


def test_operators(isa: str, libraries: Libraries, expected: dict[str, str]) -> None:
    for name, node in NODES.items():
        assert digest(node.run(libraries.path(isa))) == expected[name], name


@pytest.fixture(scope="module")
def built() -> None:
    """The bundled model's graphs in the cache, so that processes need not build them."""
    for encoding in LOGITS:
        open_model(None, encoding=encoding, native_ops=True).start(slots=1, max_length=64)


@pytest.mark.usefixtures("built")
def test_logits_of_the_bundled_model(isa: str) -> None:
    """Recorded, and computed without what NumPy uses of this processor as well."""
    tokens = ",".join(map(str, random_tokens(60)))
    few = without(FEATURES) if isa == "portable" else {}
    done = program("-c", PROGRAM, tokens, *LOGITS, PIPELINE_NATIVE_ISA=isa, **few)
    assert done.returncode == 0, done.stderr
    assert dict(line.split() for line in done.stdout.splitlines()) == LOGITS


@pytest.mark.usefixtures("built")
def test_text_in_the_readme(isa: str) -> None:
    """Its first command prints what stands below it, but for the figures."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    command = re.search(r"^ {4}pip install -e \. && python (run_pipeline\.py .*)$", readme, re.M)
    assert command is not None
    block = readme[command.end() :].split("```\n")[1]
    expected, figures = block.split("\nprompt  ")
    assert "tok/s" in figures
    done = program(*shlex.split(command[1]), PIPELINE_NATIVE_ISA=isa)
    assert done.returncode == 0, done.stderr
    notices = re.findall(r"^run_pipeline: .*$", done.stderr, re.M)
    assert "\n".join([*notices, done.stdout]).split() == expected.split()


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("PIPELINE_NATIVE_ISA", "altivec", "expected one of "),
        ("PIPELINE_NATIVE_PREFETCH", "3 KiB", "expected bytes from 0 to 65536"),
        ("PIPELINE_NATIVE_PREFETCH", "65537", "expected bytes from 0 to 65536"),
    ],
)
def test_what_a_variable_may_not_say_is_one_line(variable: str, value: str, expected: str) -> None:
    done = program(
        *("run_pipeline.py", "llama3", "--prompt", "x", "--max-new-tokens", "1"),
        **{variable: value},
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert f"{variable} is {value}" in last
    assert expected in last
    assert "Traceback" not in done.stderr


def test_flag_leaves_the_kernels_out() -> None:
    def packages(*options: str) -> object:
        done = program("run_pipeline.py", "llama3", "--prompt", "x", "--json", *options)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["op_packages"]

    assert packages("--max-new-tokens", "1") == ["native"]
    assert packages("--max-new-tokens", "1", "--no-native-ops") == []
