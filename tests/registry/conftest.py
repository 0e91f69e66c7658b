from __future__ import annotations

import sys

import pytest

from pipelines.common.registry import plugins


@pytest.fixture(autouse=True)
def no_shipped_plugins(monkeypatch):
    """Leaves out the plugins of this checkout, whatever they are."""
    monkeypatch.setattr(plugins, "shipped_plugins", lambda: iter(()))


@pytest.fixture
def make_plugin(tmp_path):
    def make(source, filename="plugin.py", **values):
        path = tmp_path / filename
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source.format(**values) if values else source)
        return path

    return make


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Forges an installed distribution: modules, and entry points to them."""

    def make(distribution, entry_points, **modules):
        site = tmp_path / f"site-{distribution}"
        info = site / f"{distribution}-1.2.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Name: {distribution}\nVersion: 1.2\n")
        lines = [f"{name} = {module}" for name, module in entry_points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[run_pipeline.plugins]", *lines]))
        for module, source in modules.items():
            (site / f"{module}.py").write_text(source)
            monkeypatch.delitem(sys.modules, module, raising=False)
        monkeypatch.syspath_prepend(str(site))

    return make
