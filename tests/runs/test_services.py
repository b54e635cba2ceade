"""`runs.services` and `runs.status`: what may happen to a run, and what follows for its ticket."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest
import sqlalchemy as sa
from flask import Flask

from skstack.accounts.models import Page, User
from skstack.audit.models import AuditEvent
from skstack.db import db, transaction
from skstack.errors import Conflict, NotAllowed
from skstack.extensions import queue
from skstack.messages import N_
from skstack.runner.client import RunnerProcess
from skstack.runner.protocol import Outcome, Result
from skstack.runs import services, status
from skstack.runs.models import Run, Step
from skstack.states import RunState, TicketStatus
from skstack.tickets.models import Ticket
from tests.factories import alice, make_user, mallory, root
from tests.fake_runner import begin, end, make_worker, result, run_of
from tests.orders import make_ticket, make_workorder

pytestmark = [pytest.mark.both_databases, pytest.mark.usefixtures("context")]


@pytest.fixture
def ticket(context: Flask) -> Ticket:
    return make_ticket(alice(), make_workorder(main_task="one\ntwo", post_task="three"))


@pytest.fixture
def signalled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the names of the directories whose runner was told to stop; every run has one."""
    told: list[str] = []

    class Process:
        def __init__(self, directory: object) -> None:
            self._directory = directory

        def stop(self) -> None:
            told.append(str(self._directory).rpartition("/")[2])

    monkeypatch.setattr(RunnerProcess, "adopt", Process)
    return told


def events(action: str) -> list[AuditEvent]:
    db.session.expire_all()
    return list(
        db.session.scalars(sa.select(AuditEvent).where(AuditEvent.action == action).order_by(AuditEvent.id))
    )


# --- claiming


def test_a_queued_run_is_claimed_once(ticket: Ticket) -> None:
    run, worker = run_of(ticket), make_worker()
    with transaction():
        claimed = status.claim(run.id, worker_id=worker.id, start_before=5.0)
    assert claimed is run
    assert (run.state, run.fence, run.worker_id, run.start_before) == ("running", 1, worker.id, 5.0)
    assert run.started_at is not None
    with transaction():
        assert status.claim(run.id, worker_id=worker.id, start_before=5.0) is None
    assert [event.changes["after"] for event in events("run.state_changed")] == ["running"]


def test_of_twenty_claims_at_once_one_holds(context: Flask, ticket: Ticket) -> None:
    run_id, workers = run_of(ticket).id, [make_worker().id for _ in range(20)]
    db.session.commit()
    barrier = threading.Barrier(20)

    def claim(worker_id: int) -> bool:
        with context.app_context():
            barrier.wait(20)
            with transaction():
                return status.claim(run_id, worker_id=worker_id, start_before=1.0) is not None

    with ThreadPoolExecutor(20) as pool:
        claimed = list(pool.map(claim, workers))
    assert claimed.count(True) == 1
    run = run_of(ticket)
    assert run.worker_id == workers[claimed.index(True)]
    assert run.fence == 1


# --- ending by what the runner left

STOPPED = result(0, outcome=Outcome.STOPPED, reason=N_("Stopped."))
ENDINGS: dict[str, tuple[Result | None, RunState, int | None, TicketStatus]] = {
    "all went well": (result(0, 0, 0), RunState.SUCCEEDED, 0, TicketStatus.SUCCEEDED),
    "the second failed": (result(0, 7), RunState.FAILED, 7, TicketStatus.FAILED),
    "stopped": (STOPPED, RunState.STOPPED, None, TicketStatus.FAILED),
    "timed out": (
        result(0, outcome=Outcome.TIMED_OUT, reason=N_("Too slow.")),
        RunState.FAILED,
        None,
        TicketStatus.FAILED,
    ),
    "refused": (
        result(outcome=Outcome.REFUSED, reason=N_("No such host.")),
        RunState.FAILED,
        None,
        TicketStatus.FAILED,
    ),
    "log full": (
        result(0, outcome=Outcome.LOG_FULL, reason=N_("Log full.")),
        RunState.FAILED,
        None,
        TicketStatus.FAILED,
    ),
    "lost": (
        result(0, outcome=Outcome.LOST, reason=N_("Connection lost.")),
        RunState.UNKNOWN,
        None,
        TicketStatus.UNKNOWN,
    ),
    "nothing left": (None, RunState.UNKNOWN, None, TicketStatus.UNKNOWN),
}


