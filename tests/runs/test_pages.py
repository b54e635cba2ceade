"""The log pane's pages and fragments."""

import re
import threading
import time

import pytest

from skstack.extensions import db
from skstack.runs import views
from skstack.runs.following import tails
from skstack.runs.output import Output
from tests.factories import alice, mallory, root, sign_in
from tests.fake_runner import begin, end, finish_by_worker, leave, note, result, run_of, write
from tests.orders import make_ticket, make_workorder

HTMX = {"HX-Request": "true"}


@pytest.fixture
def run(context):
    """Give a queued main run of two steps, submitted by Alice."""
    return run_of(make_ticket(alice(), make_workorder(main_task="echo one\necho two")))


@pytest.fixture
def member(client, run):
    sign_in(client, alice())
    return client


def start(run, output=b"", *, step=1):
    begun = begin(run)
    note(begun, "step_started", step, line="echo one")
    if output:
        write(begun, output)
    return begun


def page(client, run, path="", **arguments):
    answer = client.get(f"/runs/{run.id}{path}", query_string=arguments)
    assert answer.status_code == 200, answer.text
    return answer.text


def next_request(html):
    """Return the address that the poller in this HTML asks, None if it asks no more."""
    poller = re.search(r'<div id="log-poller"[^>]*>', html, re.DOTALL)
    assert poller
    address = re.search(r'hx-get="([^"]*)"', poller[0])
    return address[1].replace("&amp;", "&") if address else None


def anchors(html):
    return re.findall(r'<div class="l" id="([^"]*)"', html)


def text_of(html, anchor):
    found = re.search(rf'id="{anchor}".*?</a><span>(.*?)</span></div>', html)
    return found[1] if found else None


def test_a_queued_run_says_that_it_waits(member, run):
    html = page(member, run)
    assert "waits for a worker" in html
    assert html.count('<details class="step"') == 2
    assert next_request(html)


def test_a_run_that_is_taken_while_its_page_is_made_is_shown_as_running(member, app, run, monkeypatch):
    """Else its head would say that it waits until the next step begins."""
    number = run.id

    def begun_meanwhile(directory):
        def take():
            with app.app_context():
                start(db.session.get(type(run), number))

        if not (directory / "output.log").exists():
            thread = threading.Thread(target=take)
            thread.start()
            thread.join()
        return Output(directory)

    monkeypatch.setattr(views, "Output", begun_meanwhile)
    db.session.remove()
    html = page(member, run)
    assert 'data-run-state="running"' in html
    assert "data-elapsed" in html


def test_a_running_one_shows_its_lines_numbered_by_step(member, run):
    start(run, b"hello\n\x1b[31m<b>red</b>\n")
    html = page(member, run)
    assert anchors(html) == ["step-1-L1", "step-1-L2"]
    assert text_of(html, "step-1-L2") == '<span class="a-fg1">&lt;b&gt;red&lt;/b&gt;</span>'
    assert "offset=" in next_request(html)
    assert "style=f1" in next_request(html)


def test_nothing_in_the_page_is_against_the_policy(member, run):
    start(run, b"\x1b[38;2;1;2;3mhello\n")
    html = page(member, run)
    assert not re.search(r"<script(?![^>]*src=)|\sstyle=|\son[a-z]+=", html)


def test_a_fragment_waits_for_output_and_carries_the_next_request(member, app, run):
    begun = start(run, b"one\nunfin")
    html = page(member, run)
    assert anchors(html) == ["step-1-L1", "step-1-L2"]
    directory = begun.directory

    def grow():
        with (directory / "output.log").open("ab") as file:
            file.write(b"ished\nthree\n")

    timer = threading.Timer(0.1, grow)
    timer.start()
    began = time.monotonic()
    fragment = member.get(next_request(html), headers=HTMX).text
    assert 0.05 < time.monotonic() - began < 5
    timer.join()
    assert 'hx-target="#step-1-open"' in fragment
    assert anchors(fragment) == ["step-1-L2", "step-1-L3"]
    assert text_of(fragment, "step-1-L2") == "unfinished"
    assert "<html" not in fragment
    assert next_request(fragment) != next_request(html)


