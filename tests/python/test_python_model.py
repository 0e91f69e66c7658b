"""Models in Python, as users have them."""

from __future__ import annotations

import dataclasses
import gc
import inspect
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from tiny_models import in_transformers, llama, write_gguf

import pipelines
from pipelines.common.cli.generate_options import TextOptions
from pipelines.common.cli.options import ModelChoice
from pipelines.common.cli.sampling_options import SamplingOptions
from pipelines.common.engine.sampling import SamplingParams
from pipelines.common.errors import ModelFileError, PromptError, TooLongError, UsageError
from pipelines.common.python.settings import MAX_NEW_TOKENS, defaults_of
from pipelines.common.text_generation import ModelOptions

ROOT = Path(__file__).parents[2]
PROMPT = "Once upon a time"


@pytest.fixture(scope="module")
def model():
    with pipelines.load("llama3", slots=2) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def text(model):
    return model.generate(PROMPT, max_new_tokens=24).text


def test_importing_it_costs_nothing():
    code = (
        "import sys, time; start = time.process_time(); import pipelines\n"
        "took = time.process_time() - start\n"
        "heavy = {m.partition('.')[0] for m in sys.modules} & {'numpy', 'rich', 'pluggy', 'typer',"
        " 'torch', 'tokenizers', 'onnxruntime', 'inspect'}\n"
        "print(sorted(heavy), sorted(m for m in sys.modules if m.startswith('pipelines')))\n"
        "assert took < 0.05, took"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] ['pipelines']\n"


def test_the_command_line_writes_the_same(text):
    command = ["llama3", "--prompt", PROMPT, "--max-new-tokens", "24", "--quiet"]
    program = [sys.executable, ROOT / "run_pipeline.py", *command]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    assert done.stdout == text


def test_an_exported_folder(tmp_path, text):
    program = [sys.executable, ROOT / "run_pipeline.py", "export", "llama3", "--target", "cpu"]
    subprocess.run([*program, tmp_path / "out"], capture_output=True, check=True)
    with pipelines.load(tmp_path / "out") as model:
        assert model.generate(PROMPT, max_new_tokens=24).text == text


def test_a_stream(model, text):
    stream = model.stream(PROMPT, max_new_tokens=24)
    with pytest.raises(UsageError, match="the stream is not at its end; read it first, or close"):
        _ = stream.result
    pieces = [*stream]
    assert len(pieces) > 12
    assert "".join(pieces) == text
    result = stream.result
    assert result == stream.read()
    assert (result.text, result.finish_reason, result.prompt_tokens) == (text, "length", 5)
    assert len(result.tokens) == result.generated_tokens == 24
    assert model.detokenize(result.tokens).strip() == text.strip()
    assert result.timings.decode_steps == 23
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.text = ""


def test_a_batch_has_the_results_in_its_order(model, text):
    sampled = {"temperature": 0.8, "seed": 1, "max_new_tokens": 12}
    assert model.generate([], **sampled) == []
    results = model.generate([PROMPT, "B", PROMPT], **sampled)
    assert [result.prompt_tokens for result in results] == [5, 2, 5]
    assert len({result.text for result in results}) == 3
    for index, result in enumerate(results):
        prompt = "B" if index == 1 else PROMPT
        again = model.generate(prompt, **{**sampled, "seed": 1 + index})
        assert again.tokens == result.tokens
    assert [r.text for r in model.generate((PROMPT,) * 2, max_new_tokens=24)] == [text] * 2


def test_samples_of_a_prompt_that_is_computed_once(model):
    sampled = {"temperature": 0.8, "seed": 1, "max_new_tokens": 12}
    first, second = model.generate(["A quiet boy", PROMPT], n=3, **sampled)
    assert len(first.samples) == len(second.samples) == 3
    assert len({sample.tokens for sample in second.samples}) == 3
    for index, sample in enumerate(second.samples):
        alone = model.generate(PROMPT, **{**sampled, "seed": 2 + index})
        assert (sample.text, sample.tokens) == (alone.text, alone.tokens)
    # The last token of a prompt is computed in any case: what follows it is wanted.
    assert [each.prompt_tokens - each.shared_tokens for each in first.others] == [1, 1]
    with pytest.raises(UsageError, match="`n` is 0; expected an integer, 1 or more"):
        model.generate(PROMPT, n=0)
    with pytest.raises(UsageError, match="unknown setting 'n'"):
        model.stream(PROMPT, n=2)