@pytest.mark.parametrize(("left", "state", "exit_code", "followed"), ENDINGS.values(), ids=ENDINGS)
def test_what_the_runner_left_ends_run_and_ticket(
    ticket: Ticket, left: Result | None, state: RunState, exit_code: int | None, followed: TicketStatus
) -> None:
    run = begin(run_of(ticket))
    services.end_by_result(run.id, fence=run.fence, result=left)
    db.session.expire_all()
    assert (run.run_state, run.exit_code, ticket.state) == (state, exit_code, followed)
    assert run.finished_at is not None
    assert ticket.finished_at is not None
    change = ticket.history[-1]
    assert (change.before, change.after, change.reason) == ("running", followed, run.reason)
    if left is not None:
        assert run.reason_message == left.reason
        assert (run.duration, run.output_bytes, run.stored_bytes) == (1.5, len(left.steps), len(left.steps))
        assert [(step.position, step.line, step.exit_code) for step in run.steps] == [
            (step.position, (1, 2, 1)[number], step.exit_code) for number, step in enumerate(left.steps)
        ]
    assert [event.changes["after"] for event in events("run.state_changed")] == ["running", state]
    assert [event.changes["after"] for event in events("ticket.status_changed")] == [followed]


def test_a_pre_task_that_went_well_is_followed_by_the_main_task(monkeypatch: pytest.MonkeyPatch) -> None:
    rung: list[int] = []
    monkeypatch.setattr(queue, "ring", lambda name, run_id: rung.append(run_id))
    ticket = make_ticket(alice(), make_workorder(pre_task="check"))
    end(begin(run_of(ticket, "pre")), result(0, task="pre"))
    main = run_of(ticket)
    assert (ticket.state, main.state) == (TicketStatus.RUNNING, "queued")
    assert rung == [run_of(ticket, "pre").id, main.id]
    assert end(begin(main)) is RunState.SUCCEEDED
    assert ticket.state is TicketStatus.SUCCEEDED


def test_a_pre_task_that_failed_is_followed_by_nothing() -> None:
    ticket = make_ticket(alice(), make_workorder(pre_task="check"))
    end(begin(run_of(ticket, "pre")), result(2, task="pre"))
    assert ticket.state is TicketStatus.FAILED
    assert [run.task for run in ticket.runs] == ["pre"]


def test_nothing_follows_a_pre_task_that_ended_well_but_was_asked_to_stop(signalled: list[str]) -> None:
    ticket = make_ticket(alice(), make_workorder(pre_task="check"))
    run = begin(run_of(ticket, "pre"))
    services.stop(ticket, actor=alice())
    end(run, result(0, task="pre"))
    assert (run.run_state, ticket.state) == (RunState.SUCCEEDED, TicketStatus.FAILED)
    assert [run.task for run in ticket.runs] == ["pre"]


def test_a_run_is_ended_once(ticket: Ticket) -> None:
    run = begin(run_of(ticket))
    fence = run.fence
    services.end_by_result(run.id, fence=fence, result=result(0))
    services.end_by_result(run.id, fence=fence, result=result(9))
    services.end_by_result(run.id, fence=fence + 1, result=result(9))
    db.session.expire_all()
    assert (run.state, run.exit_code, len(run.steps)) == ("succeeded", 0, 1)


