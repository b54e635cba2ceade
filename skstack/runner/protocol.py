"""What a runner is asked to do and what it leaves behind, as plain values with a JSON form."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Self

from skstack.messages import Message

OUTPUT_FILE = "output.log"
EVENTS_FILE = "events.jsonl"
RESULT_FILE = "result.json"
RUNNER_FILE = "runner.json"

TOKEN_VARIABLE = "SKSTACK_RUN"  # noqa: S105 - the name of the variable that marks a run's processes, not a secret


class Task(StrEnum):
    """Which of a work order's three tasks a step belongs to."""

    PRE = "pre"
    MAIN = "main"
    POST = "post"


class Outcome(StrEnum):
    """How a run ended; only `finished` has an exit code that says success or failure."""

    FINISHED = "finished"
    """Every step that was to run has run, or one of them failed: see the exit code."""
    STOPPED = "stopped"
    """Ended because it was asked to."""
    TIMED_OUT = "timed_out"
    """Ended because the time limit passed."""
    REFUSED = "refused"
    """Nothing was started; the reason says why."""
    LOST = "lost"
    """The connection broke in the middle of a step: what happened cannot be told."""
    LOG_FULL = "log_full"
    """Ended because its output could no longer be stored."""


@dataclass(frozen=True, kw_only=True)
class LocalTarget:
    """The host that the runner itself runs on."""

    def to_json(self) -> dict[str, Any]:
        """Return what `target_from_json` reads back."""
        return {"kind": "local"}


@dataclass(frozen=True, kw_only=True)
class SshTarget:
    """A host reached over SSH: by password, by private key, or by the worker's own agent and keys.

    `host_key` is the accepted key as in a known_hosts file (`ssh-ed25519 AAAA…`); nothing else is trusted.
    `own_keys` means the worker's agent and keys. `gateway` is the host to go through, treated the same way.
    """

    host: str
    port: int = 22
    username: str
    host_key: str | None = None
    password: str | None = field(default=None, repr=False)
    private_key: str | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)
    own_keys: bool = False
    gateway: SshTarget | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what `target_from_json` reads back. Holds the credentials: only ever sent to a runner."""
        stored = {f.name: getattr(self, f.name) for f in fields(self)}
        stored["gateway"] = self.gateway.to_json() if self.gateway else None
        return {"kind": "ssh", **stored}


Target = LocalTarget | SshTarget


def target_from_json(stored: Mapping[str, Any]) -> Target:
    """Rebuild a target from its `to_json`."""
    values = dict(stored)
    if values.pop("kind") == "local":
        return LocalTarget()
    gateway = values.pop("gateway", None)
    through = target_from_json(gateway) if gateway else None
    assert through is None or isinstance(through, SshTarget)
    return SshTarget(gateway=through, **values)


@dataclass(frozen=True, kw_only=True)
class PlanStep:
    """One logical line of a task: `line` is what people are shown, `script` what the shell is given."""

    position: int
    task: Task
    line: str
    script: str

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads back."""
        return {"position": self.position, "task": self.task, "line": self.line, "script": self.script}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Rebuild a step from `to_json`."""
        return cls(
            position=stored["position"],
            task=Task(stored["task"]),
            line=stored["line"],
            script=stored["script"],
        )


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a run and a capture have in common. Times are seconds, sizes bytes.

    `environment` holds the values, each under a name that begins with `WO_`; `secrets` names those that are masked in
    the output; `base_environment` is what the administrator adds to the allowlist. `token` marks the processes of this
    run, here and on the remote host.
    """

    steps: tuple[PlanStep, ...]
    target: Target = field(default_factory=LocalTarget)
    token: str
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    base_environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = ()
    working_directory: str | None = None
    time_limit: float = 3600.0
    grace: float = 10.0
    output_limit: int = 1 << 30
    connect_timeout: float = 10.0
    keepalive: float = 15.0
    keepalive_count: int = 3
    pty: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads back. Holds values and credentials: only ever sent to a runner."""
        stored = {f.name: getattr(self, f.name) for f in fields(self)}
        stored["steps"] = [step.to_json() for step in self.steps]
        stored["target"] = self.target.to_json()
        stored["environment"] = dict(self.environment)
        stored["base_environment"] = dict(self.base_environment)
        stored["secrets"] = list(self.secrets)
        return stored

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Rebuild a request from `to_json`."""
        values = dict(stored)
        values["steps"] = tuple(PlanStep.from_json(step) for step in values["steps"])
        values["target"] = target_from_json(values["target"])
        values["secrets"] = tuple(values["secrets"])
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class Plan(Request):
    """One run: its steps are those of the pre task, or those of main and then post.

    `directory` must exist and be empty. After `start_before` (seconds of CLOCK_BOOTTIME on this host) nothing
    may begin any more: a worker that lost its lease meanwhile must not start anything.
    """

    directory: str
    start_before: float | None = None


