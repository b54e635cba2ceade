"""An output is read by line and by step, and searched, whatever was printed and however much."""

import json
import threading
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skstack.runs import lines
from skstack.runs.output import LONG_LINE, MAX_LINES_READ, Output
from skstack.runs.search import search
from skstack.runs.terminal import render


class Recorder:
    """Writes a run's files as the runner does."""

    def __init__(self, directory):
        self.directory = directory

    def event(self, kind, **details):
        output = self.directory / "output.log"
        offset = output.stat().st_size if output.exists() else 0
        with (self.directory / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(
                json.dumps({"kind": kind, "at": "2026-11-23T10:00:00.000Z", "offset": offset, **details})
                + "\n"
            )

    def printed(self, content):
        with (self.directory / "output.log").open("ab") as file:
            file.write(content)

    def step(self, position, content, *, task="main", line="echo", exit_code=0):
        self.event("step_started", position=position, task=task, line=line)
        self.printed(content)
        if exit_code is not None:
            self.event("step_finished", position=position, exit_code=exit_code, duration=1.5)

    def finish(self, **result):
        (self.directory / "result.json").write_text(
            json.dumps({"outcome": "finished", "steps": [], **result})
        )


@pytest.fixture
def recorder(tmp_path):
    return Recorder(tmp_path)


def texts(part):
    return part.raw.decode().split("\n")[: part.count]


def test_nothing_yet_is_an_empty_output(tmp_path):
    output = Output(tmp_path / "queued")
    assert (output.size, output.final, output.steps, output.tail(10)) == (0, False, (), [])
    assert output.read(0) == b""
    assert list(output.stream()) == []
    assert output.line_at(0) is None
    assert search(output, "x").found == ()


def test_steps_carry_what_happened_to_them(recorder, tmp_path):
    recorder.step(1, b"one\n", task="pre", line="echo one")
    recorder.step(2, b"two", exit_code=None)
    first, second = Output(tmp_path).steps
    assert (first.position, first.task, first.line, first.start, first.end) == (1, "pre", "echo one", 0, 4)
    assert (first.exit_code, first.duration, first.finished_at) == (0, 1.5, "2026-11-23T10:00:00.000Z")
    assert (second.start, second.end, second.exit_code, second.finished_at) == (4, 7, None, None)


def test_a_step_begins_a_new_line_numbered_from_one(recorder, tmp_path):
    recorder.step(1, b"a\nno newline")
    recorder.step(2, b"b\nc\n")
    output = Output(tmp_path)
    one, two = output.tail(10)
    assert (one.step, one.first, one.count, texts(one), one.complete) == (1, 1, 2, ["a", "no newline"], True)
    assert (two.step, two.first, two.count, texts(two), two.complete) == (2, 1, 2, ["b", "c"], True)
    assert [output.line_count(step) for step in output.steps] == [2, 2]
    located = output.line_at(one.end - 1)
    assert located is not None
    assert (located[0].position, located[1]) == (1, 2)


def test_the_unfinished_last_line_is_rendered_again_from_its_start(recorder, tmp_path):
    recorder.step(1, b"done\nprogress 1", exit_code=None)
    [part] = Output(tmp_path).tail(10)
    assert not part.complete
    assert part.cursor == 5
    recorder.printed(b"0%\nnext\n")
    output = Output(tmp_path)
    [part] = output.tail(10, start=part.cursor)
    assert (part.first, texts(part), part.complete, part.cursor) == (
        2,
        ["progress 10%", "next"],
        True,
        output.size,
    )
    assert output.tail(10, start=output.size) == []


def test_the_end_of_the_run_completes_the_last_line(recorder, tmp_path):
    recorder.step(1, b"no newline")
    assert not Output(tmp_path).tail(1)[0].complete
    recorder.finish()
    output = Output(tmp_path)
    assert output.final
    assert output.tail(1)[0].complete


def test_the_tail_goes_over_steps_and_stops_at_its_start(recorder, tmp_path):
    recorder.step(1, b"".join(b"%d\n" % n for n in range(1, 11)))
    recorder.step(2, b"")
    recorder.step(3, b"x\ny\n", exit_code=None)
    output = Output(tmp_path)
    assert [(p.step, p.first, p.count) for p in output.tail(5)] == [(1, 8, 3), (3, 1, 2)]
    assert [(p.step, p.first, p.count) for p in output.tail(1)] == [(3, 2, 1)]
    start = output.steps[2].start
    assert [(p.step, p.first, p.count) for p in output.tail(5, start=start)] == [(3, 1, 2)]
    assert [(p.step, p.first, p.count) for p in output.tail(50, start=start - 3)] == [(1, 10, 1), (3, 1, 2)]


def test_events_are_believed_only_as_far_as_they_make_sense(recorder, tmp_path):
    recorder.printed(b"before\n")
    recorder.step(1, b"a\n")
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(b'not json\n[]\n{"kind":"step_finished","position":9}\n{"kind":"step_st')
    assert [(s.start, s.end) for s in Output(tmp_path).steps] == [(0, 9)]
    (tmp_path / "events.jsonl").write_text(
        '{"kind":"step_started","position":1,"offset":0}\n{"kind":"step_started","position":2,"offset":999}\n'
    )
    assert [(s.start, s.end) for s in Output(tmp_path).steps] == [(0, 9), (9, 9)]


def test_output_without_events_is_still_shown(tmp_path):
    (tmp_path / "output.log").write_bytes(b"a\nb\n")
    assert [(p.step, p.first, p.count) for p in Output(tmp_path).tail(5)] == [(1, 1, 2)]


def test_the_result_tells_what_a_full_disk_swallowed(recorder, tmp_path):
    recorder.printed(b"one\ntwo\n")
    recorder.finish(
        steps=[{"position": 1, "offset": 0, "exit_code": 0}, {"position": 2, "offset": 4, "exit_code": 3}]
    )
    assert [(s.start, s.end, s.exit_code) for s in Output(tmp_path).steps] == [(0, 4, 0), (4, 8, 3)]
    (tmp_path / "result.json").write_bytes(b"{half")
    assert Output(tmp_path).final


def test_a_cap_is_told(recorder, tmp_path):
    recorder.step(1, b"abc", exit_code=None)
    recorder.event("output_capped")
    assert Output(tmp_path).capped_at == 3


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.integers(0, 40_000), max_size=12).map(
            lambda sizes: b"".join(b"x" * n + b"\n" for n in sizes)
        ),
        min_size=1,
        max_size=4,
    ),
    st.data(),
)
def test_lines_and_offsets_agree(tmp_path_factory, contents, data):
    directory = tmp_path_factory.mktemp("run")
    recorder = Recorder(directory)
    for position, content in enumerate(contents, start=1):
        recorder.step(position, content)
    output = Output(directory)
    for step, content in zip(output.steps, contents, strict=True):
        rows = content.split(b"\n")[:-1]
        assert output.line_count(step) == len(rows)
        if rows:
            number = data.draw(st.integers(1, len(rows)))
            offset = output.offset_of(step, number)
            assert offset == step.start + sum(len(row) + 1 for row in rows[: number - 1])
            located = output.line_at(offset + len(rows[number - 1]))
            assert located == (step, number)
            part = output.lines(step, number, number)
            assert part is not None
            assert part.raw == rows[number - 1] + b"\n"


