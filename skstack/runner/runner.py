"""One run, from its plan to its result, in a process of its own that outlives whoever asked for it."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from skstack.messages import N_, Message
from skstack.runner import log_reading, masking, processes, record, wire
from skstack.runner.log_protocol import LogRequest
from skstack.runner.protocol import (
    STEP_FINISHED,
    STEP_STARTED,
    Captured,
    CaptureRequest,
    LocalTarget,
    Outcome,
    Plan,
    PlanStep,
    Request,
    Result,
    SshTarget,
    StepResult,
    Task,
    target_from_json,
)
from skstack.runner.watch import LostError, RefusedError, Watch

Take = Callable[[memoryview], None]

_VALUE_NAME = re.compile(r"WO_\w+", re.ASCII)


class Transport(Protocol):
    """Where steps run: here, or on another host."""

    left_behind: int
    streams: int
    """How many streams a step's output comes in, which meet only here: 2 if standard error is one of its own."""

    def open(self) -> None:
        """Get ready for the first step, else RefusedError."""

    def run(self, step: PlanStep, takes: Sequence[Take]) -> int:
        """Run a step to its end; return its exit code, or raise LostError if it cannot be told."""

    def close(self) -> None:
        """Let go of what `open` took."""


def main(stream: socket.socket) -> None:
    """Serve the one request that comes on this socket. Runs in a process just forked for it."""
    os.setsid()
    processes.become_subreaper()
    processes.set_name("skstack-run")
    try:
        stream.sendall(wire.READY)
        request = wire.receive_frame(stream)
    except ConnectionError:
        return
    if request is None:
        return
    match request["mode"]:
        case "run":
            _run(Plan.from_json(request["plan"]), stream)
        case "capture":
            _capture(CaptureRequest.from_json(request["request"]), stream)
        case "host_key":
            _host_key(request, stream)
        case "find_logs":
            log_reading.answer_found(LogRequest.from_json(request["request"]), stream)
        case "read_log":
            log_reading.answer_whole(LogRequest.from_json(request["request"]), stream)


def _run(plan: Plan, stream: socket.socket) -> None:
    watch = Watch(time_limit=plan.time_limit, grace=plan.grace)
    identity = {
        "pid": os.getpid(),
        "start_time": processes.start_time(os.getpid()),
        "boot_id": processes.boot_id(),
        "token": plan.token,
    }
    try:
        record.claim(plan.directory, identity)
        kept = _record(plan)
    except record.AlreadyClaimedError:
        wire.send_frame(stream, {"already_claimed": True})
        return
    except OSError as err:
        wire.send_frame(stream, {"error": err.strerror})
        return
    steps = _Steps(plan, watch, sink=kept)
    if _is_wanted(stream, identity):
        stream.close()
        outcome, code, reason = steps.run([_until_full(kept, watch)], start_before=plan.start_before)
    else:
        outcome, code, reason = Outcome.REFUSED, None, N_("The worker went away before the run could begin.")
    kept.finish(
        Result(
            outcome=outcome,
            exit_code=code,
            reason=reason,
            steps=tuple(steps.results),
            started_at=steps.started_at,
            finished_at=record.rfc3339_now(),
            duration=steps.elapsed(),
            output_bytes=kept.printed,
            stored_bytes=kept.stored,
            capped=kept.capped,
            left_behind=steps.left_behind,
        )
    )


def _record(plan: Plan) -> record.Record:
    try:
        room = record.room_for_result(plan.steps)
        return record.Record(plan.directory, limit=plan.output_limit, room=room)
    except OSError:
        record.give_up(plan.directory)
        raise


def _is_wanted(stream: socket.socket, identity: dict[str, Any]) -> bool:
    """Say who runs it and wait for the word to begin: a client that gave up must not see it start later."""
    try:
        wire.send_frame(stream, identity)
        return stream.recv(1) == wire.GO
    except OSError:
        return False


def _until_full(kept: record.Record, watch: Watch) -> Take:
    def take(chunk: memoryview) -> None:
        try:
            kept.write(chunk)
        except record.LogFullError:
            watch.end(Outcome.LOG_FULL)

    return take


def _capture(request: CaptureRequest, stream: socket.socket) -> None:
    watch = Watch(time_limit=request.time_limit, grace=request.grace, hangup=stream)
    kept = record.Memory(limit=request.output_limit)
    steps = _Steps(request, watch, sink=None)
    outcome, code, reason = steps.run([kept.stream(kept.stdout), kept.stream(kept.stderr)])
    captured = Captured(
        outcome=outcome,
        exit_code=code,
        reason=reason,
        stdout=bytes(kept.stdout),
        stderr=bytes(kept.stderr),
        truncated=kept.truncated,
        duration=steps.elapsed(),
    )
    with contextlib.suppress(OSError):
        wire.send_frame(stream, {"captured": captured.to_json()})


