"""The command of encoders."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "embedding"))
from berts import tiny, vectors, write

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "embed_exported.py"


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return write(tmp_path_factory.mktemp("bert") / "tiny.gguf", tiny())


@pytest.fixture
def embed(cli, bert):
    def run(*args):
        return cli("minilm", "--model-path", bert, "--quiet", *args)

    return run


def records(outcome):
    return [json.loads(line) for line in outcome.out.splitlines()]


def test_vectors_of_texts(embed):
    outcome = embed("--text", "the cat", "--text", "Dogs run!", "--text", "the cat")
    assert outcome.code == 0
    first, second, third = records(outcome)
    assert [record["line"] for record in (first, second, third)] == [1, 2, 3]
    assert first["tokens"] == 4
    assert first["embedding"] == third["embedding"] != second["embedding"]
    expected = vectors(tiny(), [2, 4, 5, 3]).mean(0)
    np.testing.assert_allclose(first["embedding"], expected / np.linalg.norm(expected), atol=1e-5)


def test_pooling_and_length(embed):
    (record,) = records(embed("--text", "the cat", "--pooling", "cls", "--no-normalize"))
    np.testing.assert_allclose(record["embedding"], vectors(tiny(), [2, 4, 5, 3])[0], atol=1e-5)


def test_rows_of_a_file(embed, tmp_path):
    file = tmp_path / "texts.jsonl"
    rows = ['{"id": "a", "text": "the cat"}', "", '{"text": "the cat", "lang": 1}', '{"id": 7}']
    file.write_text("\n".join([*rows, '{"text": "cat"']) + "\n")
    outcome = embed("--texts-file", file)
    assert outcome.code == 1
    a, other, without, broken = records(outcome)
    assert (a["id"], a["line"], a["error"]) == ("a", 1, None)
    assert other["embedding"] == a["embedding"]
    assert other["extra"] == {"lang": 1}
    assert (without["id"], without["line"], without["embedding"]) == (7, 4, None)
    assert without["error"] == "line 4: text is null; expected a text that is not empty"
    assert (broken["line"], broken["embedding"]) == (5, None)


def test_lines_of_a_file(embed, tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text('the cat\n\n{"text": 1}\n')
    first, braces = records(embed("--texts-file", file))
    assert (first["line"], first["tokens"], braces["line"]) == (1, 4, 3)


def request(name, **body):
    envelope = {"custom_id": name, "method": "POST", "url": "/v1/embeddings"}
    return json.dumps({**envelope, "body": {"model": "m", **body}})


def test_requests_of_the_batch_api(embed, tmp_path):
    file = tmp_path / "requests.jsonl"
    two = request("two", input=["the cat", "a dog"])
    packed = request("packed", input="a dog", encoding_format="base64")
    wrong = [request("wrong", input=""), request("large", input="a", dimensions=3)]
    other = two.replace("/v1/embeddings", "/v1/completions").replace('"two"', '"other"')
    file.write_text("\n".join([two, packed, *wrong, other]))
    outcome = embed("--texts-file", file)
    assert outcome.code == 1
    two, packed, *bad = records(outcome)
    body = two["response"]["body"]
    assert (two["custom_id"], two["response"]["status_code"], body["model"]) == ("two", 200, "m")
    assert body["usage"] == {"prompt_tokens": 8, "total_tokens": 8}
    assert [each["index"] for each in body["data"]] == [0, 1]
    cat, dog = (each["embedding"] for each in body["data"])
    assert [record["embedding"] for record in records(embed("--text", "the cat"))] == [cat]
    bytes_ = base64.b64decode(packed["response"]["body"]["data"][0]["embedding"])
    np.testing.assert_allclose(np.frombuffer(bytes_, "<f4"), dog, atol=1e-7)
    assert {record["response"]["status_code"] for record in bad} == {400}
    messages = [record["response"]["body"]["error"]["message"] for record in bad]
    assert "line 3: input is" in messages[0]
    assert "dimensions is 3, which is not offered" in messages[1]
    assert 'url is "/v1/completions"; expected "/v1/embeddings"' in messages[2]


def test_an_output_is_gone_on_with(embed, tmp_path):
    file, out = tmp_path / "texts.txt", tmp_path / "vectors.jsonl"
    file.write_text("the cat\na dog\nrunning\n")
    asked = ("--texts-file", file, "--output", out)
    outcome = embed(*asked)
    assert (outcome.code, outcome.out) == (0, "")
    whole = out.read_text()
    assert len(whole.splitlines()) == 3
    out.write_text("".join(whole.splitlines(keepends=True)[:1]) + '{"torn')
    assert embed(*asked, "--resume").code == 0
    assert out.read_text() == whole
    outcome = embed(*asked, "--resume", "--pooling", "cls")
    assert outcome.code == 1
    assert 'was begun with other settings: pooling "mean", now "cls"' in outcome.err
    assert "exists" in embed(*asked).err


def test_stdin(process, bert):
    outcome = process(
        "minilm", "--model-path", bert, "--texts-file", "-", "--quiet", stdin=b"the cat\na dog"
    )
    assert outcome.code == 0
    assert len(records(outcome)) == 2


def test_texts_that_are_too_long(embed):
    outcome = embed("--text", "cat " * 40, "--text", "cat")
    assert outcome.code == 1
    long, short = records(outcome)
    assert "the text has 42 tokens, and the model takes 32" in long["error"]
    assert short["error"] is None
    (cut,) = records(embed("--text", "cat " * 40, "--truncate"))
    assert cut["tokens"] == 32


def test_search(embed, tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("a dog\nthe mats!\nthe cat\nrunning\n")
    outcome = embed("--text", "the cat", "--search", file, "--top-k", 2)
    first, second = outcome.out.splitlines()
    assert first == "1.0000  the cat"
    assert -1 <= float(second.split()[0]) < 1
    (record,) = records(embed("--text", "the cat", "--search", file, "--json"))
    assert record["found"][0]["text"] == "the cat"
    assert record["found"][0]["line"] == 3
    scores = [row["score"] for row in record["found"]]
    assert len(scores) == 4
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "there is no text; give it as --text TEXT or --texts-file FILE"),
        (("--text", "a", "--texts-file", "x"), "--text and --texts-file are both given"),
        (("--text", ""), "a text is empty"),
        (("--texts-file", "no-such-file"), "cannot read texts from no-such-file: No such file"),
        (("--text", "a", "--search", "no-such-file"), "cannot read texts from no-such-file"),
        (("--text", "a", "--search", "x", "--no-normalize"), "leave out --no-normalize"),
        (("--text", "a", "--search", "x", "--output", "y"), "leave out --output and --resume"),
        (("--text", "a", "--resume"), "--resume needs --output FILE"),
        (("--text", "a", "--target", "cuda"), "target 'cuda'"),
    ],
)
def test_wrong_usage_is_one_line(embed, args, message):
    outcome = embed(*args)
    assert outcome.code in (1, 2)
    (line,) = outcome.err.splitlines()
    assert message in line
    assert outcome.out == ""


def test_commands_that_continue_text_name_the_one_that_does_not(cli, bert):
    outcome = cli("run", bert)
    assert outcome.code == 2
    assert "is a model of pipeline minilm, whose task is 'embed'; use minilm" in outcome.err
    assert f"--model-path {bert}" in outcome.err


def test_tokenize_is_for_text(cli, bert):
    outcome = cli("tokenize", "--pipeline", "minilm", "--model-path", bert, "--text", "a")
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert "pipeline minilm is for the task 'embed'; expected one for 'generate'" in line


@pytest.mark.parametrize("command", ["graph", "export", "warm-cache"])
def test_pipelines_without_graphs(cli, make_plugin, tmp_path, command):
    path = make_plugin("count_plugin", TASK)
    outcome = cli(
        "--plugin-path", path, command, "letters", *[tmp_path / "out"][: command == "export"]
    )
    assert outcome.code == 2
    assert "pipeline letters runs without a graph; there is nothing to" in outcome.err


def test_graph(cli):
    outcome = cli("graph", "minilm", "--random-weights", "--target", "coreml", "--json", "--quiet")
    record = json.loads(outcome.out)
    names = {operator["operator"] for operator in record["operators"]}
    assert {"pipelines:SelfAttention", "LayerNormalization", "MatMul"} <= names
    (layers,) = [part for part in record["parts"] if part["times"] == 2]
    assert layers["neutral"]["flops"] > 0
    assert record["total"]["neutral"]["state"] == 0


@pytest.mark.usefixtures("own_cache")
def test_what_is_made_ahead_is_what_a_run_takes(cli, bert):
    more = ("--model-path", bert, "--target", "cpu", "--quiet")
    outcome = cli("minilm", *more, "--text", "a", "--offline")
    assert outcome.code == 1
    assert "store it first: run-pipeline warm-cache minilm" in outcome.err
    assert cli("warm-cache", "minilm", *more, "--quantization-encoding", "auto").code == 0
    assert cli("minilm", *more, "--text", "a", "--offline").code == 0


def test_an_exported_folder(cli, embed, bert, tmp_path):
    out = tmp_path / "out"
    asked = ("--model-path", bert, "--quantization-encoding", "float32", "--target", "cpu")
    assert cli("export", "minilm", out, *asked, "--quiet").code == 0
    assert {path.name for path in out.iterdir()} == {
        *("graph.onnx", "model.onnx", "weights.bin", "manifest.json", "tokenizer.json")
    }
    texts = ("the cat", "Dogs run!")
    args = [word for text in texts for word in ("--text", text)]
    own = [record["embedding"] for record in records(embed("--no-native-ops", *args))]
    outcome = cli("minilm", "--model-path", out, "--quiet", *args)
    assert [record["embedding"] for record in records(outcome)] == own
    program = subprocess.run(
        [sys.executable, EXAMPLE, out, *texts], capture_output=True, text=True, check=True
    )
    alone = [json.loads(line) for line in program.stdout.splitlines()]
    np.testing.assert_allclose(alone, own, atol=1e-6)
    assert cli("inspect", out).code == 0
    (out / "tokenizer.json").unlink()
    assert "tokenizer.json cannot be used" in cli("minilm", "--model-path", out, *args).err


def test_a_folder_without_its_tokenizer(cli, bert, tmp_path):
    out = tmp_path / "out"
    assert cli("export", "minilm", out, "--model-path", bert, "--target", "cpu").code == 0
    (out / "tokenizer.json").unlink()
    manifest = json.loads((out / "manifest.json").read_text())
    del manifest["files"]["tokenizer.json"]
    (out / "manifest.json").write_text(json.dumps(manifest))
    outcome = cli("minilm", "--model-path", out, "--text", "a")
    assert outcome.code == 1
    assert "files: 'tokenizer.json' is missing" in outcome.err


def test_random_weights(cli):
    outcome = cli("minilm", "--random-weights", "--random-config", "hidden_size=32", "--text", "a")
    (record,) = records(outcome)
    assert len(record["embedding"]) == 32
    assert "minilm runs on random weights" in outcome.err
    outcome = cli("minilm", "--random-weights", "--random-config", "kv_heads=1", "--text", "a")
    assert outcome.code == 2
    assert "expected one of the numbers vocabulary, context_length" in outcome.err


TASK = """
from pipelines.plugin import PipelineRecord, TaskRecord, hookimpl

@hookimpl
def register_tasks():
    return [TaskRecord("count", "Counts letters.", command=command)]

@hookimpl
def register_pipelines():
    return [
        PipelineRecord("letters", "Letters.", load=lambda: len, task="count"),
        PipelineRecord("lost", "Of nothing.", load=lambda: len, task="cuont"),
    ]

def command(record):
    import click

    @click.command(record.name, help=record.summary)
    @click.argument("text")
    def count(text):
        click.echo(f"{record.load(text)} letters", err=True)

    return count
"""


def test_a_task_of_a_plugin(cli, make_plugin):
    path = make_plugin("count_plugin", TASK.replace("record.load(text)", "record.load()(text)"))
    outcome = cli("--plugin-path", path, "letters", "abc")
    assert (outcome.code, outcome.err.splitlines()[-1]) == (0, "3 letters")
    assert "count Counts letters." in " ".join(cli("--plugin-path", path, "list").out.split())
    outcome = cli("--plugin-path", path, "lost", "abc")
    assert outcome.code == 1
    assert "unknown task 'cuont', did you mean 'count'?" in outcome.err.splitlines()[-1]
    outcome = cli("--plugin-path", path, "--help")
    assert outcome.code == 0
    assert "letters" in outcome.out
