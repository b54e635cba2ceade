"""The frozen plan of a ticket: what will run, with what, where. What was approved is what runs."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from skstack import substitution
from skstack.catalog.compiling import CompiledTasks, builtin_texts, system_texts, zone
from skstack.catalog.models import ConfigCenter, Variable, WorkOrder
from skstack.messages import N_, Message

VERSION = 1

Value = str | list[str]


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One command line. `line` is its number in the task's text, `source` as written, `script` as the shell gets it.

    `shown` is the line with the values in their places, for people to read; it is never run.
    """

    task: str
    line: int
    source: str
    script: str
    shown: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a run needs but the secrets, and the commitment to those.

    `environment` are the `WO_…` variables; `target` is {"kind": "local"}, or that of a config center with its
    address and accepted host key; `fields` says how each submitted value was asked for.
    """

    steps: tuple[PlannedStep, ...]
    environment: dict[str, str]
    target: dict[str, Any]
    time_limit: int
    fields: tuple[dict[str, Any], ...]
    secrets_commitment: str | None

    def to_json(self) -> dict[str, Any]:
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Plan:
        return cls(
            steps=tuple(PlannedStep(**step) for step in stored["steps"]),
            environment=dict(stored["environment"]),
            target=dict(stored["target"]),
            time_limit=stored["time_limit"],
            fields=tuple(stored["fields"]),
            secrets_commitment=stored["secrets_commitment"],
        )

    def steps_of(self, *tasks: str) -> tuple[PlannedStep, ...]:
        return tuple(step for step in self.steps if step.task in tasks)

    @property
    def target_name(self) -> str:
        """Return where it runs, for people: `local`, or `name (user@host:port)`."""
        if self.target["kind"] == "local":
            return "local"
        return "{name} ({username}@{host}:{port})".format(**self.target)


def digest(stored: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a plan's JSON in its canonical form: keys sorted, no spaces, UTF-8."""
    return hashlib.sha256(_canonical(stored)).hexdigest()


def freeze(
    workorder: WorkOrder, compiled: CompiledTasks, values: Mapping[str, Value], *, now: dt.datetime
) -> tuple[Plan, dict[str, Any] | None]:
    """Render the tasks of `workorder` with checked `values`. Returns the plan, and the secrets to be encrypted."""
    variables = workorder.variables
    fixed = {**builtin_texts(workorder), **system_texts(workorder, now, zone())}
    given: dict[str, str | Sequence[str]] = {}
    for variable in variables:
        value = values[variable.name]
        given[variable.name] = value if variable.one_argument_each else joined(variable, value)
    secret = sorted(variable.name for variable in variables if variable.secret)
    hidden = (
        {"salt": secrets.token_hex(16), "values": {name: given.pop(name) for name in secret}}
        if secret
        else None
    )
    counts = {v.name: len(values[v.name]) for v in variables if v.one_argument_each}
    shown: dict[str, str | Sequence[str]] = {**given, **fixed}
    steps = tuple(
        PlannedStep(
            task=name,
            line=line.number,
            source=line.source,
            script=line.render(counts),
            shown=substitution.display(line, shown),
        )
        for name, task in (("pre", compiled.pre), ("main", compiled.main), ("post", compiled.post))
        for line in task.lines
    )
    plan = Plan(
        steps=steps,
        environment=substitution.environment(shown, {v.name: v.delimiter for v in variables}),
        target=target_of(workorder.config_center),
        time_limit=workorder.time_limit,
        fields=tuple(_field(variable) for variable in variables),
        secrets_commitment=commitment(hidden),
    )
    return plan, hidden


def joined(variable: Variable, value: Value) -> str:
    """Return one text for what may be several. Checked values join without loss."""
    if isinstance(value, str):
        return value
    text = substitution.join_items(value, variable.delimiter)
    if not isinstance(text, str):
        raise ValueError(str(text))
    return text


def commitment(hidden: Mapping[str, Any] | None) -> str | None:
    """Return what the plan says of its secrets: a salted hash, from which they cannot be guessed."""
    return None if hidden is None else hashlib.sha256(_canonical(hidden)).hexdigest()


def target_of(config_center: ConfigCenter | None) -> dict[str, Any]:
    """Return what a plan keeps of where it runs. Credentials are not part of it: they may be renewed."""
    if config_center is None:
        return {"kind": "local"}
    return {
        "kind": "ssh",
        "id": config_center.id,
        "name": config_center.name,
        "host": config_center.host,
        "port": config_center.port,
        "username": config_center.username,
        "host_key": config_center.host_key,
    }


TARGET_LABELS = {"host": N_("Host"), "port": N_("Port"), "username": N_("User"), "host_key": N_("Host key")}


def target_changes(plan: Plan, center: ConfigCenter) -> list[Message]:
    """Return what of a plan's config center is not as it was when the plan was frozen."""
    now = target_of(center)
    return [label for key, label in TARGET_LABELS.items() if now[key] != plan.target[key]]


def _field(variable: Variable) -> dict[str, Any]:
    return {
        "name": variable.name,
        "label": variable.title,
        "secret": variable.secret,
        "several": variable.takes_several,
    }


def _canonical(value: Mapping[str, Any] | Sequence[Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
