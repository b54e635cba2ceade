"""Finding tickets by what stands in them, among a million: what is written for it, and the one question that is asked.

Each ticket has one row in `ticket_search`, with the words of `skstack.tickets.words`: an FTS5 table on SQLite, on
PostgreSQL a table with a tsvector. Both are made and read by statements of their own, since neither is what a model can
describe. `docs/decisions/0012-search.md` says why it is like this.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from skstack.db import execute
from skstack.extensions import db
from skstack.tickets.models import Ticket
from skstack.tickets.words import MOST, Phrase, parts, phrases, words

# As many tickets as are taken for few: these are found first, and then whatever else is asked of them costs little.
FEW = 2000
_PLAN_LENGTH = 4000
# Stands between two texts, so that nothing is found that begins in one and ends in the next. It is in no word.
_BETWEEN = "\u2063"

WRITE = {
    "sqlite": sa.text("INSERT INTO ticket_search (rowid, words, parts) VALUES (:id, :words, :parts)"),
    "postgresql": sa.text(
        "INSERT INTO ticket_search (ticket_id, words) VALUES (:id, CAST(:words AS tsvector))"
    ),
}
_FIRST = {
    "sqlite": sa.text(
        "SELECT rowid FROM ticket_search WHERE ticket_search MATCH :wanted AND rowid < :below"
        " ORDER BY rowid DESC LIMIT :most"
    ),
    "postgresql": sa.text(
        "SELECT ticket_id FROM ticket_search WHERE words @@ CAST(:wanted AS tsquery) LIMIT :most"
    ),
}
# On SQLite all are found at once, and kept for as long as the statement runs: to ask for each takes much longer. The plus
# keeps it from walking through what was found instead of the index of the order.
_FITS = {
    "sqlite": "+tickets.id IN (SELECT rowid FROM ticket_search WHERE ticket_search MATCH :wanted)",
    "postgresql": "tickets.id IN (SELECT ticket_id FROM ticket_search WHERE words @@ CAST(:wanted AS tsquery))",
}
# The same or the number: within the list, since both take long for "or" beside it.
_FITS_OR_IS = {
    "sqlite": _FITS["sqlite"].removesuffix(")") + " UNION ALL SELECT :number)",
    "postgresql": _FITS["postgresql"].removesuffix(")") + " OR ticket_id = :number)",
}


def write(ticket: Ticket) -> None:
    """Make a new ticket, which has been flushed, one that can be found, within the transaction under way. One statement."""
    texts = texts_of(ticket.workorder_name, ticket.submitter_name, ticket.note, ticket.values, ticket.plan)
    dialect = db.engine.dialect.name
    execute(WRITE[dialect], row(dialect, ticket.id, texts))


def texts_of(
    workorder: str, submitter: str, note: str, values: Mapping[str, Any], plan: Mapping[str, Any]
) -> list[str]:
    """Return all texts that a ticket is found by. `values` has None for a secret: it is in none of them."""
    given = (value if isinstance(value, list) else [value] for value in values.values())
    return [
        workorder,
        submitter,
        note,
        *(text for texts in given for text in texts if text),
        # What plugins append to the names of their files.
        plan.get("environment", {}).get("WO_sk__task_name_created", ""),
        *_commands(plan),
    ]


def _commands(plan: Mapping[str, Any]) -> Iterable[str]:
    """Yield the commands as they were written, without their values, as far as there are not too many."""
    length = 0
    for source in dict.fromkeys(step["source"] for step in plan.get("steps", ())):
        length += len(source)
        if length > _PLAN_LENGTH:
            return
        yield source


def row(dialect: str, ticket_id: int, texts: Sequence[str]) -> dict[str, Any]:
    """Return what `ticket_search` keeps of a ticket."""
    found: list[str] = []
    for text in texts:
        if more := words(text):
            found += [_BETWEEN, *more] if found else more
    found = found[:MOST]
    further = set().union(*(parts(text) for text in texts)).difference(found)
    if dialect == "sqlite":
        return {"id": ticket_id, "words": " ".join(found), "parts": " ".join(sorted(further))}
    places: dict[str, list[str]] = {word: [] for word in sorted(further)}
    for place, word in enumerate(found, 1):
        if word != _BETWEEN:
            places.setdefault(word, []).append(str(place))
    # No word has anything that would end or escape a lexeme.
    written = (f"'{word}':{','.join(at)}" if at else f"'{word}'" for word, at in places.items())
    return {"id": ticket_id, "words": " ".join(written)}


def found_by(typed: str) -> sa.ColumnElement[bool]:
    """Return the condition that a ticket fits what somebody typed: its number, or all of these words. Needs a statement.

    That statement finds the first few. If there are no more, the condition is their numbers: any order and any other
    condition is quick with it.
    """
    wanted, number = phrases(typed), _number(typed)
    if not wanted:
        return sa.false() if number is None else Ticket.id == number
    dialect = db.engine.dialect.name
    query = _QUERIES[dialect](wanted)
    few = _first(dialect, query, most=FEW + 1)
    if len(few) <= FEW:
        return _among(dialect, few, number)
    return _fits(dialect, query, number)


def newest_found_by(
    typed: str, *, among: sa.Select[Any], below: int | None, limit: int
) -> sa.ColumnElement[bool]:
    """Return a condition for a list that is read newest first, from below a number: `found_by`, or one that is quicker.

    On SQLite, which finds the newest first, those are often enough for a page of `limit` and one more. `among` selects
    what the list has without the search. Needs up to two statements, `found_by` no more than that.
    """
    wanted, dialect = phrases(typed), db.engine.dialect.name
    if not wanted or dialect != "sqlite":
        return found_by(typed)
    number = _number(typed)
    query = _QUERIES[dialect](wanted)
    newest = _first(dialect, query, most=FEW + 1, below=below)
    quick = _among(dialect, newest, number)
    if len(newest) <= FEW:
        return quick
    page = among.where(quick) if below is None else among.where(quick, Ticket.id < below)
    page = page.with_only_columns(Ticket.id).distinct().limit(limit + 1)
    if (db.session.scalar(sa.select(sa.func.count()).select_from(page.subquery())) or 0) > limit:
        return quick
    return _fits(dialect, query, number)


def _number(typed: str) -> int | None:
    digits = typed.strip().removeprefix("#")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else None


def _first(dialect: str, query: str, *, most: int, below: int | None = None) -> Sequence[int]:
    """Return the numbers of the first tickets that fit: on SQLite of the newest, below a number if there is one."""
    if dialect == "sqlite":
        given = {"wanted": query, "below": below or 2**62, "most": most}
        return db.session.scalars(_FIRST[dialect], given).all()
    # From how often the single words occur it guesses how often they follow one another, and reads the whole table
    # where it guesses wrong. The index always takes less.
    db.session.execute(sa.text("SET LOCAL enable_seqscan TO off"))
    found = db.session.scalars(_FIRST[dialect], {"wanted": query, "most": most}).all()
    db.session.execute(sa.text("SET LOCAL enable_seqscan TO DEFAULT"))
    return found


def _among(dialect: str, numbers: Sequence[int], number: int | None) -> sa.ColumnElement[bool]:
    """Return the condition that a ticket has one of these numbers: as one parameter, since thousands take long to write."""
    few = [*numbers, *([] if number is None else [number])]
    if dialect == "sqlite":
        among = sa.text("tickets.id IN (SELECT value FROM json_each(:few))").bindparams(few=json.dumps(few))
    else:
        among = sa.text("tickets.id = ANY (CAST(:few AS integer[]))").bindparams(few=few)
    return sa.and_(among)


def _fits(dialect: str, query: str, number: int | None) -> sa.ColumnElement[bool]:
    """Return the condition that a ticket fits, or has the number."""
    # PostgreSQL chooses the way by how often the words occur. It has to see them: a plan for any words is a bad one.
    wanted = sa.bindparam("wanted", query, sa.String, literal_execute=dialect == "postgresql")
    if number is None:
        return sa.and_(sa.text(_FITS[dialect]).bindparams(wanted))
    return sa.and_(sa.text(_FITS_OR_IS[dialect]).bindparams(wanted, number=number))


def _for_sqlite(wanted: Sequence[Phrase]) -> str:
    """Write phrases for FTS5: within quotes only a quote would mean something, and no word has one."""
    written = (
        f'{"{words parts}" if len(one.words) == 1 else "words"} : "{" ".join(one.words)}"{" *" if one.begun else ""}'
        for one in wanted
    )
    return " AND ".join(written)


def _for_postgresql(wanted: Sequence[Phrase]) -> str:
    written = (
        " <-> ".join(f"'{word}'" for word in one.words) + (":*" if one.begun else "") for one in wanted
    )
    return " & ".join(f"({phrase})" for phrase in written)


_QUERIES = {"sqlite": _for_sqlite, "postgresql": _for_postgresql}
