"""Talking with models: one question, conversations from a pipe and on a terminal, batches."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest
from batch_files import records, write_rows
from echo_plugins import with_model
from program_outcome import Outcome
from programs import Program

from pipelines.common.checkpoints.gguf.write import write_gguf
from pipelines.common.checkpoints.random import RandomWeights
from pipelines.common.registry.registry import Registry

TEMPLATE = "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}<|eot_id|>{% endfor %}a:"

# Echo with a template: it says again what it was told, from the last message on.
TALKING = with_model(
    "talking",
    """
from pipelines.common.chat.template import ChatSettings

class Model(EchoModel):
    chat = ChatSettings(
        "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no') }}{% endif %}"
        "[{{ m.role }}]{{ m.content }}{% endfor %}{{ eos_token }}", "!"
    )
""",
)
SLOW = (
    TALKING
    + """
def start(self, *, slots, max_length):
    runner = EchoRunner(slots, max_length)
    decode = runner.decode
    def slowly(*args):
        time.sleep(0.05)
        return decode(*args)
    runner.decode = slowly
    return runner

Model.start = start
"""
)


@pytest.fixture
def talking(make_plugin):
    return "--plugin-path", make_plugin("talking", TALKING), "talking"


def test_one_question(cli, talking):
    outcome = cli(*talking, "--chat", "--prompt", "Hi", "--system-prompt", "Be brief.", "--quiet")
    assert outcome == Outcome(0, "[system]Be brief.[user]Hi!", "")


def test_a_question_from_a_pipe(process, talking):
    outcome = process(*talking, "--chat", "--quiet", stdin=b"Hi\n")
    assert outcome == Outcome(0, "[user]Hi!", "")


def test_a_question_that_is_not_there(process, talking):
    outcome = process(*talking, "--chat", stdin=b"")
    assert outcome.code == 1
    assert outcome.error.startswith("the prompt is empty; give it as --prompt TEXT")


def test_a_raw_prompt_is_told_of_the_template_once(cli, talking):
    outcome = cli(*talking, "--prompt", "Hi")
    assert (
        outcome.err.count("the model has a chat template: to ask it something, add --chat\n") == 1
    )
    assert "--chat" not in cli(*talking, "--prompt", "Hi", "--quiet").err
    assert "--chat" not in cli(*talking, "--prompt", "Hi", "--prompt", "Ho").err


@pytest.mark.parametrize("option", ["--chat-template", "--system-prompt"])
def test_options_without_an_effect_are_wrong_usage(cli, talking, option):
    outcome = cli(*talking, "--prompt", "Hi", option, "chatml")
    assert outcome.code == 2
    assert outcome.error.endswith("a prompt is continued; add --chat")


def test_a_model_without_a_template_says_what_to_do(cli):
    outcome = cli("echo", "--chat", "--prompt", "Hi")
    assert outcome.code == 1
    assert outcome.error.startswith("echo has no chat template; name one with --chat-template, a")
    named = cli("echo", "--chat", "--prompt", "Hi", "--chat-template", "chatml", "--quiet")
    assert named.out == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_thoughts_are_hidden(cli, talking, tmp_path):
    template = tmp_path / "t.jinja"
    template.write_text("<think>hm</think>\n\n{{ messages[0].content }}")
    asked = (*talking, "--chat", "--chat-template", template, "--prompt", "Yes.", "--quiet")
    assert cli(*asked).out == "<think>hm</think>\n\nYes."
    assert cli(*asked, "--hide-thinking").out == "Yes."
    assert json.loads(cli(*asked, "--hide-thinking", "--json").out)["text"] == "Yes."


# A conversation


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A Llama that says nothing sensible, with a template."""
    wanted = RandomWeights(
        config={"context_length": 256}, metadata={"tokenizer.chat_template": TEMPLATE}
    )
    pipeline = Registry.discover(()).load_pipeline("llama3")
    return write_gguf(pipeline.random_checkpoint(wanted), tmp_path_factory.mktemp("m") / "t.gguf")