def _host_key(request: dict[str, Any], stream: socket.socket) -> None:
    from skstack.runner import connection

    target = target_from_json(request["target"])
    assert isinstance(target, SshTarget)
    watch = Watch(time_limit=request["timeout"], grace=0, hangup=stream)
    try:
        offered = connection.aside(
            watch, lambda: connection.offered_host_key(target, timeout=request["timeout"])
        )
    except RefusedError as err:
        answer: dict[str, Any] = {"refused": err.reason.to_json()}
    else:
        answer = {"host_key": offered.to_json()} if offered else {}
    with contextlib.suppress(OSError):
        wire.send_frame(stream, answer)


class _Steps:
    """The steps of a request, one after the other, and how it ended."""

    def __init__(self, request: Request, watch: Watch, *, sink: record.Record | None) -> None:
        self.results: list[StepResult] = []
        self.left_behind = 0
        self.started_at = record.rfc3339_now()
        self._began = time.monotonic()
        self._request = request
        self._watch = watch
        self._sink = sink
        self._maskers: tuple[masking.Masked, ...] = ()

    def elapsed(self) -> float:
        """Return the seconds since the runner began."""
        return round(time.monotonic() - self._began, 4)

    def run(
        self, takes: Sequence[Take], *, start_before: float | None = None
    ) -> tuple[Outcome, int | None, Message | None]:
        """Run what there is to run; return the outcome, the exit code and the reason."""
        try:
            transport = _transport(self._request, self._watch)
        except RefusedError as err:
            return Outcome.REFUSED, None, err.reason
        try:
            transport.open()
            _check_in_time(start_before)
            code = self._run_all(transport, self._masked(takes, transport.streams))
        except RefusedError as err:
            if self._watch.ending is None:
                return Outcome.REFUSED, None, err.reason
            code = None
        except LostError as err:
            return Outcome.LOST, None, err.reason
        finally:
            self.left_behind = transport.left_behind
            transport.close()
        if self._watch.ending is None:
            return Outcome.FINISHED, code, None
        return self._watch.ending, None, self._why()

    def _masked(self, takes: Sequence[Take], streams: int) -> Sequence[Take]:
        """Return what takes the output in place of these: the same where there is nothing to mask.

        Streams that meet only here are masked each for itself: the other may come in between two halves of a secret.
        """
        if forms := masking.forms_of(self._request):
            apart = [takes[0], takes[-1]] if streams > 1 else takes
            self._maskers = tuple(masking.Masked(forms, take) for take in apart)
        return self._maskers or takes

    def _run_all(self, transport: Transport, takes: Sequence[Take]) -> int:
        code = 0
        for step in self._request.steps:
            if self._watch.ending or code:
                break
            code = self._run_one(transport, step, takes)
        return code

    def _run_one(self, transport: Transport, step: PlanStep, takes: Sequence[Take]) -> int:
        offset = self._size()
        started_at, began = record.rfc3339_now(), time.monotonic()
        self._note(STEP_STARTED, position=step.position, task=step.task, line=step.line)
        code: int | None = None
        try:
            code = transport.run(step, takes)
        finally:
            for masker in self._maskers:
                masker.finish()
            duration = round(time.monotonic() - began, 4)
            self._note(
                STEP_FINISHED, position=step.position, task=step.task, exit_code=code, duration=duration
            )
            self.results.append(
                StepResult(
                    position=step.position,
                    task=step.task,
                    line=step.line,
                    exit_code=code,
                    started_at=started_at,
                    finished_at=record.rfc3339_now(),
                    duration=duration,
                    offset=offset,
                    end=self._size(),
                )
            )
        return code

    def _size(self) -> int:
        return self._sink.stored if self._sink else 0

    def _note(self, kind: str, *, position: int, task: Task, **details: Any) -> None:
        if self._sink:
            self._sink.note(kind, position=position, task=task, **details)

    def _why(self) -> Message | None:
        if self._watch.ending is Outcome.TIMED_OUT:
            return N_("The time limit of %(seconds)s s has passed.", seconds=self._request.time_limit)
        if self._watch.ending is Outcome.LOG_FULL:
            return N_("The output could not be stored any more: the disk is full.")
        return None


def _transport(request: Request, watch: Watch) -> Transport:
    for name, value in request.environment.items():
        if not _VALUE_NAME.fullmatch(name) or "\0" in value:
            raise RefusedError(N_("The value %(name)s cannot be given to a command.", name=name))
    if isinstance(request.target, LocalTarget):
        from skstack.runner.local import LocalTransport

        return LocalTransport(request, watch)
    from skstack.runner.ssh import SshTransport

    processes.hide_memory()
    return SshTransport(request, request.target, watch)


def _check_in_time(start_before: float | None) -> None:
    """Refuse to begin after the moment up to which the worker's claim is known to hold."""
    if start_before is not None and time.clock_gettime(time.CLOCK_BOOTTIME) >= start_before:
        raise RefusedError(N_("The run came too late to begin: the worker's claim had run out."))