def test_an_answer_carries_no_more_than_it_may(recorder, tmp_path):
    recorder.step(1, b"".join(b"%06d " % n + b"x" * 1000 + b"\n" for n in range(1, 5001)))
    output = Output(tmp_path)
    [step] = output.steps
    first = output.lines(step, 1, 5000)
    last = output.lines(step, 1, 5000, from_end=True)
    assert first is not None
    assert last is not None
    assert (first.first, last.last) == (1, 5000)
    for part in (first, last):
        assert MAX_LINES_READ / 4 < len(part.raw) <= MAX_LINES_READ
        assert part.raw.startswith(b"%06d " % part.first)
        assert part.raw.count(b"\n") == part.count
    assert output.lines(step, 5001, 6000) is None
    middle = output.lines(step, 2000, 2100)
    assert middle is not None
    assert (middle.first, middle.count, middle.raw[:6]) == (2000, 101, b"002000")


def test_one_endless_line_costs_little(recorder, tmp_path):
    recorder.step(1, b"short\n", exit_code=None)
    with (tmp_path / "output.log").open("ab") as file:
        for _ in range(100):
            file.write(b"y" * (1 << 20))
    tracemalloc.start()
    output = Output(tmp_path)
    [part] = output.tail(1000)
    found = search(output, "yyz").found
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == ()
    assert peak < 10 << 20
    assert (part.first, part.count, part.complete) == (2, 1, False)
    assert part.omitted + len(part.raw) == 100 << 20
    assert part.cursor == 6
    assert len(render(part.raw).lines[0]) == 10_000