def test_a_conversation_from_a_pipe(process, tiny, tmp_path):
    saved = tmp_path / "saved.json"
    lines = ["Hi", "/stats", '"""two', 'lines"""', "/stats", f"/save {saved}", "/undo", "/undo"]
    lines += [f"/load {saved}", "/set temperature 0.5", "/set temperature", "/reset", "/exit", "Ho"]
    options = ["--max-new-tokens", "12", "--no-native-ops", "--quiet"]
    outcome = process("chat", tiny, *options, stdin="\n".join(lines).encode())
    assert outcome.code == 0, outcome.err
    document = json.loads(saved.read_text())
    assert document["model"] == "t.gguf"
    contents = [message["content"] for message in document["messages"]]
    assert contents[::2] == ["Hi", "two\nlines"]
    assert outcome.out == "".join(f"{reply}\n" for reply in contents[1::2])
    first, second = (
        [int(number) for number in re.findall(r"\d+(?= tok| were| comp)", line)]
        for line in outcome.err.splitlines()
        if line.startswith("prompt ")
    )
    assert first[1] == 0  # nothing was there before the first turn
    total, there, computed = second[:3]
    assert there >= first[0]  # the beginning of the second prompt is the first one
    assert there + computed == total
    assert "temperature 0.5" in outcome.err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/regenrate", "unknown command '/regenrate', did you mean '/regenerate'?"),
        ("/undo", "there is nothing to take back"),
        ("/regenerate", "there is no reply yet"),
        ("/stats", "there is no reply yet"),
        ("/save", "the file of /save is empty; expected a path"),
        ("/load nothing.json", "cannot read nothing.json: No such file or directory"),
        ("/set temprature 1", "unknown setting 'temprature', did you mean 'temperature'?"),
        ("/set temperature hot", 'temperature is "hot"; expected a number'),
        ("/set max-new-tokens 0", "`max_new_tokens` is 0; expected an integer, 1 or more"),
        ("x" * 300, "the prompt has 305 tokens, but prompt and output together are limited to 256"),
    ],
)
def test_what_is_wrong_in_a_conversation_is_told(cli, tiny, line, message):
    outcome = cli("chat", tiny, "--no-native-ops", "--quiet", stdin=f"{line}\n".encode())
    assert outcome.code in (1, 2)
    assert message in outcome.error


# On a terminal

READS = "\x1b[?2004h"
"""What a terminal is told when a line is read: pasted text is to be marked."""


@pytest.fixture
def terminal(make_plugin, tmp_path):
    """A conversation that is typed."""
    programs = []

    def start(source=TALKING, *args):
        environment = {
            "TERM": "xterm-256color",
            "PROMPT_TOOLKIT_NO_CPR": "1",
            "RUN_PIPELINE_CHAT_HISTORY": str(tmp_path / "history"),
        }
        program = Program(
            *("--plugin-path", make_plugin("talking", source), "talking", "--chat", *args),
            terminal=["stdin", "stdout", "stderr"],
            env={**os.environ, **environment},
        )
        programs.append(program)
        program.shown.wait_for("/help tells what can be typed")
        program.shown.wait_for(READS)
        return program

    yield start
    for program in programs:
        program.kill()


def test_a_typed_conversation(terminal, tmp_path):
    program = terminal()
    program.type("Say **it** 👩‍🚀\r")
    shown = program.shown.wait_for("!")
    assert "\x1b[1mit\x1b[0m" in shown  # Markdown
    program.type("\x1b[200~one\ntwo\x1b[201~\r")  # pasted
    program.shown.wait_for("[user]one")
    program.type("/nothing\r")
    program.shown.wait_for("unknown command '/nothing'")
    program.shown.wait_for(READS, count=4)  # before, it would be a signal
    program.type("\x03")
    program.shown.wait_for("Ctrl-D or /exit ends the conversation")
    program.shown.wait_for(READS, count=5)
    program.type("\x04")
    assert program.ended()[0] == 0
    assert "+one\n+two\n" in (tmp_path / "history").read_text()