def test_colours_go_on_from_fragment_to_fragment(member, run):
    begun = start(run, b"\x1b[1;32mgreen\n")
    address = next_request(page(member, run))
    write(begun, b"still\n\x1b[0m")
    fragment = member.get(address, headers=HTMX).text
    assert text_of(fragment, "step-1-L2") == '<span class="a-fg2 a-bold">still</span>'
    write(begun, b"plain\n")
    fragment = member.get(next_request(fragment), headers=HTMX).text
    assert text_of(fragment, "step-1-L3") == "plain"


def test_an_unfinished_line_keeps_the_colour_it_began_with(member, run):
    begun = start(run, b"\x1b[31mred\n\x1b[0mpla")
    address = next_request(page(member, run))
    write(begun, b"in\n")
    fragment = member.get(address, headers=HTMX).text
    assert text_of(fragment, "step-1-L2") == "plain"


def test_a_new_step_comes_with_its_lines(member, run):
    begun = start(run, b"one\nno newline")
    address = next_request(page(member, run))
    note(begun, "step_finished", 1, exit_code=0, duration=1.2)
    note(begun, "step_started", 2, line="echo two")
    write(begun, b"two\n")
    fragment = member.get(address, headers=HTMX).text
    assert re.findall(r'hx-target="([^"]*)"', fragment) == [
        "#step-1-open",
        "#step-1-head",
        "#step-2",
        "#log-status",
        "#log-said",
    ]
    assert anchors(fragment) == ["step-1-L2", "step-2-L1"]
    assert "1.2 s" in fragment


def test_a_chatty_command_leaves_a_gap_and_the_last_lines(member, run):
    begun = start(run, b"first\n")
    address = next_request(page(member, run))
    write(begun, b"".join(b"%d\n" % n for n in range(2, 10_001)))
    fragment = member.get(address, headers=HTMX).text
    assert anchors(fragment)[0] == "step-1-L9001"
    assert len(anchors(fragment)) == 1000
    assert 'data-first="2" data-last="9000"' in fragment
    assert "delay:200ms" not in next_request(fragment)


def test_the_poller_ends_itself_with_a_clear_ending(member, run):
    begun = start(run, b"out\n")
    address = next_request(page(member, run))
    end(begun, result(0, 3))
    fragment = member.get(address, headers=HTMX).text
    assert next_request(fragment) is None
    assert "Step 2 ended with exit code 3." in fragment
    assert "data-run-ended" in fragment
    assert "submit it again" in fragment
    html = page(member, run)
    assert next_request(html) is None
    assert "Step 2 ended with exit code 3." in html


def test_steps_that_were_not_reached_say_so(member, run):
    begun = start(run, b"out\n")
    end(begun, result(1))
    assert "not run" in page(member, run)


def test_the_result_is_waited_for_until_the_worker_has_written_it_down(member, app, run):
    begun = start(run, b"out\n")
    run_id, fence, left = begun.id, begun.fence, result(0, 0)
    address = next_request(page(member, run))
    leave(begun, left)
    timer = threading.Timer(0.1, finish_by_worker, (app, run_id, fence, left))
    timer.start()
    fragment = member.get(address, headers=HTMX).text
    timer.join()
    assert next_request(fragment) is None
    assert "Succeeded" in fragment


def test_a_page_opens_at_the_last_thousand_lines(member, run):
    begun = start(run, b"".join(b"%d\n" % n for n in range(1, 5001)))
    note(begun, "step_finished", 1, exit_code=0, duration=1)
    note(begun, "step_started", 2)
    write(begun, b"".join(b"%d\n" % n for n in range(1, 101)))
    html = page(member, run)
    shown = anchors(html)
    assert (shown[0], shown[-1], len(shown)) == ("step-1-L4101", "step-2-L100", 1000)
    assert 'data-first="1" data-last="4100"' in html


