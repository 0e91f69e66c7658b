from __future__ import annotations

import pytest

RUN = ["llama3", "--prompt", "Once upon a time", "--max-new-tokens", "16", "--target", "cpu"]


@pytest.mark.parametrize("ops", [[], ["--no-native-ops"]], ids=["native", "stock"])
def test_texts_are_the_same_and_warm_cache_stores_all_that_offline_needs(cli, ops):
    plain = cli(*RUN, *ops)
    missing = cli(*RUN, *ops, "--pack-cache", "--offline", "--quiet")
    assert missing.code == 1
    assert missing.error.endswith(" --pack-cache")
    warmed = cli("warm-cache", "llama3", "--target", "cpu", *ops, "--pack-cache", "--quiet")
    assert warmed.code == 0, warmed.err
    assert "packed weights of llama3" in warmed.out
    kept = cli(*RUN, *ops, "--pack-cache", "--offline")
    assert (kept.code, kept.out) == (0, plain.out)


def test_a_folder_that_is_packed_already_says_so(cli, tmp_path):
    folder = tmp_path / "out"
    exported = cli("export", "llama3", "--target", "cpu", "--custom-ops-path", "native", folder)
    assert exported.code == 0, exported.err
    run = cli("llama3", "--model-path", folder, *RUN[1:], "--pack-cache")
    assert run.out == cli(*RUN).out
    assert "--pack-cache changes nothing for an exported folder" in run.err
