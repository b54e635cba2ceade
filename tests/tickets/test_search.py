"""What a search finds: words from their beginning, any part of a sentence without spaces, numbers; never a secret."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import pytest
import sqlalchemy as sa
from flask import Flask
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from skstack.db import execute, transaction
from skstack.extensions import db
from skstack.tickets import search
from skstack.tickets.models import Ticket
from skstack.tickets.words import UNSPACED
from tests.factories import alice, root
from tests.orders import list_variable, make_ticket, make_variable, make_workorder

pytestmark = pytest.mark.both_databases


def found(typed: str) -> list[int]:
    """Search, and return the numbers: the same whether these tickets are few or many, and whether a list is newest first."""
    answers = []
    for few in (5000, 1, 0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(search, "FEW", few)
            statement = sa.select(Ticket.id).where(search.found_by(typed)).order_by(Ticket.id)
            answers.append(list(db.session.scalars(statement)))
            for below, limit in ((None, 1), (3, 1), (3, 50)):
                expected = [number for number in reversed(answers[0]) if number < (below or 9)][: limit + 1]
                assert newest(typed, below, limit) == expected
    assert answers[0] == answers[1] == answers[2], "few and many are found differently"
    return answers[0]


def newest(typed: str, below: int | None, limit: int) -> list[int]:
    """Search, and return the newest numbers, one more than `limit`."""
    everything = sa.select(Ticket).where(Ticket.status != "nothing")
    fits = search.newest_found_by(typed, among=everything, below=below, limit=limit)
    page = everything.where(fits, Ticket.id < (below or 9)).order_by(Ticket.id.desc()).limit(limit + 1)
    return [ticket.id for ticket in db.session.scalars(page)]


# The names of plugins' files have the time in them, so what is looked for must not be the beginning of one.
FINDS = [
    # Ticket 1 is of `deploy-app77_prod`, by alice.
    ("deploy", [1]),
    ("DEPLOY", [1]),
    ("dep", [1]),
    ("app77", [1]),
    ("app77_prod", [1]),
    ("deploy-app77_prod", [1]),
    ("app77 deploy", [1]),
    ("app 77", [1]),
    ("77", [1]),
    ("eploy", []),
    ("app-77", []),
    ("app77 nothing", []),
    ("alice", [1, 3]),
    # Ticket 2 is of `发布支付服务`, with the note `修复支付回调超时问题, see CHG-1234`, and a version.
    ("发布", [2]),
    ("支付", [2]),
    ("布支付服", [2]),
    ("回调超时", [2]),
    ("务", [2]),
    ("超", [2]),
    ("题", [2]),
    ("支付 超时", [2]),
    ("付发", []),
    ("支付超时", []),
    ("服务修复", []),
    ("chg-1234", [2]),
    ("CHG-12", [2]),
    ("CHG-2", []),
    ("1.20.3", [2]),
    ("1.20", [2]),
    ("1.3", []),
    ("20.3", [2]),
    ("largest größe", [2]),
    ("gross", []),
    ("ｌａｒｇｅｓｔ", [2]),
    ("🎉", [2]),
    # Ticket 3 is of `CleanLogs`, with hosts and a secret.
    ("logs", [3]),
    ("cleanlogs", [3]),
    ("web7", [3]),
    ("web7 web9", [3]),
    ("web7,web9", []),
    ("rotate.sh", [3]),
    ("Hosts", [3]),
    ("hunter2", []),
    ("hunter", []),
    # Numbers, with and without the sign; as a number, and as a word.
    ("#2", [2]),
    ("2", [2]),
    ("1", [1, 2]),
    ("999", []),
    ("#1234", [2]),
    ("9" * 30, []),
    # What means something to the databases, and what is nothing at all.
    ("", []),
    ("%", []),
    ("_", []),
    ("*", []),
    ('"', []),
    ("'", []),
    ("\\", []),
    ("-", []),
    ("()", []),
    ("\0", []),
    ("\ud800", []),
    ("app77*", [1]),
    ('"app77"', [1]),
    ("'app77'", [1]),
    ("-app77", [1]),
    ("app77:*", [1]),
    ("app77\0", [1]),
    ("words:app77", []),
    ("app77 OR nothing", []),
    ("NOT nothing", []),
    ("app77 & !deploy", [1]),
    ("NEAR(app77 deploy)", []),
    ("app77 " * 100, [1]),
    ("发" * 500, []),
    ("x" * 500, []),
]


def test_what_is_found(context: Flask, subtests: pytest.Subtests) -> None:
    make_ticket(alice(), make_workorder("deploy-app77_prod"))
    make_ticket(
        root(),
        make_workorder("发布支付服务", variables=[make_variable("Version")]),
        note="修复支付回调超时问题, see CHG-1234\nlargest Größe 🎉",
        values={"Version": "1.20.3"},
    )
    logs = make_workorder(
        "CleanLogs",
        variables=[
            list_variable("Hosts", "web7", "web8", "web9", widget="checkboxes"),
            make_variable("Pin", secret=True),
        ],
        main_task="rotate.sh {Hosts}",
    )
    made = make_ticket(alice(), logs, values={"Hosts": ["web7", "web9"], "Pin": "hunter2"})
    file = made.task_name_created
    for typed, numbers in [*FINDS, (file, [3]), (f"report.{file}.log", []), (file[:-3], [3])]:
        with subtests.test(ascii(typed[:40])):
            assert found(typed) == numbers


_ALPHABET = "abA12 -_.'\"*\\发布服éßİ🎉\n"
_TEXTS = st.text(st.sampled_from(_ALPHABET), max_size=12) | st.text(max_size=12).filter(
    # No database takes these, and no form.
    lambda text: not any(character == "\0" or unicodedata.category(character) == "Cs" for character in text)
)
_TYPED = st.text(st.sampled_from(_ALPHABET), max_size=6) | st.text(max_size=12)


@pytest.fixture
def three(context: Flask) -> None:
    """Have three tickets, the texts of which a test chooses."""
    order = make_workorder("x")
    for _ in range(3):
        make_ticket(alice(), order)


@example(documents=[["ß1"], [], []], typed="ß")  # One letter, which is two when case is folded.
@given(documents=st.lists(st.lists(_TEXTS, max_size=3), min_size=3, max_size=3), typed=_TYPED)
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.usefixtures("three")
def test_every_search_finds_what_a_look_at_the_texts_finds(documents: list[list[str]], typed: str) -> None:
    dialect = db.engine.dialect.name
    empty = {
        "sqlite": "INSERT INTO ticket_search (ticket_search) VALUES ('delete-all')",
        "postgresql": "DELETE FROM ticket_search",
    }
    with transaction():
        execute(sa.text(empty[dialect]), {})
        execute(
            search.WRITE[dialect],
            [search.row(dialect, number, texts) for number, texts in enumerate(documents, 1)],
        )
    expected = [
        number
        for number, texts in enumerate(documents, 1)
        if _looks_found(texts, typed) or typed.strip() in (str(number), f"#{number}")
    ]
    assert found(typed) == expected


def _looks_found(texts: Sequence[str], typed: str) -> bool:
    """Say the same as the search, but by looking through the texts: slowly, and without splitting anything into pairs."""
    chunks = [chunk for chunk in map(_bars, unicodedata.normalize("NFKC", typed).split()) if chunk != "|"]
    return bool(chunks) and all(any(_has(text, chunk.strip("|")) for text in texts) for chunk in chunks)


def _has(text: str, chunk: str) -> bool:
    """Say whether a text has a chunk from where a word begins on; what is no Latin word has no such place."""
    before = "" if _is_unspaced(chunk[0]) else r"\|"
    after = r"\|" if _is_unspaced(chunk[-1]) is False and len(chunk.rpartition("|")[2]) == 1 else ""
    if re.search(before + re.escape(chunk) + after, _bars(text)):
        return True
    if "|" in chunk or _is_unspaced(chunk[0]):
        return False
    # Within a word only a number or a capital begins something.
    spelled = unicodedata.normalize("NFKC", text)
    places = re.finditer(r"(?<=[^\W\d_])(?=\d)|(?<=[a-z])(?=[A-Z])", spelled)
    rests = [_bars(spelled[place.start() :]) for place in places]
    return any(re.match(r"\|" + re.escape(chunk) + after, rest) for rest in rests)


def _bars(text: str) -> str:
    """Write a text as `|word|word|`, a row of characters without spaces between them being one word."""
    written, kind = "|", None
    for character in unicodedata.normalize("NFKC", text):
        category = unicodedata.category(character)
        new = None if category[0] not in "LMN" and category != "So" else _is_unspaced(character)
        if new != kind and not written.endswith("|"):
            written += "|"
        if new is not None:
            written += character if new else character.casefold()
        kind = new
    return written.rstrip("|") + "|"


def _is_unspaced(character: str) -> bool:
    return re.match(f"[{UNSPACED}]", character) is not None
