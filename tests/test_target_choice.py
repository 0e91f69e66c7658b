"""Which target is meant, on machines that have several, one, or none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from every_target import every_target
from notices import Notices

from pipelines.common.errors import TargetError, UsageError
from pipelines.common.program.target import Availability, Device
from pipelines.common.registry.registry import Registry
from pipelines.common.registry.target_choice import choose, choose_to_build, looked_at, preferred

READY = Availability((Device("one"), Device("two", memory=1 << 30)))
ABSENT = Availability(reason="there is no such device", fix="buy one")
BROKEN = Availability(reason="its library is too old", fix="update it", device_found=True)

PLUGIN = """
from types import SimpleNamespace
from pipelines.common.registry.hookspecs import TargetRecord, hookimpl
from pipelines.common.program.target import Availability, Device



@hookimpl
def register_targets():
    return [TargetRecord({name!r}, "For tests.", {requires!r}, load, preference={preference})]

def load():
    return SimpleNamespace(availability=lambda: {found!r}, versions=lambda: {{"thing": "1.2"}})
"""


@pytest.fixture
def registry(tmp_path: Path) -> Callable[..., Registry]:
    """A registry with targets of certain preferences and states beside the usual ones."""

    def make(**targets: tuple[int, Availability, tuple[str, ...]]) -> Registry:
        for name, (preference, found, requires) in targets.items():
            source = PLUGIN.format(name=name, requires=requires, preference=preference, found=found)
            (tmp_path / f"{name}.py").write_text(source)
        return Registry.discover([tmp_path])

    return make


def test_no_target_is_silently_left_out_of_what_is_tested_on_every_one() -> None:
    found = looked_at(Registry.discover())
    parameters = {param.values[0]: param for param in every_target("also")}
    assert parameters.keys() == found.keys()
    for name, param in parameters.items():
        assert param.values == (name, "also")
        (mark,) = param.marks
        assert isinstance(mark, pytest.Mark | pytest.MarkDecorator)
        assert mark.args == (not found[name].here,)
        assert found[name].reason in mark.kwargs["reason"]


def test_auto_takes_the_most_preferred_that_is_here(registry: Callable[..., Registry]) -> None:
    targets = registry(good=(50, READY, ()), better=(60, READY, ()), best=(70, ABSENT, ()))
    progress = Notices()
    assert choose(targets, "auto", 1, progress) == "better"
    assert progress.messages == []  # that there is no device is nothing to tell
    assert preferred(targets, looked_at(targets)) == "better"


def test_a_device_that_cannot_be_used_is_told(registry: Callable[..., Registry]) -> None:
    targets, progress = registry(best=(70, BROKEN, ())), Notices()
    assert choose(targets, "auto", 0, progress) == "cpu"
    assert progress.messages == ["target 'best' is passed over: its library is too old; update it"]


def test_without_a_preference_it_has_to_be_named(registry: Callable[..., Registry]) -> None:
    targets = registry(shy=(0, READY, ()))
    assert choose(targets, "auto", 0, Notices()) == "cpu"
    assert choose(targets, "shy", 0, Notices()) == "shy"


@pytest.mark.parametrize(
    ("requested", "device", "kind", "message"),
    [
        ("absent", 0, TargetError, "'absent' cannot run here: there is no such device; buy one"),
        ("lacking", 0, TargetError, "no_such_module is not installed; pip install no_such_module"),
        ("good", 2, TargetError, "`device` 2: target 'good' has devices 0 to 1"),
        ("auto", 2, TargetError, "`device` 2: target 'good' has devices 0 to 1"),
        ("cpu", 1, TargetError, "`device` 1: target 'cpu' has device 0 only"),
        ("goood", 0, UsageError, "unknown target 'goood', did you mean 'good'"),
        ("CPU", 0, UsageError, "unknown target 'CPU', did you mean 'cpu'"),
        ("gpu", 0, UsageError, "; cuda is ONNX Runtime on NVIDIA GPUs; coreml is ONNX Runtime on"),
        ("nvidia", 0, UsageError, "; cuda is ONNX Runtime on NVIDIA GPUs"),
        ("", 0, UsageError, "unknown target ''"),
    ],
)
def test_what_cannot_be_had_is_an_error(
    registry: Callable[..., Registry],
    requested: str,
    device: int,
    kind: type[Exception],
    message: str,
) -> None:
    targets = registry(
        good=(50, READY, ()), absent=(0, ABSENT, ()), lacking=(0, READY, ("no_such_module",))
    )
    with pytest.raises(kind) as error:
        choose(targets, requested, device, Notices())
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_built_for_need_not_be_here(registry: Callable[..., Registry]) -> None:
    targets = registry(absent=(70, ABSENT, ()))
    assert choose_to_build(targets, "absent", Notices()) == "absent"
    assert choose_to_build(targets, "auto", Notices()) == "cpu"
    with pytest.raises(UsageError, match="unknown target 'absend', did you mean 'absent'"):
        choose_to_build(targets, "absend", Notices())


def test_no_target_is_called_auto(registry: Callable[..., Registry]) -> None:
    targets = registry(auto=(50, READY, ()))
    assert "auto" not in targets.targets
    assert "'auto' stands for the best target" in targets.problems[0]