def test_whoever_lost_the_run_writes_nothing(ticket: Ticket) -> None:
    run, other = begin(run_of(ticket)), make_worker()
    older = run.fence
    with transaction():
        assert status.take_over(run, worker_id=other.id)
    services.end_by_result(run.id, fence=older, result=result(0))
    services.refuse(run.id, fence=older, reason=N_("No."))
    services.lose(run.id, fence=older, reason=N_("No."))
    db.session.expire_all()
    assert (run.state, run.worker_id, run.fence, ticket.state) == ("running", other.id, older + 1, "running")
    assert db.session.scalar(sa.select(sa.func.count()).select_from(Step)) == 0
    services.end_by_result(run.id, fence=older + 1, result=result(0))
    db.session.expire_all()
    assert (run.state, ticket.state) == ("succeeded", "succeeded")


def test_a_run_is_taken_over_once(ticket: Ticket) -> None:
    run = begin(run_of(ticket))
    one, other = make_worker(), make_worker()
    with transaction():
        assert status.take_over(run, worker_id=one.id)
        assert not status.take_over(run, worker_id=other.id), "the object still carries the older fence"
    assert run_of(ticket).worker_id == one.id


def test_only_a_running_run_is_taken_over(ticket: Ticket) -> None:
    run = run_of(ticket)
    with transaction():
        assert not status.take_over(run, worker_id=make_worker().id)


def test_a_run_that_must_not_begin_fails_with_the_reason(ticket: Ticket) -> None:
    run = begin(run_of(ticket))
    services.refuse(run.id, fence=run.fence, reason=N_("The plan is another."))
    db.session.expire_all()
    assert (run.state, str(run.reason_message), ticket.state) == ("failed", "The plan is another.", "failed")


@pytest.mark.parametrize("running", [False, True])
def test_a_run_that_nobody_can_tell_of_is_unknown_with_the_reason(ticket: Ticket, running: bool) -> None:
    run = begin(run_of(ticket)) if running else run_of(ticket)
    services.lose(run.id, fence=run.fence, reason=N_("It was elsewhere."))
    db.session.expire_all()
    assert (run.state, str(run.reason_message), ticket.state) == ("unknown", "It was elsewhere.", "unknown")


def test_every_ending_is_made_or_refused_as_the_table_says(ticket: Ticket, subtests: pytest.Subtests) -> None:
    run = run_of(ticket)
    for before, after in product(RunState, repeat=2):
        with subtests.test(f"{before} to {after}"):
            with transaction():
                db.session.execute(sa.update(Run).values(state=before, fence=3))
            db.session.expire_all()
            allowed = after.is_final and before.may_become(after)
            with transaction():
                assert status.finish(run, after, fence=2) is False, "an older fence"
            with transaction():
                assert status.finish(run, after, fence=3) is allowed
            db.session.expire_all()
            assert (run.run_state, run.fence) == ((after, 4) if allowed else (before, 3))


# --- stopping


def test_a_queued_run_is_stopped_at_once(ticket: Ticket, signalled: list[str]) -> None:
    services.stop(ticket, actor=alice())
    db.session.expire_all()
    run = run_of(ticket)
    assert (run.state, str(run.reason_message)) == ("stopped", "Stopped by alice.")
    assert (ticket.state, ticket.history[-1].actor_id) == (TicketStatus.FAILED, alice().id)
    with transaction():
        assert status.claim(run.id, worker_id=make_worker().id, start_before=1.0) is None
    assert signalled == []
    assert [event.actor for event in events("run.stop_asked")] == ["alice"]


def test_a_running_run_is_asked_to_stop_and_ends_as_its_runner_says(
    ticket: Ticket, signalled: list[str]
) -> None:
    run = begin(run_of(ticket))
    services.stop(ticket, actor=root())
    db.session.expire_all()
    assert (run.state, ticket.state, run.stop_asked_by_id) == ("running", "running", root().id)
    assert run.stop_asked_at is not None
    assert signalled == [str(run.id)]
    assert end(run, STOPPED) is RunState.STOPPED
    assert str(run.reason_message) == "Stopped by root."
    assert ticket.state is TicketStatus.FAILED


def test_a_run_that_ends_well_before_the_stop_reaches_it_has_succeeded(
    ticket: Ticket, signalled: list[str]
) -> None:
    run = begin(run_of(ticket))
    services.stop(ticket, actor=alice())
    assert end(run, result(0, 0, 0)) is RunState.SUCCEEDED
    assert ticket.state is TicketStatus.SUCCEEDED


