"""Where rows come from: files and pipes of every sort, split into lines, opened or refused."""

from __future__ import annotations

import errno
import io
import itertools
import json
import os
import sys
import threading
import tracemalloc
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.common.batch import prompts as prompts_module
from pipelines.common.batch.forms.generate import PROMPTS
from pipelines.common.batch.prompts import from_file, from_stdin, from_texts
from pipelines.common.batch.row import BadRow, Row
from pipelines.common.engine.sampling import SamplingParams
from pipelines.common.errors import BatchError
from pipelines.common.requests.text import Defaults

DEFAULTS = Defaults(sampling=SamplingParams(seed=100), max_new_tokens=8)
REQUEST = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "p"}}


@pytest.fixture
def write(tmp_path):
    def write(data: bytes | str | list, name: str = "prompts.jsonl") -> Path:
        if isinstance(data, list):
            data = "".join(f"{json.dumps(value)}\n" for value in data)
        path = tmp_path / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    return write


@pytest.fixture
def stdin(monkeypatch):
    def stdin(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return stdin


def failure(path):
    """The message that opening `path` fails with."""
    with pytest.raises(BatchError) as raised:
        from_file(path, DEFAULTS, PROMPTS)
    message = str(raised.value)
    assert message.isprintable()
    return message


def texts(rows):
    """Lines and prompts; of bad rows the errors."""
    return [(row.line, row.request.prompt if isinstance(row, Row) else row.error) for row in rows]


def expected_lines(data, longest):
    """Numbers and texts of the lines that hold something, straight from the whole of the data."""
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    found = []
    for number, line in enumerate(lines, 1):
        raw = len(data.split(b"\n")[number - 1])
        line = line.removesuffix(b"\r")
        if raw > longest:
            found.append((number, "too long"))
        elif line.strip():
            found.append((number, line.decode()))
    return found


# Few letters make ends of lines and of chunks meet in every way.
PIECES = st.lists(st.sampled_from(["a", " ", "é", "\r", "\n", "\r\n", "{", "bcdefgh"]), max_size=40)


@given(PIECES, st.booleans(), st.integers(1, 9))
def test_lines_are_those_of_the_whole_file(tmp_path_factory, pieces, mark, chunk):
    data = b"\xef\xbb\xbf" * mark + "".join(["x", *pieces]).encode()
    path = tmp_path_factory.mktemp("lines") / "prompts.txt"
    path.write_bytes(data)
    with (
        mock.patch.object(prompts_module, "_CHUNK_BYTES", chunk),
        mock.patch.object(prompts_module, "_MAX_LINE_BYTES", 12),
        from_file(path, DEFAULTS, PROMPTS) as prompts,
    ):
        rows = [
            (row.line, "too long" if isinstance(row, BadRow) else row.request.prompt)
            for row in prompts
        ]
    assert rows == expected_lines(data, longest=12)
    assert prompts.rows == len(rows)


def test_rows_can_be_read_again_and_side_by_side(write):
    path = write([{"prompt": f"p{n}"} for n in range(5)])
    with from_file(path, DEFAULTS, PROMPTS) as prompts:
        rows = list(prompts)
        assert texts(rows) == [(n + 1, f"p{n}") for n in range(5)]
        assert [row.request.sampling.seed for row in rows] == [100, 101, 102, 103, 104]
        for one, other in zip(prompts, prompts, strict=True):
            assert one == other


def test_a_bad_line_is_a_row_and_counts_as_one(write):
    path = write(b'\n{"prompt": "a"}\n  \r\n\xff\xfe\nnonsense\n{"prompt": "b"}')
    with from_file(path, DEFAULTS, PROMPTS) as prompts:
        rows = list(prompts)
    assert prompts.rows == 4
    assert [row.line for row in rows] == [2, 4, 5, 6]
    assert rows[1].error.startswith("not UTF-8 at byte 0")
    assert rows[2].error.startswith("not JSON at column 1")
    assert rows[3].request.sampling.seed == 103


def test_ends_of_lines_are_newlines_only(write):
    separators = "a\x0bb\x0cc\x1cd\x85e\u2028f\rg"
    with from_file(write(f" {separators} \r\nend", "prompts.txt"), DEFAULTS, PROMPTS) as prompts:
        assert texts(prompts) == [(1, f" {separators} "), (2, "end")]


def test_blank_is_what_unicode_calls_space(write):
    with from_file(write("\u3000\xa0\t\n\u200b", "prompts.txt"), DEFAULTS, PROMPTS) as prompts:
        assert texts(prompts) == [(2, "\u200b")]


def test_a_line_too_long_is_not_held_in_memory(write):
    path = write(b"")
    with path.open("wb") as file:
        file.seek(100 << 20)  # leaves a hole, which reads as zeros
        file.write(b'\n{"prompt": "p"}\n')
    tracemalloc.start()
    try:
        with from_file(path, DEFAULTS, PROMPTS) as prompts:
            rows = list(prompts)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert texts(rows) == [(1, "the line is longer than 16 MiB; shorten it"), (2, "p")]
    assert peak < 40 << 20


def test_memory_does_not_grow_with_the_file(write):
    path = write([{"prompt": f"{'p' * 5000} {n}"} for n in range(2_000)])
    tracemalloc.start()
    try:
        with from_file(path, DEFAULTS, PROMPTS) as prompts:
            assert sum(1 for _ in prompts) == prompts.rows == 2_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 << 20


@pytest.mark.parametrize(
    ("name", "first", "form"),
    [
        ("p.txt", '{"prompt": "p"}', "text"),
        ("p.jsonl", '{"prompt": "p"}', "rows"),
        ("p.JSONL", '\n {"prompt": "p"}', "rows"),
        ("p.ndjson", "What is love?", "rows"),
        ("p.json", json.dumps(REQUEST), "completions"),
        ("p.jsonl", f"nonsense\n5\n{json.dumps(REQUEST)}", "completions"),
        ("p.jsonl", f'{{"prompt": "p"}}\n{json.dumps(REQUEST)}', "rows"),
        ("p.jsonl", '{"prompt": "p", "body": "b"}', "rows"),
        ("p.jsonl", '{"custom_id": "a"}', "completions"),
        ("p", '{"prompt": "p"}', "rows"),
        ("p.md", "\ufeff{broken", "rows"),
        ("p", json.dumps(REQUEST), "completions"),
        ("p", "What is love?", "text"),
        ("p", '["What is love?"]', "text"),
    ],
)
def test_the_form_is_told_by_suffix_and_first_row(write, name, first, form):
    with from_file(write(first, name), DEFAULTS, PROMPTS) as prompts:
        assert prompts.form.name == form


@pytest.mark.parametrize("content", ['[\n{"prompt": "p"}\n]', ' [ {"prompt": "p"}]'])
@pytest.mark.parametrize("name", ["prompts.json", "prompts.jsonl", "prompts"])
def test_a_json_array_is_no_file_of_rows(write, name, content):
    message = failure(write(content, name))
    assert "holds a JSON array" in message
    assert "jq -c '.[]'" in message


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("name", ["p.txt", "p.jsonl"])
def test_other_unicode_encodings_are_refused(write, name, encoding):
    mark = "" if encoding in {"utf-16", "utf-32"} else "\ufeff"
    message = failure(write(f"{mark}What is love?\n".encode(encoding), name))
    assert f"is {encoding[:6].upper()}; expected UTF-8" in message


@pytest.mark.parametrize("data", ["", "\n\n \r\n\t", "\ufeff", "\ufeff\n"])
@pytest.mark.parametrize("name", ["p.txt", "p.jsonl", "p"])
def test_an_input_without_rows_is_refused(write, name, data):
    path = write(data, name)
    assert failure(path) == f"{path} holds no prompts; expected one a line"


def test_equal_ids_are_listed_before_anything_is_run(write):
    ids = ["a", 3, "3", None, None, 3, "a", 3]
    path = write([{"id": row_id, "prompt": "p"} for row_id in ids])
    assert failure(path) == (
        f'{path}: ids are not unique: 3 (lines 2, 6, 8), "a" (lines 1, 7); '
        "give each row an id of its own"
    )


def test_a_list_of_equal_ids_has_an_end(write):
    path = write([{"id": row_id % 9, "prompt": "p"} for row_id in range(90)])
    message = failure(path)
    assert "0 (lines 1, 10, 19, 28, 37, ...), 1 (lines" in message
    assert message.endswith(", and 4 more; give each row an id of its own")


def test_ids_of_bad_rows_and_of_requests_are_compared_too(write):
    path = write([{"id": "a", "prompt": "p"}, {"id": "a"}])
    assert '"a" (lines 1, 2)' in failure(path)
    path = write([REQUEST, {**REQUEST, "body": None}])
    assert '"a" (lines 1, 2)' in failure(path)


def test_names_of_unknown_fields(write):
    path = write([{"prompt": "p", "topic": 1, "a": 2}, {"prompt": 5, "topic": 3, "lang": 4}])
    with from_file(path, DEFAULTS, PROMPTS) as prompts:
        assert prompts.unknown == ("a", "lang", "topic")
    path = write([{"prompt": "p", **dict.fromkeys("abcdefgh", 1)}])
    with from_file(path, DEFAULTS, PROMPTS) as prompts:
        assert len(prompts.unknown) == 5
    with from_file(write([REQUEST]), DEFAULTS, PROMPTS) as prompts:
        assert prompts.unknown == ()
    body = {**REQUEST["body"], "user": "u", "temprature": 1}
    with from_file(write([{**REQUEST, "body": body, "note": 1}]), DEFAULTS, PROMPTS) as prompts:
        assert prompts.unknown == ("note", "temprature")


def test_the_fingerprint_is_that_of_the_bytes(write, stdin):
    def fingerprint(data, name="p.jsonl"):
        with from_file(write(data, name), DEFAULTS, PROMPTS) as prompts:
            return prompts.fingerprint

    data = b'{"prompt": "a", "x": "%s"}\n' % (b"x" * 1000) * 1_000  # several reads
    assert fingerprint(data) == fingerprint(data, "other.jsonl")
    assert fingerprint(data) != fingerprint(data + b"\n")
    assert fingerprint(data) != fingerprint(data.replace(b"a", b"b", 1))
    stdin(data)
    with from_stdin(DEFAULTS, PROMPTS) as prompts:
        assert fingerprint(data) == prompts.fingerprint


@pytest.mark.parametrize("change", [b"", b"longer\n", b"other"])
def test_a_file_that_was_changed_is_not_read_on(write, change):
    path = write("first", "p.txt")
    with from_file(path, DEFAULTS, PROMPTS) as prompts:
        path.write_bytes(change)
        written = path.stat().st_mtime_ns + 1_000_000_000  # clocks of file systems are coarse
        os.utime(path, ns=(written, written))
        with pytest.raises(BatchError, match=r"p\.txt was changed while it was being read"):
            list(prompts)


def test_a_file_that_is_changed_while_rows_are_run_is_not_read_on(write):
    path = write(f"{'a' * 1000}\n" * 1_000, "p.txt")
    with from_file(path, DEFAULTS, PROMPTS) as prompts:
        rows = iter(prompts)
        next(rows)
        with path.open("ab") as file:
            file.write(b"another")
        with pytest.raises(BatchError, match="was changed"):
            list(rows)


def test_a_file_that_is_replaced_stays_the_one_that_was_opened(write):
    path = write("first", "p.txt")
    with from_file(path, DEFAULTS, PROMPTS) as prompts:
        path.rename(path.with_name("old.txt"))
        path.write_text("second")
        assert texts(prompts) == [(1, "first")]


def test_missing_files_and_directories(tmp_path):
    missing = tmp_path / "missing.jsonl"
    assert failure(missing).startswith(
        f"cannot read prompts from {missing}: No such file or directory; expected"
    )
    assert failure(tmp_path).startswith(f"cannot read prompts from {tmp_path}: Is a directory; ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file(write):
    path = write("p")
    path.chmod(0)
    assert "Permission denied" in failure(path)


def test_a_device_is_no_input():
    assert failure(Path("/dev/zero")).startswith(
        "cannot read prompts from /dev/zero: Is a device; expected a file or a pipe"
    )


def test_a_named_pipe_is_read_to_its_end(tmp_path):
    path = tmp_path / "pipe.jsonl"
    os.mkfifo(path)
    lines = "".join(f'{{"prompt": "{n}"}}\n' for n in range(9_000))  # more than a pipe holds
    writer = threading.Thread(target=path.write_text, args=(lines,))
    writer.start()
    with from_file(path, DEFAULTS, PROMPTS) as prompts:
        writer.join()
        for _ in range(2):
            assert texts(prompts) == [(n + 1, str(n)) for n in range(9_000)]
    assert prompts.source == str(path)


@pytest.mark.parametrize(("data", "form"), [(b"a\nb", "text"), (b'\n{"prompt": "a"}\n', "rows")])
def test_stdin_is_read_as_a_file_is(stdin, data, form):
    stdin(data)
    with from_stdin(DEFAULTS, PROMPTS) as prompts:
        assert (prompts.form.name, prompts.source) == (form, "stdin")
        assert texts(prompts) == texts(prompts)
        assert len(list(prompts)) == prompts.rows


def test_stdin_that_holds_nothing(stdin, monkeypatch):
    stdin(b"\n")
    with pytest.raises(BatchError, match="stdin holds no prompts"):
        from_stdin(DEFAULTS, PROMPTS)
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(BatchError, match="stdin, which is closed"):
        from_stdin(DEFAULTS, PROMPTS)


def test_stdin_without_room_for_it(stdin, monkeypatch):
    stdin(b"a")
    full = mock.Mock(side_effect=OSError(errno.ENOSPC, "No space left on device"))
    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(BatchError, match=r"No space left on device; .*TMPDIR"):
        from_stdin(DEFAULTS, PROMPTS)


def test_prompts_of_the_command_line():
    given_texts = ["two\nlines", " ", "é\0", "same", "same", "", "\udcff"]
    with from_texts(given_texts, DEFAULTS, PROMPTS) as prompts:
        rows = list(prompts)
    assert (prompts.rows, prompts.source, prompts.form.name) == (7, "`prompts`", "rows")
    assert texts(rows[:5]) == list(zip(itertools.count(1), given_texts[:5], strict=False))
    assert [row.request.sampling.seed for row in rows[:5]] == [100, 101, 102, 103, 104]
    assert rows[5].error.startswith("prompt is empty")
    assert rows[6].error.startswith("\\udcff is half of a surrogate pair")
    with from_texts(given_texts[::-1], DEFAULTS, PROMPTS) as others:
        assert others.fingerprint != prompts.fingerprint