@pytest.mark.parametrize(
    ("at", "first", "last", "gaps"),
    [
        (1, 1, 500, [(501, 4000)]),
        (4000, 3501, 4000, [(1, 3500)]),
        (2000, 1750, 2249, [(1, 1749), (2250, 4000)]),
        (99999, 3501, 4000, [(1, 3500)]),
    ],
)
def test_a_gap_is_filled_from_its_beginning_its_end_or_around_a_line(member, run, at, first, last, gaps):
    start(run, b"".join(b"line %d\n" % n for n in range(1, 5001)))
    answer = member.get(
        f"/runs/{run.id}/log", query_string={"step": 1, "from": 1, "to": 4000, "at": at}, headers=HTMX
    )
    shown = anchors(answer.text)
    assert (shown[0], shown[-1]) == (f"step-1-L{first}", f"step-1-L{last}")
    assert text_of(answer.text, shown[0]) == f"line {first}"
    assert re.findall(r'class="gap" data-first="(\d+)" data-last="(\d+)"', answer.text) == [
        (str(a), str(b)) for a, b in gaps
    ]


def test_a_link_to_a_line_works_without_javascript(member, run):
    start(run, b"".join(b"line %d\n" % n for n in range(1, 5001)))
    html = page(member, run, step=1, line=1234)
    assert text_of(html, "step-1-L1234") == "line 1234"
    assert len(anchors(html)) == 500


@pytest.mark.parametrize(
    "arguments",
    [
        {"offset": "-1"},
        {"offset": "x"},
        {"size": "1" * 20},
        {"style": "f999"},
        {"style": "<b>"},
        {"events": "٣"},
    ],
)
def test_a_place_that_is_none_is_refused(member, run, arguments):
    assert member.get(f"/runs/{run.id}/log", query_string=arguments, headers=HTMX).status_code == 400


def test_a_place_behind_the_end_is_no_error(member, run):
    begun = start(run, b"x\n")
    end(begun, result(0, 0))
    answer = member.get(
        f"/runs/{run.id}/log", query_string={"offset": 10**9, "size": 10**9, "known": 1}, headers=HTMX
    )
    assert answer.status_code == 200
    assert (
        member.get(f"/runs/{run.id}/log", query_string={"step": 9, "at": 1}, headers=HTMX).status_code == 404
    )


def test_search_gives_steps_and_lines(member, run):
    start(run, b"alpha\nbeta\nAl\x1b[1mpha <i>\n")
    found = page(member, run, "/search", q="alpha")
    assert re.findall(r'data-log-line="([^"]*)"', found) == ["step-1-L1", "step-1-L3"]
    assert "<mark>Alpha</mark> &lt;i&gt;" in found
    assert "<html" in found
    fragment = member.get(f"/runs/{run.id}/search", query_string={"q": "nowhere"}, headers=HTMX).text
    assert "Nothing in the output matches" in fragment
    assert "<html" not in fragment


def test_search_says_that_there_is_more(member, run):
    start(run, b"hit\n" * 300)
    fragment = member.get(f"/runs/{run.id}/search", query_string={"q": "hit"}, headers=HTMX).text
    assert fragment.count("data-log-line") == 200
    assert "More than 200 lines" in fragment


def test_the_download_is_byte_for_byte(member, run):
    content = bytes(range(256)) * 10_000 + b"<script>alert(1)</script>"
    begun = start(run, content)
    end(begun, result(0, 0))
    answer = member.get(f"/runs/{run.id}/output.txt")
    assert answer.data == content
    assert answer.content_type.startswith("text/plain")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert "Content-Encoding" not in answer.headers


@pytest.mark.parametrize("path", ["", "/log", "/status", "/search?q=x", "/output.txt"])
def test_a_run_is_only_there_for_those_who_see_its_ticket(client, run, path):
    sign_in(client, mallory())
    assert client.get(f"/runs/{run.id}{path}", headers=HTMX).status_code == 404


@pytest.mark.parametrize("path", ["", "/log", "/status", "/search?q=x", "/output.txt"])
def test_a_run_that_never_was_is_not_found(member, path):
    assert member.get(f"/runs/99999{path}", headers=HTMX).status_code == 404


