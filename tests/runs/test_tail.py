"""Who waits for output is answered when it comes: quickly, together, and without keeping a processor busy."""

import json
import os
import threading
import time

import pytest

from skstack.runs.tail import SHORTEST_INTERVAL, Tails


@pytest.fixture(params=[False, True], ids=["inotify", "polling"])
def tails(request):
    return Tails(200, polling=request.param)


@pytest.fixture
def directory(tmp_path):
    path = tmp_path / "runs" / "7"
    path.mkdir(parents=True)
    (path / "output.log").touch()
    (path / "events.jsonl").touch()
    return path


def append(path, content):
    with path.open("ab", buffering=0) as file:
        file.write(content)


def later(seconds, function, *args):
    timer = threading.Timer(seconds, function, args)
    timer.start()
    return timer


def wait_until(condition):
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def in_threads(count, function):
    """Call `function` in threads; return them, and the list that collects what it returns."""
    returned = []
    threads = [threading.Thread(target=lambda: returned.append(function())) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads, returned


def test_what_is_there_already_is_answered_at_once(tails, directory):
    append(directory / "output.log", b"hello\n")
    start = time.monotonic()
    growth = tails.wait(directory, 0, 5)
    assert (growth.size, growth.grown, growth.final) == (6, True, False)
    assert time.monotonic() - start < 0.5


def test_growth_wakes_who_waits(tails, directory):
    timer = later(0.1, append, directory / "output.log", b"hello\n")
    start = time.monotonic()
    growth = tails.wait(directory, 0, 5)
    assert 0.05 < time.monotonic() - start < 2
    assert (growth.size, growth.grown) == (6, True)
    timer.join()


def test_nothing_new_is_said_after_the_time_asked_for(tails, directory):
    start = time.monotonic()
    growth = tails.wait(directory, 0, 0.2)
    assert 0.19 < time.monotonic() - start < 1
    assert not growth.grown
    assert tails.waiting == 0


def test_not_waiting_is_possible(tails, directory):
    append(directory / "output.log", b"x")
    assert tails.wait(directory, 0, 0).grown
    assert not tails.wait(directory, 1, 0).grown


def test_a_step_wakes_those_who_care_for_steps(tails, directory):
    timer = later(0.05, append, directory / "events.jsonl", b"{}\n")
    growth = tails.wait(directory, 0, 5, seen_events=0)
    assert (growth.events_size, growth.grown) == (3, True)
    assert not tails.wait(directory, 0, 0.1).grown
    timer.join()


def test_the_result_is_final(tails, directory):
    def finish():
        (directory / ".result.json").write_text(json.dumps({}))
        (directory / ".result.json").rename(directory / "result.json")

    timer = later(0.05, finish)
    growth = tails.wait(directory, 0, 5)
    assert growth.final
    assert not growth.grown
    timer.join()
    assert tails.wait(directory, 0, 5).final


def test_a_run_that_has_no_directory_yet_is_waited_for(tails, tmp_path):
    (tmp_path / "runs").mkdir()
    directory = tmp_path / "runs" / "8"

    def begin():
        directory.mkdir()
        time.sleep(0.02)
        append(directory / "output.log", b"begun\n")

    timer = later(0.05, begin)
    growth = tails.wait(directory, 0, 5)
    assert growth.size == 6
    timer.join()


def test_not_even_the_parent_need_be_there(tails, tmp_path):
    directory = tmp_path / "runs" / "9"

    def begin():
        directory.mkdir(parents=True)
        append(directory / "output.log", b"begun\n")

    timer = later(0.05, begin)
    assert tails.wait(directory, 0, 5).size == 6
    timer.join()


def test_a_directory_that_is_removed_is_no_error(tails, directory):
    def replace():
        for path in directory.iterdir():
            path.unlink()
        directory.rmdir()
        time.sleep(0.05)
        directory.mkdir()
        append(directory / "output.log", b"again\n")

    timer = later(0.05, replace)
    assert tails.wait(directory, 0, 5).size == 6
    timer.join()


def test_many_waiters_are_woken_by_one_write(tails, directory):
    threads, returned = in_threads(100, lambda: tails.wait(directory, 0, 10))
    wait_until(lambda: tails.waiting == 100)
    start = time.monotonic()
    append(directory / "output.log", b"hello\n")
    for thread in threads:
        thread.join()
    assert time.monotonic() - start < 1
    assert [growth.size for growth in returned] == [6] * 100
    assert tails.waiting == 0


def test_beyond_the_limit_nobody_waits(directory):
    tails = Tails(1)
    threads, _ = in_threads(1, lambda: tails.wait(directory, 0, 10))
    wait_until(lambda: tails.waiting == 1)
    start = time.monotonic()
    assert tails.wait(directory, 0, 10).busy
    assert time.monotonic() - start < 0.5
    append(directory / "output.log", b"x")
    threads[0].join()
    assert not tails.wait(directory, 1, 0.05).busy


def test_a_line_after_a_quiet_moment_is_answered_within_milliseconds(directory):
    tails = Tails()
    delays = []
    for number in range(10):
        threads, returned = in_threads(1, lambda n=number: (tails.wait(directory, n, 5), time.monotonic()))
        wait_until(lambda: tails.waiting == 1)
        time.sleep(SHORTEST_INTERVAL * 1.5)
        start = time.monotonic()
        append(directory / "output.log", b"x")
        threads[0].join()
        delays.append(returned[0][1] - start)
    assert sorted(delays)[5] < 0.005


def test_a_chatty_command_is_answered_at_intervals(tails, directory):
    done = threading.Event()

    def chat():
        while not done.wait(0.001):
            append(directory / "output.log", b"line\n")

    thread = threading.Thread(target=chat)
    thread.start()
    answers, offset, start = 0, 0, time.monotonic()
    while time.monotonic() < start + 1:
        offset = tails.wait(directory, offset, 5).size
        answers += 1
    done.set()
    thread.join()
    assert 8 <= answers <= 27


def test_who_is_far_behind_is_not_held_back(directory):
    tails = Tails()
    append(directory / "output.log", b"x" * 1000)
    start = time.monotonic()
    for offset in range(0, 900, 10):
        assert tails.wait(directory, offset, 5, enough=64).grown
    assert time.monotonic() - start < 1


def test_waiting_takes_no_processor(directory):
    tails = Tails(200)
    threads, _ = in_threads(100, lambda: tails.wait(directory, 0, 10))
    wait_until(lambda: tails.waiting == 100)
    before = time.process_time()
    time.sleep(1.2)
    spent = time.process_time() - before
    append(directory / "output.log", b"x")
    for thread in threads:
        thread.join()
    assert spent < 0.02


def test_a_forked_child_waits_on_its_own(tails, directory):
    timer = later(0.05, append, directory / "output.log", b"x")
    tails.wait(directory, 0, 5)
    timer.join()
    child = os.fork()
    if child == 0:
        later(0.05, append, directory / "output.log", b"y")
        os._exit(0 if tails.wait(directory, 1, 5).size == 2 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert tails.wait(directory, 1, 5).size == 2