def test_a_long_progress_bar_shows_where_it_is(recorder, tmp_path):
    recorder.step(1, b"".join(b"\r%7d of 100000" % n for n in range(100_001)), exit_code=None)
    [part] = Output(tmp_path).tail(10)
    assert part.omitted > LONG_LINE
    assert render(part.raw, complete=False).lines == [" 100000 of 100000"]


def test_a_million_lines_are_indexed_quickly_and_grow(recorder, tmp_path):
    recorder.step(1, b"".join(b"%07d %s\n" % (n, b"x" * 91) for n in range(1, 1_000_001)), exit_code=None)
    start = time.thread_time()
    output = Output(tmp_path)
    [step] = output.steps
    assert output.line_count(step) == 1_000_000
    assert time.thread_time() - start < 0.5
    start = time.thread_time()
    [part] = output.tail(1000)
    assert (part.first, part.raw[:7]) == (999_001, b"0999001")
    part = output.lines(step, 500_000, 500_499)
    assert part is not None
    assert part.raw[:7] == b"0500000"
    assert time.thread_time() - start < 0.05
    recorder.printed(b"more\nand more")
    start = time.thread_time()
    output = Output(tmp_path)
    assert output.line_count(output.steps[0]) == 1_000_002
    assert time.thread_time() - start < 0.05
    start = time.thread_time()
    [match] = search(output, "0999999 XX").found
    assert time.thread_time() - start < 1
    assert match.line == 999_999


def test_many_threads_may_ask_while_it_grows(recorder, tmp_path):
    recorder.step(1, b"", exit_code=None)
    wrong = []
    done = threading.Event()

    def ask():
        while not done.is_set():
            output = Output(tmp_path)
            for part in output.tail(3):
                # A big write may be seen half done: what follows the last newline is no whole number yet.
                numbers = [int(row) for row in part.raw.split(b"\n")[:-1]]
                if numbers != list(range(part.first, part.first + len(numbers))):
                    wrong.append((part.first, numbers))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    number = 1
    for _ in range(50):
        recorder.printed(b"".join(b"%d\n" % n for n in range(number, number + 2000)))
        number += 2000
        time.sleep(0.002)
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_file_cut_short_or_replaced_is_read_anew(recorder, tmp_path):
    recorder.printed(b"x\n" * 100_000)
    output = Output(tmp_path)
    [step] = output.steps
    assert output.line_count(step) == 100_000
    (tmp_path / "output.log").write_bytes(b"y\n" * 10)
    assert output.lines(step, 90_000, 90_010) is not None
    assert output.read(150_000) == b""
    fresh = Output(tmp_path)
    assert fresh.line_count(fresh.steps[0]) == 10
    (tmp_path / "output.log").unlink()
    assert output.tail(10)[0].raw == b""
    assert Output(tmp_path).size == 0


def test_raw_bytes_are_given_back_exactly(recorder, tmp_path):
    content = bytes(range(256)) * 5000
    recorder.step(1, content, exit_code=None)
    output = Output(tmp_path)
    assert b"".join(output.stream(1000)) == content
    assert output.read(10, 20) == content[10:30]
    assert len(output.read(0)) == 1 << 20
    assert output.read(len(content) + 5) == b""
    assert output.read(-5, 3) == content[:3]