@pytest.mark.parametrize("path", ["", "/log", "/status", "/search?q=x", "/output.txt"])
def test_who_is_not_signed_in_sees_nothing(client, run, path):
    assert client.get(f"/runs/{run.id}{path}", headers=HTMX).status_code == 401


@pytest.mark.parametrize("path", ["", "/status", "/search?q=x", "/output.txt"])
def test_who_sees_every_ticket_sees_every_run(client, run, path):
    sign_in(client, root())
    assert client.get(f"/runs/{run.id}{path}").status_code == 200


def test_a_run_without_output_and_files_is_no_error(member, run):
    begun = begin(run)
    end(begun, result(0, 0))
    for path in ("", "/log", "/status", "/output.txt"):
        assert member.get(f"/runs/{run.id}{path}", headers=HTMX).status_code == 200


def test_the_connection_is_given_back_while_a_fragment_waits(member, app, run):
    begun = start(run, b"x\n")
    address, directory = next_request(page(member, run)), begun.directory
    db.session.remove()
    seen = []

    def look():
        seen.append((tails().waiting, db.engine.pool.checkedout()))
        with (directory / "output.log").open("ab") as file:
            file.write(b"y\n")

    def in_context():
        with app.app_context():
            look()

    timer = threading.Timer(0.2, in_context)
    timer.start()
    member.get(address, headers=HTMX)
    timer.join()
    assert seen == [(1, 0)]


def test_too_many_watchers_are_answered_at_once_and_ask_later(member, run):
    start(run, b"x\n")
    address = next_request(page(member, run))
    tails().limit = 0
    began = time.monotonic()
    fragment = member.get(address, headers=HTMX).text
    assert time.monotonic() - began < 2
    assert "delay:1000ms" in fragment
    assert "Many people are watching" in fragment


def test_a_tickets_pane_goes_on_with_the_main_task(client, context):
    ticket = make_ticket(alice(), make_workorder(pre_task="echo pre", main_task="echo main"))
    sign_in(client, alice())
    begun = begin(run_of(ticket, "pre"))
    note(begun, "step_started", 1, task="pre")
    write(begun, b"prepared\n")
    html = client.get(f"/tickets/{ticket.id}").text
    assert anchors(html) == ["pre-step-1-L1"]
    end(begun, result(0, task="pre"))
    fragment = client.get(next_request(html), headers=HTMX).text
    assert "The main task follows." in fragment
    main = run_of(ticket)
    assert f'id="run-{main.id}"' in fragment
    assert next_request(fragment).startswith(f"/runs/{main.id}/log")
    assert "data-run-ended" not in fragment
    html = client.get(f"/tickets/{ticket.id}").text
    assert anchors(html) == ["pre-step-1-L1"]
    assert 'id="step-1"' in html


def test_a_pane_of_a_failed_pre_task_ends_there(client, context):
    ticket = make_ticket(alice(), make_workorder(pre_task="false"))
    sign_in(client, alice())
    begun = begin(run_of(ticket, "pre"))
    note(begun, "step_started", 1, task="pre")
    html = client.get(f"/tickets/{ticket.id}").text
    end(begun, result(1, task="pre"))
    fragment = client.get(next_request(html), headers=HTMX).text
    assert "The pre task failed" in fragment
    assert next_request(fragment) is None


def test_the_usual_time_is_that_of_earlier_successes(client, context):
    order = make_workorder()
    sign_in(client, alice())
    for _ in range(3):
        end(begin(run_of(make_ticket(alice(), order))), result(0))
    begun = begin(run_of(make_ticket(alice(), order)))
    status = client.get(f"/runs/{begun.id}/status").text
    assert "usually 1.5 s" in status
    assert "<progress" in status


def test_the_pane_speaks_chinese_where_it_is_translated_and_never_breaks(member, run):
    start(run, b"out\n")
    html = member.get(f"/runs/{run.id}", headers={"Accept-Language": "zh-CN"}).text
    assert 'lang="zh-CN"' in html