@dataclass(frozen=True, kw_only=True)
class CaptureRequest(Request):
    """Steps whose output somebody waits for: a variable's script, a verification."""

    time_limit: float = 10.0
    grace: float = 1.0
    output_limit: int = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened in a run. `offset` is the size of the stored output at that moment."""

    kind: str
    at: str
    offset: int
    position: int | None = None
    task: Task | None = None
    line: str | None = None
    exit_code: int | None = None
    duration: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads back, without what is not set."""
        return {f.name: v for f in fields(self) if (v := getattr(self, f.name)) is not None}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Rebuild an event from `to_json`; names it does not know, from a newer runner, are passed over."""
        known = {f.name for f in fields(cls)}
        values = {k: v for k, v in stored.items() if k in known}
        if "task" in values:
            values["task"] = Task(values["task"])
        return cls(**values)


STEP_STARTED = "step_started"
STEP_FINISHED = "step_finished"
OUTPUT_CAPPED = "output_capped"


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """A step that was started. `exit_code` is None if it cannot be told; `offset` to `end` is its output."""

    position: int
    task: Task
    line: str
    exit_code: int | None
    started_at: str
    finished_at: str
    duration: float
    offset: int
    end: int

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads back."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Rebuild a step's result from `to_json`."""
        return cls(**{**stored, "task": Task(stored["task"])})


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a run ended. Times are RFC 3339 in UTC; durations are seconds of a clock that is never set.

    `exit_code` is that of the step that failed, else 0; None unless the outcome is `finished`.
    `output_bytes` were printed, `stored_bytes` of them are in the file: fewer only if capped or full.
    `left_behind` counts processes that could not be ended, for instance because another user owns them.
    """

    outcome: Outcome
    exit_code: int | None
    reason: Message | None
    steps: tuple[StepResult, ...]
    started_at: str
    finished_at: str
    duration: float
    output_bytes: int
    stored_bytes: int
    capped: bool
    left_behind: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads back."""
        stored = {f.name: getattr(self, f.name) for f in fields(self)}
        stored["reason"] = self.reason.to_json() if self.reason else None
        stored["steps"] = [step.to_json() for step in self.steps]
        return stored

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Rebuild a result from `to_json`."""
        values = dict(stored)
        values["outcome"] = Outcome(values["outcome"])
        values["reason"] = Message.from_json(values["reason"]) if values["reason"] else None
        values["steps"] = tuple(StepResult.from_json(step) for step in values["steps"])
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class Captured:
    """What captured steps printed. `exit_code` as in `Result`; `truncated` if it was more than the limit."""

    outcome: Outcome
    exit_code: int | None
    reason: Message | None
    stdout: bytes = field(repr=False)
    stderr: bytes = field(repr=False)
    truncated: bool
    duration: float

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads back."""
        stored = {f.name: getattr(self, f.name) for f in fields(self)}
        stored["reason"] = self.reason.to_json() if self.reason else None
        stored["stdout"] = base64.b64encode(self.stdout).decode()
        stored["stderr"] = base64.b64encode(self.stderr).decode()
        return stored

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Rebuild what was captured from `to_json`."""
        values = dict(stored)
        values["outcome"] = Outcome(values["outcome"])
        values["reason"] = Message.from_json(values["reason"]) if values["reason"] else None
        values["stdout"] = base64.b64decode(values["stdout"])
        values["stderr"] = base64.b64decode(values["stderr"])
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class HostKey:
    """The key a host offered: `key` to be stored when accepted, `fingerprint` to be compared by a person."""

    key: str
    fingerprint: str

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads back."""
        return {"key": self.key, "fingerprint": self.fingerprint}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Rebuild a host key from `to_json`."""
        return cls(key=stored["key"], fingerprint=stored["fingerprint"])
