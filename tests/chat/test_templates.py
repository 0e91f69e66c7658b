"""Chat templates: rendered as `transformers` renders them, and stopped where they mean harm."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import pytest
from hostile import REFUSED, STOPPED
from published import PUBLISHED
from transformers.utils.chat_template_utils import render_jinja_template

from pipelines.common.chat.messages import Message
from pipelines.common.chat.named import NAMES, named_template
from pipelines.common.chat.template import ChatTemplate
from pipelines.common.errors import PromptError, TemplateError

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}

USER, ANSWER = Message("user", "Hi\n there "), Message("assistant", "\n  Hello! \n")
CONVERSATIONS = {
    "one question": (USER,),
    "a system": (Message("system", " Be brief.\n\n"), USER),
    "several turns": (USER, ANSWER, Message("user", "{{ 7*7 }}{% if %}"), ANSWER, USER),
    "blank": (Message("system", ""), Message("user", " \t\n"), Message("assistant", ""), USER),
    "thoughts": (USER, Message("assistant", "<think>\nhm\n</think>\n\nYes."), USER),
    "an answer to be gone on with": (USER, Message("assistant", "<think>\nhm\n</think>\n\nYes.")),
    "text": (Message("user", "é👩‍🚀 '\"<b>&amp; \\n \u2028 $"), ANSWER, Message("user", "x")),
}


def outside(text: str, messages: tuple[Message, ...], **settings: object) -> str:
    """A conversation as `transformers` renders it."""
    listed = [{"role": each.role, "content": each.content} for each in messages]
    (rendered,), _ = render_jinja_template([listed], chat_template=text, **TOKENS, **settings)
    return rendered


@pytest.mark.parametrize("reply", [True, False])
@pytest.mark.parametrize("messages", CONVERSATIONS.values(), ids=CONVERSATIONS)
@pytest.mark.parametrize("name", [*PUBLISHED, *NAMES])
def test_prompts_are_those_of_transformers(name, messages, reply):
    own = name in NAMES
    template = named_template(Path(name)) if own else ChatTemplate(PUBLISHED[name], name)
    try:
        expected = outside(template.text, messages, add_generation_prompt=reply)
    except Exception as error:  # noqa: BLE001 - templates refuse what they do not know
        with pytest.raises(PromptError, match=f"refuses these messages: .{error}"):
            template.render(messages, reply=reply, **TOKENS)
        return
    assert template.render(messages, reply=reply, **TOKENS) == expected


@pytest.mark.parametrize(
    "text",
    [
        "{{ messages | tojson(indent=2) }}{{ {'a': '<é>'} | tojson }}",
        "{{ 'a' ~ 1 ~ none ~ [1, 'x'] }}{{ '<' | e }}{{ ('<' | safe) ~ '>' }}",
        "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ loop.revindex }}"
        "{{ loop.previtem.role }}{% break %}{% endfor %}",
        "{% macro say(x, end='.') %}{{ x | upper }}{{ end }}{% endmacro %}{{ say('hi') }}"
        "{% call say('yo') %}{% endcall %}{{ say('x', end=caller) }}",
        "{{ '%s of %d' % ('one', 2) }}{{ '{:>4}|{a}'.format(1, a='b') }}"
        "{{ '%5.1f' | format(2.25) }}",
        "{{ messages | map(attribute='role') | unique | sort | join(', ') }}",
        "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}",
        "{{ (messages | last).content.split() | join('|') }}{{ 'abc'[::-1] }}{{ 7 // 2 ** 2 % 5 }}",
        "{% set x %}a{% for i in range(3) %}{{ i }}{% endfor %}{% endset %}{{ x | trim('a') }}",
        "{% filter upper %}abc{% endfilter %}{{ dict(a=1).items() | list }}"
        "{{ cycler('a').next() }}",
        "{% for x in [1, [2, [3]]] recursive %}{{ loop(x) if x is iterable else x }}{% endfor %}",
        "{{ nothing }}{{ nothing is defined }}{{ nothing | default('d') }}{{ tools is none }}",
        "{{ 'a,b,c'.rsplit(',', 1) }}{{ 'x' in 'xyz' }}{{ 1 < 2 < 3 }}{{ (1, 2) == (1, 2) }}",
        "  {%- if true %}\n    kept\n  {% endif %}\n\tx {#- gone -#} y\n",
    ],
)
def test_what_templates_are_made_of(text):
    messages = CONVERSATIONS["several turns"]
    try:
        expected = outside(text, messages)
    except TypeError as error:
        with pytest.raises(PromptError, match=str(error)[:20]):
            ChatTemplate(text, "a test").render(messages, reply=False, **TOKENS)
        return
    assert ChatTemplate(text, "a test").render(messages, reply=False, **TOKENS) == expected


@pytest.mark.parametrize("text", STOPPED.values(), ids=STOPPED)
def test_hostile_templates_are_stopped(text):
    template = ChatTemplate(text, "evil.gguf")
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(PromptError) as raised:
        template.render((USER, ANSWER))
    assert time.process_time() - start < 10  # a second, on a machine with nothing else to do
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 << 10
    assert str(raised.value).startswith("the chat template of evil.gguf ")
    assert "\n" not in str(raised.value)
    assert str(raised.value).endswith("give another one with `chat_template`")


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_what_is_no_template_is_told_when_it_is_opened(text):
    start = time.process_time()
    with pytest.raises(TemplateError) as raised:
        ChatTemplate(text, "evil.gguf")
    assert time.process_time() - start < 10
    assert str(raised.value).startswith("the chat template of evil.gguf ")
    assert len(str(raised.value)) < 300
    assert "\n" not in str(raised.value)


def test_a_long_conversation_is_within_the_allowance():
    messages = (USER, ANSWER) * 1000 + (Message("user", "x" * 1_000_000),)
    for name in ("qwen_3", "llama_3_1"):
        assert len(ChatTemplate(PUBLISHED[name], name).render(messages)) > 1_000_000


@pytest.mark.parametrize("name", ["nothing", "/", "chat/ml"])
def test_a_template_that_is_not_there_names_those_that_are(name):
    with pytest.raises(TemplateError, match=r"cannot read the chat template .* chatml, gemma, "):
        named_template(Path(name))


def test_a_file_goes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("chatml").write_bytes(b"\xef\xbb\xbfmine")
    assert named_template(Path("chatml")).render((USER,)) == "mine"
