"""Log-probabilities as users get them: of one prompt, and of the rows of a batch."""

from __future__ import annotations

import json

import pytest
import torch
from tiny_models import in_transformers

from pipelines.llama3.pipeline import BUNDLED

PROMPT = "Once upon a time"
GENERATE = ("llama3", "--quantization-encoding", "float32", "--max-new-tokens", 6)


def test_they_are_those_of_transformers(cli):
    record = json.loads(
        cli(
            *GENERATE,
            "--prompt",
            PROMPT,
            "--json",
            "--logprobs",
            3,
            "--temperature",
            1,
            "--seed",
            1,
        ).out
    )
    assert len(record["logprobs"]) == record["generated_tokens"] == 6
    assert "".join(each["token"] for each in record["logprobs"]) == record["text"]
    ids = json.loads(cli("tokenize", "--text", PROMPT, "--json").out)["ids"]
    chosen = [each["id"] for each in record["logprobs"]]
    with torch.no_grad():
        logits = in_transformers(BUNDLED)(torch.tensor([ids + chosen])).logits[0].double()
    expected = logits.log_softmax(-1)[len(ids) - 1 : -1]
    for each, row in zip(record["logprobs"], expected, strict=True):
        values, best = row.topk(3)
        assert each["logprob"] == pytest.approx(row[each["id"]].item(), abs=1e-4)
        assert [other["id"] for other in each["top_logprobs"]] == best.tolist()
        assert [other["logprob"] for other in each["top_logprobs"]] == pytest.approx(
            values.tolist(), abs=1e-4
        )


def test_rows_have_them_where_they_are_asked_for(cli, prompts, output):
    path = prompts({"prompt": PROMPT}, {"prompt": PROMPT, "logprobs": False})
    cli(*GENERATE, "--prompts-file", path, "--output", output, "--ordered", "--logprobs", 0)
    told, plain = map(json.loads, output.read_text().splitlines())
    assert "logprobs" not in plain
    assert told["text"] == plain["text"]
    assert [each["top_logprobs"] for each in told["logprobs"]] == [[]] * told["generated_tokens"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--prompt", "p", "--logprobs", 2), "--logprobs is told in a record; add --json"),
        (("--prompt", "p", "--logprobs", -1), "'--logprobs': -1 is not in the range"),
    ],
)
def test_what_makes_no_sense_is_refused(cli, args, message):
    outcome = cli("echo", *args)
    assert outcome.code == 2
    assert message in outcome.err