def test_asking_twice_keeps_who_asked_first(ticket: Ticket, signalled: list[str]) -> None:
    run = begin(run_of(ticket))
    services.stop(ticket, actor=alice())
    db.session.expire_all()
    first = run.stop_asked_at
    services.stop(ticket, actor=root())
    db.session.expire_all()
    assert (run.stop_asked_at, run.stop_asked_by_id) == (first, alice().id)
    assert len(signalled) == 2, "a signal that was lost is sent again"


def test_only_the_submitter_and_superusers_may_stop(ticket: Ticket, signalled: list[str]) -> None:
    for actor in (mallory(), make_user(pages=[Page.AUDIT, Page.EXECUTE])):
        with pytest.raises(NotAllowed):
            services.stop(ticket, actor=actor)
    assert run_of(ticket).state == "queued"
    assert events("run.stop_asked") == []


def test_what_does_not_run_cannot_be_stopped(ticket: Ticket, signalled: list[str]) -> None:
    end(begin(run_of(ticket)))
    with pytest.raises(Conflict, match="Succeeded"):
        services.stop(ticket, actor=alice())
    assert events("run.stop_asked") == []


def test_a_stop_waits_a_moment_for_a_runner_that_is_just_being_started(
    ticket: Ticket, signalled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(run_of(ticket))
    adopt: Callable[[object], object] = RunnerProcess.adopt
    answers = [lambda directory: None, lambda directory: None, adopt]

    def answer(directory: object) -> object:
        return answers.pop(0)(directory)

    monkeypatch.setattr(RunnerProcess, "adopt", answer)
    services.stop(ticket, actor=alice())
    assert len(signalled) == 1


def test_a_stop_while_the_pre_task_ends_is_not_lost(
    context: Flask, signalled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = make_ticket(alice(), make_workorder(pre_task="check"))
    run, actor_id = begin(run_of(ticket, "pre")), alice().id
    db.session.commit()
    ending, stopping = services._ending, []

    def stop() -> None:
        with context.app_context():
            mine = db.session.get_one(Ticket, ticket.id)
            services.stop(mine, actor=db.session.get_one(User, actor_id))

    def meanwhile(*args: object) -> object:
        stopping.append(pool.submit(stop))
        time.sleep(0.3)  # The stop is asked for now, and cannot have an effect before this transaction ends.
        return ending(*args)

    monkeypatch.setattr(services, "_ending", meanwhile)
    with ThreadPoolExecutor(1) as pool:
        services.end_by_result(run.id, fence=run.fence, result=result(0, task="pre"))
        stopping[0].result(10)
    db.session.expire_all()
    assert ticket.state is TicketStatus.FAILED
    assert [one.state for one in ticket.runs] == ["succeeded", "stopped"]


def test_of_a_stop_and_an_end_at_once_one_decides(context: Flask, signalled: list[str]) -> None:
    tickets = [make_ticket(alice()) for _ in range(8)]
    runs = [begin(run_of(ticket)) for ticket in tickets]
    actor_id = alice().id
    db.session.commit()

    def stop(ticket_id: int) -> str:
        with context.app_context():
            mine = db.session.get_one(Ticket, ticket_id)
            try:
                services.stop(mine, actor=db.session.get_one(User, actor_id))
            except Conflict:
                return "refused"
            return "asked"

    def finish(run_id: int) -> None:
        with context.app_context():
            services.end_by_result(run_id, fence=1, result=result(0))

    with ThreadPoolExecutor(16) as pool:
        ended = [pool.submit(finish, run.id) for run in runs]
        answers = list(pool.map(stop, [ticket.id for ticket in tickets]))
        for one in ended:
            one.result()
    db.session.expire_all()
    for ticket, run, answer in zip(tickets, runs, answers, strict=True):
        assert (run.state, ticket.state) == ("succeeded", "succeeded")
        assert (run.stop_asked_at is not None) is (answer == "asked")
        assert len(ticket.history) == 2