def test_log_probabilities_of_an_output_are_those_of_its_text(model):
    result = model.generate(PROMPT, logprobs=3, max_new_tokens=12)
    assert [place.chosen.id for place in result.logprobs] == [*result.tokens]
    assert [place.top[0].id for place in result.logprobs] == [*result.tokens]  # it is greedy
    assert all(len(place.top) == 3 for place in result.logprobs)
    found = model.logprobs(PROMPT + result.text)
    assert [each.token for each in found[-12:]] == [*result.tokens]
    expected = [each.logprob for each in found[-12:]]
    np.testing.assert_allclose([p.chosen.logprob for p in result.logprobs], expected, atol=1e-4)
    streamed = model.stream(PROMPT, logprobs=3, max_new_tokens=12).read()
    assert streamed.logprobs == result.logprobs
    chat = model.chat(chat_template="chatml", logprobs=0, max_new_tokens=4)
    reply = chat.send("Hi").read()
    assert [place.chosen.id for place in reply.logprobs] == [*reply.tokens]
    assert model.generate(PROMPT, max_new_tokens=1).logprobs is None


def test_they_say_what_they_are(model):
    assert repr(model) == "<Model: llama3 on cpu, slots=2, max_length=512>"
    stream = model.stream(PROMPT, max_new_tokens=1)
    assert "iterate over it" in repr(stream)
    assert repr(stream.read().finish_reason)[1:-1] in repr(stream)


def test_settings_have_an_effect(model, text):
    word = text.split()[3]
    stopped = model.generate(PROMPT, stop=word)
    assert (stopped.text, stopped.finish_reason) == (text[: text.index(word)], "stop")
    first = model.tokenize(text)[1]
    biased = model.generate(PROMPT, logit_bias={first: -100}, max_new_tokens=1)
    assert biased.tokens[0] != model.generate(PROMPT, max_new_tokens=1).tokens[0]
    drawn = {model.generate(PROMPT, temperature=1.5, max_new_tokens=12).text for _ in range(4)}
    assert len(drawn) > 1


def test_it_prints_nothing(capfd):
    with pipelines.load("llama3") as model:
        model.generate("A", max_new_tokens=2)
    assert capfd.readouterr() == ("", "")
    assert any("small bundled model" in line for line in model.notices)


def test_progress(capfd):
    lines = []
    pipelines.load("llama3", random={"layers": 3}, progress=lines.append).close()
    assert {"building the graph", "compiling the graph"} <= {*lines}
    assert any("random weights" in line for line in lines)
    assert capfd.readouterr() == ("", "")
    pipelines.load("llama3", progress=True).close()
    out, err = capfd.readouterr()
    assert out == ""
    assert "small bundled model" in err
    assert len(err.splitlines()) == 2  # no bar in a pipe


# Interruptions


class AbandonedError(Exception):
    pass


def _closed(model):
    stream = model.stream(PROMPT)
    next(stream)
    stream.close()
    assert stream.result.finish_reason == "interrupted"
    assert [*stream] == []


def _with(model):
    with model.stream(PROMPT) as stream:
        next(stream)
    assert stream.result.finish_reason == "interrupted"


def _dropped(model):
    stream = model.stream(PROMPT)
    next(stream)
    gc.disable()  # references alone do it
    del stream
    gc.enable()


def _left_in_a_loop(model):
    with pytest.raises(AbandonedError):
        for _ in model.stream(PROMPT):
            raise AbandonedError


def _never_begun(model):
    model.stream(PROMPT).close()


@pytest.mark.parametrize("end", [_closed, _with, _dropped, _left_in_a_loop, _never_begun])
def test_a_stream_that_is_left_computes_no_more(model, text, end):
    end(model)
    assert model._engine._engine.idle
    assert model.generate(PROMPT, max_new_tokens=24).text == text


def test_ctrl_c_in_the_midst_of_a_step(model, text, monkeypatch):
    engine = type(model._engine._engine)
    step, count = engine.step, iter(range(100))

    def interrupted(self):
        events = step(self)
        if next(count) == 5:
            raise KeyboardInterrupt
        return events

    monkeypatch.setattr(engine, "step", interrupted)
    stream = model.stream(PROMPT)
    with pytest.raises(KeyboardInterrupt):
        for _ in stream:
            pass
    assert stream.result.finish_reason == "interrupted"
    assert text.startswith(stream.result.text)
    assert model._engine._engine.idle
    assert model.generate(PROMPT, max_new_tokens=24).text == text