def test_the_style_in_the_middle_is_found(recorder, tmp_path):
    recorder.step(1, b"\x1b[31mred\nstill red\n")
    recorder.step(2, b"plain\nplain\n")
    output = Output(tmp_path)
    one, two = output.steps
    assert output.style_at(one, output.offset_of(one, 2)).token() == "f1"
    assert output.style_at(two, output.offset_of(two, 2)).token() == ""
    assert output.style_at(two, two.start).token() == ""


def found(output, text, **kwargs):
    return [(match.step, match.line) for match in search(output, text, **kwargs).found]


def test_search_finds_lines_of_steps(recorder, tmp_path):
    recorder.step(1, b"alpha\nBeta alpha alpha\n\nend alp")
    recorder.step(2, b"ha\nALPHA\n")
    output = Output(tmp_path)
    assert found(output, "alpha") == [(1, 1), (1, 2), (2, 2)]
    assert found(output, "alpha", match_case=True) == [(1, 1), (1, 2)]
    assert found(output, "") == []
    assert found(output, "alpha\nBeta") == [(1, 1), (1, 2), (2, 2)]
    match = search(output, "ALPHA").found[1]
    assert (match.before, match.text, match.after) == ("Beta ", "alpha", " alpha")


def test_search_looks_through_escapes(recorder, tmp_path):
    recorder.step(1, b"\x1b[32mal\x1b[1;31mph\x1b]0;t\x07a\x1b[0m done\n\x1b[31mm\x1b[0m\n")
    output = Output(tmp_path)
    match = search(output, "alpha").found[0]
    assert (match.before, match.text, match.after) == ("", "alpha", " done")
    assert found(output, "m") == [(1, 2)]


def test_search_knows_letters_beyond_ascii(recorder, tmp_path):
    recorder.step(1, "Größe\nGRÖSSE\n部署完成\n".encode() + b"\xff\xfe\x00bin\n")
    output = Output(tmp_path)
    assert found(output, "GRÖ") == [(1, 1), (1, 2)]
    assert found(output, "grö", match_case=True) == []
    assert found(output, "完成") == [(1, 3)]
    assert found(output, "\x00bin") == [(1, 4)]
    assert found(output, "a.*[") == []


def test_search_finds_what_stands_across_two_pieces(tmp_path):
    for shift in range(8):
        across, coloured = tmp_path / f"{shift}", tmp_path / f"{shift}-coloured"
        across.mkdir()
        coloured.mkdir()
        filling = b"x" * ((1 << 20) - shift)
        (across / "output.log").write_bytes(filling + b"needle\nneedle\n" + b"z" * (2 << 20) + b" needle")
        assert found(Output(across), "needle") == [(1, 1), (1, 2), (1, 3)]
        (coloured / "output.log").write_bytes(filling + b"nee\x1b[1mdle\n\x1b[0mneedle")
        assert found(Output(coloured), "needle") == [(1, 1), (1, 2)]


def test_search_goes_on_where_it_stopped(recorder, tmp_path):
    recorder.step(1, b"hit\nmiss\n" * 25)
    output = Output(tmp_path)
    start, seen = 0, []
    for _ in range(3):
        matches = search(output, "hit", start=start, limit=10)
        seen += [match.line for match in matches.found]
        start = matches.next
    assert seen == list(range(1, 51, 2))
    assert not matches.more


@settings(max_examples=100, deadline=None)
@given(st.text("ab\n", max_size=60), st.text("ab", min_size=1, max_size=3))
def test_search_agrees_with_a_plain_search(tmp_path_factory, content, needle):
    directory = tmp_path_factory.mktemp("run")
    (directory / "output.log").write_bytes(content.encode())
    expected = [number for number, line in enumerate(content.split("\n"), start=1) if needle in line]
    assert [line for _, line in found(Output(directory), needle)] == expected


def test_only_the_indexes_used_last_are_kept(tmp_path):
    for number in range(lines._KEPT + 5):
        path = tmp_path / str(number)
        path.mkdir()
        (path / "output.log").write_bytes(b"x\n")
        Output(path)
    assert len(lines._known._indexes) <= lines._KEPT