def test_ctrl_c_ends_a_reply_and_not_the_conversation(terminal):
    program = terminal(SLOW)
    program.type(f"{'on and ' * 99}\r")
    program.shown.wait_for("[user]on and")
    program.signal(signal.SIGINT)
    program.shown.wait_for(READS, count=2)
    program.type("/stats\r")
    reply = re.search(r"reply +(\d+) tokens", program.shown.wait_for("conversation  "))
    assert 0 < int(reply[1]) < 600
    program.type("/exit\r")
    assert program.ended()[0] == 0


def test_sigterm_ends_the_conversation(terminal):
    program = terminal(SLOW)
    program.type(f"{'on and ' * 99}\r")
    program.shown.wait_for("[user]on and")
    program.signal(signal.SIGTERM)
    assert program.ended()[0] == 128 + signal.SIGTERM


# Batches


def test_rows_of_messages(cli, talking, tmp_path):
    said = [{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}]
    parts = [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
    ]
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]
    file = write_rows(
        tmp_path / "rows.jsonl",
        *({"messages": said}, {"prompt": "raw"}, {"messages": parts}, {"messages": image}),
        *({"messages": []}, {"messages": said, "prompt": "x"}),
        {"messages": [{"role": "tool", "content": "x"}]},
    )
    outcome = cli(*talking, "--prompts-file", file, "--ordered", "--quiet")
    found = records(outcome.out)
    texts = ["[system]S[user]Hi!", "raw", "[user]ab!", None, None, None, None]
    assert [record["text"] for record in found] == texts
    errors = [record["error"] for record in found[3:]]
    assert 'messages[0].content[0] is of type "image_url", which no model here' in errors[0]
    assert "messages is []; expected a list" in errors[1]
    assert "there is a prompt beside the messages" in errors[2]
    assert 'messages[0].role is "tool"; expected one of system, user, assistant' in errors[3]


def test_prompts_of_a_batch_are_messages_when_asked(cli, talking):
    batch = ("--chat", "--system-prompt", "S", "--prompt", "a", "--prompt", "b", "--ordered")
    outcome = cli(*talking, *batch, "--quiet")
    assert [record["text"] for record in records(outcome.out)] == [
        "[system]S[user]a!",
        "[system]S[user]b!",
    ]


def test_the_batch_api_of_chat(cli, talking, tmp_path):
    request = {
        "custom_id": "a",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "m", "messages": [{"role": "user", "content": "Hi"}]},
    }
    file = write_rows(tmp_path / "rows.jsonl", request)
    (record,) = records(cli(*talking, "--prompts-file", file, "--quiet").out)
    body = record["response"]["body"]
    assert (body["object"], body["model"]) == ("chat.completion", "m")
    (choice,) = body["choices"]
    assert choice["message"] == {"role": "assistant", "content": "[user]Hi!", "refusal": None}
    assert choice["finish_reason"] == "stop"


def test_rows_of_messages_need_a_template(cli, tmp_path):
    file = write_rows(tmp_path / "rows.jsonl", {"messages": [{"role": "user", "content": "Hi"}]})
    outcome = cli("echo", "--prompts-file", file)
    assert outcome.code == 1
    assert "echo has no chat template; name one with `chat_template`" in outcome.out


def test_an_exported_folder_carries_the_template(cli, tiny, tmp_path):
    folder = tmp_path / "out"
    done = cli("export", "llama3", "--model-path", tiny, "--target", "cpu", folder)
    assert done.code == 0, done.err
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    assert settings["chat_template"] == TEMPLATE
    options = ("--max-new-tokens", "8", "--quiet")
    asked = ("--chat", "--prompt", "Hi <|eot_id|>", *options)
    replies = {cli("run", model, *asked).out for model in (tiny, folder)}
    assert len(replies) == 1
    assert replies != {""}