def test_threads_and_open_streams(model, text):
    held = model.stream(PROMPT, max_new_tokens=24)
    begun = next(held)
    texts = []

    def work():
        texts.extend([model.generate(PROMPT, max_new_tokens=24).text, "".join(model.stream("A"))])
        model.logprobs(PROMPT)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other = model.generate("A").text
    assert sorted(texts) == sorted([text, other] * 3)
    assert begun + "".join(held) == text


# Conversations


def test_a_conversation(model):
    chat = model.chat(system="Be brief.", chat_template="llama3", max_new_tokens=8)
    first = chat.send("Hi").read()
    assert first.text
    second = chat.send("Who are you?")
    pieces = [*second]
    assert second.result.text == "".join(pieces)
    assert second.result.shared_tokens >= first.prompt_tokens  # only what is new is computed
    assert chat.messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": first.text},
        {"role": "user", "content": "Who are you?"},
        {"role": "assistant", "content": second.result.text},
    ]
    assert chat.undo()
    assert len(chat.messages) == 3
    chat.reset()
    assert len(chat.messages) == 1
    assert not chat.undo()
    assert chat.send("Hi").read().text == first.text


def test_a_reply_ends_where_the_next_message_is_sent(model):
    chat = model.chat(chat_template="chatml")
    reply = chat.send("Hi")
    begun = next(reply)
    assert chat.send("And?").read().finish_reason != "interrupted"
    assert reply.result.finish_reason == "interrupted"
    assert chat.messages[1]["content"].startswith(begun)
    assert [message["role"] for message in chat.messages] == ["user", "assistant"] * 2


def test_a_conversation_goes_on_from_what_was_said(model):
    chat = model.chat(system="Be brief.", chat_template="llama3", max_new_tokens=8)
    chat.send("Hi").read()
    again = model.chat(messages=chat.messages, chat_template="llama3", max_new_tokens=8)
    assert again.messages == chat.messages
    assert again.send("And?").read().text == chat.send("And?").read().text
    for messages, message in (
        ([{"role": "user", "content": "Hi"}], "expected user and assistant by turns"),
        ([{"role": "robot", "content": "Hi"}], 'messages[0].role is "robot"; expected one of'),
    ):
        with pytest.raises(PromptError) as raised:
            model.chat(messages=messages, chat_template="llama3")
        assert message in str(raised.value)


def test_a_message_that_does_not_fit_is_no_part_of_the_conversation(model):
    chat = model.chat(chat_template="llama3", max_new_tokens=4)
    with pytest.raises(TooLongError, match="raise `max_length`"):
        chat.send("a b c " * 1000).read()
    assert chat.messages == []
    assert chat.send("Hi").read().text


# Tokens


def test_log_probabilities_are_those_of_transformers(tmp_path):
    path = write_gguf(tmp_path / "model.gguf", llama())
    with pipelines.load(path, encoding="float32") as model:
        found = model.logprobs("ab cd " * 20)
        tokens = [each.token for each in found]
        assert tokens == model.tokenize("ab cd " * 20)
        assert len(tokens) > 20
    import torch

    with torch.no_grad():
        logits = in_transformers(path)(torch.tensor([tokens])).logits[0].double()
    expected = torch.log_softmax(logits, -1)[range(len(tokens) - 1), tokens[1:]]
    assert found[0].logprob is None
    np.testing.assert_allclose([each.logprob for each in found[1:]], expected, atol=1e-4)


# Bad input


