"""One sequence: text as it becomes printable, and why it ends."""

from __future__ import annotations

from pipelines.common.engine.request import Request
from pipelines.common.engine.sequence import TextSequence
from pipelines.echo.pipeline import END_OF_TEXT, EchoModel


def make_sequence(prompt=b"p", stops=(), max_length=100):
    tokenizer = EchoModel().tokenizer
    return TextSequence(Request(list(prompt), max_length, stops=stops), tokenizer)


def accept_all(sequence, output):
    return [sequence.accept(token) for token in output]


def test_characters_come_whole():
    sequence = make_sequence()
    assert accept_all(sequence, "aé日".encode()) == ["a", "", "é", "", "", "日"]
    assert sequence.finish_reason is None


def test_an_end_token_ends_it_and_is_no_output():
    sequence = make_sequence()
    assert accept_all(sequence, [*b"hi", END_OF_TEXT]) == ["h", "i", ""]
    assert sequence.finish_reason == "stop"
    assert sequence.tokens == list(b"hi")


def test_an_incomplete_character_at_the_end_is_replaced():
    sequence = make_sequence(max_length=3)
    assert accept_all(sequence, b"a\xe6") == ["a", "�"]
    assert sequence.finish_reason == "length"


def test_a_stop_string_across_tokens_is_never_printed():
    sequence = make_sequence(stops=["END"])
    assert accept_all(sequence, b"aENxEND") == ["a", "", "", "ENx", "", "", ""]
    assert sequence.finish_reason == "stop"


def test_a_false_start_of_a_stop_string_is_printed_at_the_limit():
    sequence = make_sequence(stops=["END"], max_length=4)
    assert accept_all(sequence, b"aEN") == ["a", "", "EN"]
    assert sequence.finish_reason == "length"


def test_a_stop_string_on_the_last_token_is_a_stop():
    sequence = make_sequence(stops=["END"], max_length=4)
    assert accept_all(sequence, b"END") == ["", "", ""]
    assert sequence.finish_reason == "stop"


def test_a_stop_string_completed_by_the_replacement_character_is_a_stop():
    sequence = make_sequence(stops=["a�"])
    assert accept_all(sequence, [*b"a\xe6", END_OF_TEXT]) == ["", "", ""]
    assert sequence.finish_reason == "stop"


def test_interrupting_prints_what_was_held_back():
    sequence = make_sequence(stops=["END"])
    accept_all(sequence, b"aEN")
    assert sequence.finish("interrupted") == "EN"
    assert sequence.finish_reason == "interrupted"
