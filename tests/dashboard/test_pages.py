"""The first page: what waits and runs, and whose numbers one sees."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from flask import Flask

from skstack.accounts.models import Page, User
from skstack.approvals.services import approve
from tests.factories import alice, bob, make_group, make_user, mallory, root, sign_in
from tests.fake_runner import begin, end, result, run_of
from tests.orders import make_flow, make_ticket, make_workorder


@pytest.fixture
def page(app: Flask) -> Callable[..., str]:
    """Give the first page as one of the cast sees it."""

    def open_as(who: Callable[[], User], query: str = "") -> str:
        client = app.test_client()
        with app.app_context():
            sign_in(client, who())
        response = client.get(f"/{query}")
        assert response.status_code == 200
        return response.text

    return open_as


@pytest.fixture
def tickets(app: Flask) -> None:
    """Leave tickets: one to approve, one to be run by Alice, one that runs, two that have ended."""
    with app.app_context():
        bob()
        flow = make_flow("leads")
        make_ticket(alice(), make_workorder("to-decide", approval_flow=flow, environment="PROD"))
        ready = make_ticket(alice(), make_workorder("to-run", approval_flow=flow))
        approve(ready, actor=bob())
        begin(run_of(make_ticket(alice(), make_workorder("busy"))))
        end(begin(run_of(make_ticket(alice(), make_workorder("ended-well")))))
        end(begin(run_of(make_ticket(root(), make_workorder("ended-badly")))), result(1))


def auditor() -> User:
    return make_user("audit", pages=[Page.AUDIT, Page.DASHBOARD])


def submitter() -> User:
    return make_user("only", groups=[make_group("ops")], pages=[Page.SUBMIT])


def parts(page: str) -> dict[str, str]:
    """Return the sections of a page by their headings."""
    found = re.split(r"<h2[^>]*>(.*?)</h2>", page)
    return dict(zip(found[1::2], found[2::2], strict=True))


def tiles(page: str) -> dict[str, str]:
    found = re.findall(r"<div><dt>(.*?)</dt><dd>(.*?)</dd></div>", page)
    return {name: re.sub(r"<[^>]+>", "", value).strip() for name, value in found}


@pytest.mark.usefixtures("tickets")
def test_first_stands_what_waits_for_one_and_what_runs(page: Callable[..., str]) -> None:
    of_alice, of_bob = parts(page(alice)), parts(page(bob))
    assert "to-run" in of_alice["Waits for me"]
    assert "to-decide" not in of_alice["Waits for me"]
    assert "to-decide" in of_alice["Running now"], "hers, under way"
    assert "to-decide" in of_bob["Waits for me"]
    assert "to-run" not in of_bob["Waits for me"]
    assert "busy" not in of_bob["Running now"], "another's ticket"
    assert "busy #" in re.sub(r"<[^>]+>", "", parts(page(auditor))["Running now"])
    assert "Nothing waits for you." in page(mallory)


@pytest.mark.usefixtures("tickets")
def test_everybodys_numbers_are_for_those_with_the_page(page: Callable[..., str]) -> None:
    shown = tiles(page(auditor))
    assert shown["Submitted"] == "5"
    assert shown["Succeeded"] == shown["Failed"] == "1"
    assert shown["Success rate"] == "50 %"
    assert (shown["Running now"], shown["Waiting now"]) == ("1", "2")
    assert (shown["Active work orders"], shown["Groups"]) == ("5", "2")


@pytest.mark.usefixtures("tickets")
def test_numbers_lead_to_the_list_only_for_those_who_may_see_it(page: Callable[..., str]) -> None:
    with_list, without = page(auditor), page(mallory)
    link = re.search(r'href="(/audit/tickets\?[^"]*status=failed[^"]*)"', with_list)
    assert link
    assert "from=" in link[1]
    assert "to=" in link[1]
    assert re.search(r'href="/audit/tickets\?[^"]*environment=PROD', with_list)
    assert "Everybody's tickets" in without
    assert "/audit/tickets?" not in without
    assert "ended-badly" in without, "a work order's numbers, but no ticket"
    assert not re.search(r"/tickets/\d", parts(without)["Everybody's tickets"])


@pytest.mark.usefixtures("tickets")
def test_without_the_page_one_sees_ones_own_numbers(app: Flask, page: Callable[..., str]) -> None:
    with app.app_context():
        only = submitter()
        make_ticket(only, make_workorder("mine"))
    mine = page(lambda: only)
    assert tiles(mine)["Submitted"] == "1"
    assert "Groups" not in tiles(mine)
    assert "Everybody" not in mine
    for foreign in ("ended-badly", "ended-well", "to-run"):
        assert foreign not in parts(mine)["My tickets in numbers"]
    assert re.search(r'href="/tickets\?[^"]*from=', mine)


def test_who_has_no_page_at_all_gets_no_numbers(page: Callable[..., str]) -> None:
    shown = page(lambda: make_user("nobody"))
    assert 'id="numbers"' not in shown
    assert "you have no role" in shown


@pytest.mark.usefixtures("tickets")
def test_the_period_is_chosen_in_the_address(page: Callable[..., str]) -> None:
    for query, chosen in (("", 30), ("?days=7", 7), ("?days=84", 84), ("?days=1000", 30), ("?days=x", 30)):
        current = re.search(r'href="/\?days=(\d+)#numbers" aria-current', page(root, query))
        assert current
        assert int(current[1]) == chosen


@pytest.mark.usefixtures("tickets")
def test_every_chart_says_what_it_is_and_has_its_table(page: Callable[..., str]) -> None:
    shown = page(root)
    charts = re.findall(r'<svg class="chart" role="img" aria-labelledby="(\S+) (\S+)"', shown)
    assert len(charts) == 7
    for title, text in charts:
        assert re.search(rf'<title id="{title}">[^<]+</title>', shown)
        assert re.search(rf'<desc id="{text}">[^<]+</desc>', shown)
    assert shown.count('<details class="chart-behind">') == len(charts)
    assert " style=" not in shown
