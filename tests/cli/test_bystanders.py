"""Which plugins a kept graph depends on: those at work with all they import, and no others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from noticing import is_noticed
from tiny_models import llama, write_gguf

USED = """
from pipelines.plugin import decoder, hookimpl
{used}

@hookimpl
def register_pipelines():
    return [decoder("used", "U.", architectures=("llama",), network=f"{{__name__}}.model:build")]
"""

MODEL = """
from pipelines.plugin import DecoderConfig
from pipelines.llama3 import model
{model}

def build(config: DecoderConfig):
    {build}
    return model.build(config)
"""

OTHER = """
from pathlib import Path
import helper
from pipelines.plugin import TargetRecord, hookimpl
{other}
TABLE = Path({table!r}).read_text()

def load():
    from . import lazy
    return lazy.Target()

@hookimpl
def register_targets():
    return [TargetRecord("other", "O.", requires=(), load=load, preference=99)]
"""

LAZY = """
from pipelines.common.program.target import Availability

class Target:
    def availability(self):
        return Availability(reason="it is not here")
"""


class Case:
    """Two plugins, of which one is used, a module that both could import, and a table."""

    def __init__(self, folder: Path, **parts: str) -> None:
        self.folder = folder
        self.files = {
            "a_other/__init__.py": OTHER,
            "a_other/lazy.py": LAZY,
            "used/__init__.py": USED,
            "used/model.py": MODEL,
            "library/helper.py": "VALUE = 1\n",
            "library/middle.py": "def late():\n    import helper\n    return helper.VALUE\n",
            "library/table": "1",
        }
        values = dict.fromkeys(("used", "model", "other"), "") | {"build": "pass"}
        values |= {"table": str(folder / "library" / "table")} | parts
        for name, text in self.files.items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text.format(**values) if "{" in text else text)
        self.plugins = ["a_other", "used"]
        self.model = write_gguf(folder / "model.gguf", llama())

    def install(self, **modules: str) -> None:
        """Puts the two into one installed package, with a module that both may import."""
        library = self.folder / "library"
        for name, source in {"__init__": "", "shared": "VALUE = 1\n", **modules}.items():
            path = library / "acme" / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(source)
        information = library / "acme-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text("Name: acme\nVersion: 1.0\n")
        points = "[run_pipeline.plugins]\none = acme.one\ntwo = acme.two\n"
        (information / "entry_points.txt").write_text(points)
        self.plugins = []

    def is_noticed(self, *names: str, fresh: bool = False) -> bool:
        """Whether the graph is made anew after files have changed; see `noticing`."""
        plugins = [word for name in self.plugins for word in ("--plugin-path", name)]
        options = ["--model-path", str(self.model), "--no-native-ops", "--prompt", "th"]
        options += ["--max-new-tokens", "1"]
        return is_noticed(self.folder, [*plugins, "used", *options], names, fresh=fresh)


@pytest.fixture
def case(tmp_path: Path) -> Callable[..., Case]:
    return lambda **parts: Case(tmp_path, **parts)


def test_a_plugin_that_has_no_part(case: Callable[..., Case]) -> None:
    """Nor what it alone imports or reads."""
    alone = ("a_other/__init__.py", "a_other/lazy.py", "library/helper.py", "library/table")
    assert not case().is_noticed(*alone, fresh=True)


@pytest.mark.parametrize("name", ["used/__init__.py", "used/model.py"])
def test_the_plugin_at_work(case: Callable[..., Case], name: str) -> None:
    assert case().is_noticed(name)


# How the used plugin may get at the module that the other one has loaded before.
WAYS = {
    "at the start": {"used": "import helper"},
    "in its model": {"model": "from helper import VALUE"},
    "lazily": {"build": "import helper"},
    "by a name": {"build": "import importlib; importlib.import_module('helper')"},
    "by a computed name": {"build": "__import__('hel' + 'per')"},
    "as another name": {"build": "from importlib import import_module as i; i('hel' + 'per')"},
    "among all modules": {"build": "import sys; sys.modules['hel' + 'per']"},
    "through a library": {"build": "import middle; middle.late()"},
    "in code that it executes": {"build": "exec('imp' + 'ort helper')"},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_module_that_both_import(case: Callable[..., Case], way: str) -> None:
    assert case(**WAYS[way]).is_noticed("library/helper.py")


@pytest.mark.parametrize("part", ["used", "model", "build"])
def test_a_table_that_both_read(case: Callable[..., Case], tmp_path: Path, part: str) -> None:
    path = str(tmp_path / "library" / "table")
    assert case(**{part: f"open({path!r}).read()"}).is_noticed("library/table")


# What the other plugin may do to the driver while it is loaded.
DEEDS = {
    "a function is replaced": (
        "from pipelines.llama3 import model\nbuild = model.build\n"
        "model.build = lambda config: build(config)"
    ),
    "a method is replaced": (
        "from pipelines.common.nn import layers\nfrom pipelines.common import nn\n"
        "forward = nn.Block.forward\n"
        "nn.Block.forward = lambda self, *args: forward(self, *args)"
    ),
    "an operator is declared": (
        "from pipelines.plugin import neutral_operator\n"
        "@neutral_operator('Mine', lambda x: x)\ndef mine(x): return x"
    ),
    "a function is called for what it does": (
        "from pipelines.common.nn.module import Module\n"
        "from builtins import setattr as put\nput(Module, 'mine', 1)"
    ),
    "a collection is changed": (
        "from pipelines.common.encodings import ENCODINGS\nENCODINGS['mine'] = ENCODINGS['q4_0']"
    ),
}


@pytest.mark.parametrize("deed", DEEDS)
def test_a_plugin_that_changes_what_others_use(case: Callable[..., Case], deed: str) -> None:
    """Also what it is the first to load."""
    assert case(other=DEEDS[deed]).is_noticed("a_other/__init__.py", fresh=True)


def test_a_plugin_that_only_uses_what_it_loads(case: Callable[..., Case]) -> None:
    uses = "from pipelines.llama3 import model\nfrom pipelines.plugin import nn\nmade = [nn.Block]"
    assert not case(other=uses).is_noticed("a_other/__init__.py", fresh=True)


@pytest.mark.parametrize(
    ("names", "way", "noticed"),
    [
        (["one", "shared"], "", False),
        (["two"], "", True),
        (["shared"], "from . import shared", True),
        (["shared"], "from acme.shared import VALUE", True),
        (["__init__"], "", True),
    ],
)
def test_two_plugins_of_one_package(
    case: Callable[..., Case], names: list[str], way: str, noticed: bool
) -> None:
    both = case()
    one = "from . import shared\nfrom pipelines.plugin import hookimpl\n"
    one += "@hookimpl\ndef register_targets(): return []"
    used = USED.format(used=way).replace('f"{__name__}.model:build"', '"acme.two:build"')
    both.install(one=one, two=used + MODEL.format(model="", build="pass"))
    files = [f"library/acme/{name}.py" for name in names]
    assert both.is_noticed(*files, fresh=not noticed) == noticed