def test_every_setting_of_the_command_line_is_one():
    sampling = {field.name for field in dataclasses.fields(SamplingOptions)}
    sampling = {{"dry_sequence_breaker": "dry_sequence_breakers"}.get(n, n) for n in sampling}
    text = {field.name for field in dataclasses.fields(TextOptions)} - {"max_length"}
    names = set(pipelines.Settings.__annotations__)
    assert names == sampling | text | {"logprobs"}
    assert names - text - {"logprobs"} == {
        field.name for field in dataclasses.fields(SamplingParams)
    }
    assert TextOptions().max_new_tokens == MAX_NEW_TOKENS
    assert dataclasses.replace(defaults_of({}, None).sampling, seed=0) == SamplingParams()
    loading = set(inspect.signature(pipelines.load).parameters)
    assert loading >= {f.name for f in dataclasses.fields(ModelOptions)} - {"registered_ops"}
    renamed = {"quantization_encoding", "device_id", "custom_ops_path", "no_native_ops"}
    renamed |= {"random_weights", "random_config"}
    assert loading >= {f.name for f in dataclasses.fields(ModelChoice)} - renamed


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ({}, UsageError, "load() is given no model; expected a pipeline's name, the path of"),
        ({"model": "lama3"}, UsageError, "unknown pipeline 'lama3', did you mean 'llama3'?"),
        ({"model": "./lama3"}, ModelFileError, "no such model file: lama3"),
        ({"model": "no.gguf"}, ModelFileError, "no such model file: no.gguf"),
        ({"model": 3}, UsageError, "`model` is 3; expected a path"),
        ({"model": "no.gguf", "model_path": "a.gguf"}, UsageError, "unknown pipeline 'no.gguf'"),
        ({"model": "minilm"}, UsageError, "pipeline minilm is for the task 'embed'"),
        ({"model": "llama3", "taget": "cpu"}, UsageError, "'taget', did you mean 'target'?"),
        ({"model": "llama3", "target": "cpuu"}, UsageError, "target 'cpuu', did you mean 'cpu'?"),
        ({"model": "llama3", "encoding": "q9"}, UsageError, "`encoding` unknown encoding 'q9'"),
        ({"model": "llama3", "slots": 0}, UsageError, "`slots` is 0; expected an integer, 1 or"),
        ({"model": "llama3", "max_length": 9999}, UsageError, "`max_length` is 9999, but the"),
        ({"model": "llama3", "threads": 0}, UsageError, "`threads` is 0; expected an integer"),
        ({"model": "llama3", "plugin_paths": ["no"]}, UsageError, "no"),
        ({"model": "llama3", "progress": 3}, UsageError, "`progress` is 3; expected True, or a"),
        ({"model": "llama3", "random": 3}, UsageError, "`random` is 3; expected True, or sizes"),
        ({"model": "echo", "random": True}, UsageError, "pipeline echo has no weights that could"),
    ],
)
def test_what_cannot_be_loaded_is_told(args, error, message):
    with pytest.raises(error) as raised:
        pipelines.load(**args)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("prompt", "settings", "error", "message"),
    [
        ("", {}, PromptError, "the prompt is empty; expected at least one character"),
        (3, {}, UsageError, "`prompt` is 3; expected a text"),
        ("a", {"temprature": 1}, UsageError, "'temprature', did you mean 'temperature'?"),
        ("a", {"temperature": "hot"}, UsageError, "`temperature` is 'hot'; expected a number"),
        ("a", {"max_new_tokens": 0}, UsageError, "`max_new_tokens` is 0; expected an integer"),
        ("a", {"stop": [""]}, UsageError, "`stop` is ['']; expected a text or a list of texts"),
        ("a", {"samplers": "topk"}, UsageError, "unknown sampler 'topk', did you mean 'top_k'?"),
        ("a", {"logprobs": -1}, UsageError, "`logprobs` is -1; expected an integer, 0 or more"),
        ("a", {"logit_bias": 3}, UsageError, "`logit_bias` is 3; expected token ids"),
        ("a", {"logit_bias": {10**6: 1.0}}, UsageError, "`logit_bias`"),
        ("a", {"ignore_eos": 1}, UsageError, "`ignore_eos` is 1; expected True or False"),
        ("a " * 600, {}, TooLongError, "raise `max_length`"),
        ("\ud800", {}, PromptError, "not valid Unicode"),
    ],
)
def test_what_cannot_be_written_is_told_before_anything_is(model, prompt, settings, error, message):
    for use in (
        lambda: model.stream(prompt, **settings),
        lambda: model.generate(["a", prompt], **settings),
    ):
        with pytest.raises(error) as raised:
            use()
        assert message in str(raised.value)
    assert model._engine._engine.idle


def test_a_closed_model():
    model = pipelines.load("echo")
    stream, unread = model.stream("abc"), model.stream("abc")
    assert next(stream) == "a"
    chat = model.chat(chat_template="chatml")
    model.close()
    model.close()
    for use in (
        lambda: next(stream),
        lambda: next(unread),
        lambda: model.stream("a"),
        lambda: model.generate([]),
        model.chat,
        lambda: chat.send("Hi").read(),
        lambda: model.tokenize("a"),
        lambda: model.detokenize([1]),
        lambda: model.logprobs("a"),
        model.__enter__,
    ):
        with pytest.raises(pipelines.PipelineError, match="the model is closed; load it again"):
            use()
    assert stream.result.finish_reason == "interrupted"
