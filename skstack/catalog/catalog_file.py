"""The configuration as one YAML file: applying it, all or nothing, and writing it out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import yaml

from skstack.accounts.models import User
from skstack.audit.services import Action, Actor, record
from skstack.catalog import compiling, services, validation
from skstack.catalog.kinds import KINDS, ORDERED, Kind, State, dependents, kind_of, listed
from skstack.catalog.models import ConfigCenter, Login, VariableGroup, WorkOrder
from skstack.catalog.yaml_reader import CatalogFile, Entry, FileProblem, FileRefused, read
from skstack.extensions import db
from skstack.messages import N_, Message


@dataclass(frozen=True, slots=True)
class Change:
    """What applying does to one object: `verb` is added, changed or deleted; `before` and `after` by field."""

    kind: Kind
    name: str
    verb: str
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)


def apply(
    text: str,
    *,
    actor: Actor | None,
    source: str,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    dry_run: bool = False,
    prune: bool = False,
) -> list[Change]:
    """Make the configuration match a catalog file, and return what changed; with `dry_run`, what would.

    `source` names the file in messages; `folder` is where its private keys are, `environment` where its passwords
    are. `prune` deletes what its sections do not name, but no users. Raises FileRefused, with nothing changed.
    """
    catalog = read(text, source=source)
    environment = os.environ if environment is None else environment
    try:
        with services.writing():
            # What this session read before may have been changed by others since.
            db.session.expire_all()
            changes = _Applying(catalog, source, folder or Path.cwd(), environment).run(actor, prune=prune)
            if changes:
                counts: dict[str, Any] = {
                    verb: sum(change.verb == verb for change in changes)
                    for verb in ("added", "changed", "deleted")
                }
                record(
                    Action.CATALOG_APPLIED, actor=actor, object_type="catalog", object_name=source, **counts
                )
            if dry_run:
                raise _OnlyTried(changes)
    except _OnlyTried as tried:
        return tried.changes
    return changes


class _OnlyTried(Exception):
    def __init__(self, changes: list[Change]) -> None:
        super().__init__()
        self.changes = changes


class _Applying:
    """One file being applied within the transaction under way."""

    def __init__(
        self, catalog: CatalogFile, source: str, folder: Path, environment: Mapping[str, str]
    ) -> None:
        self.catalog, self.source, self.folder, self.environment = catalog, source, folder, environment
        self.problems: list[FileProblem] = []
        self.things: dict[str, dict[str, Any]] = {}
        self.before: dict[Any, State] = {}
        self.touched: list[tuple[Entry, Any]] = []

    def run(self, actor: Actor | None, *, prune: bool) -> list[Change]:
        with db.session.no_autoflush:
            self._load()
            for kind in KINDS:
                for entry in self.catalog.sections.get(kind.section, ()):
                    self._put(entry)
            self._refuse()
            for entry, thing in self.touched:
                self._check(entry, thing)
            self._refuse()
        changes = self._save(actor)
        if prune:
            changes += self._prune(actor)
        self._check_together()
        self._refuse()
        return changes

    def _load(self) -> None:
        for kind in KINDS:
            rows = db.session.scalars(sa.select(kind.model)).unique().all()
            self.things[kind.section] = {kind.name_of(row): row for row in rows}
        self.before = {thing: State.of(thing) for things in self.things.values() for thing in things.values()}

    def _refuse(self) -> None:
        if self.problems:
            raise FileRefused(self.source, self.problems)

    def _wrong(self, line: int | None, message: Message) -> None:
        self.problems.append(FileProblem(line, message))

    def _put(self, entry: Entry) -> None:
        kind = entry.kind
        things = self.things[kind.section]
        thing = things.get(entry.name)
        if thing is None:
            if kind.model is User and (twin := _same_but_for_case(entry.name, things)):
                self._wrong(
                    entry.line, N_("There already is a user %(name)s; write it the same way.", name=twin)
                )
                return
            thing = things[entry.name] = kind.model()
        for attribute in kind.fields:
            if attribute in entry.values or attribute not in _KEPT:
                value = entry.values.get(attribute, services.default_of(kind.model, attribute))
                setattr(thing, attribute, value)
        for attribute in kind.references:
            setattr(thing, attribute, self._referred(entry, attribute, entry.values.get(attribute)))
        for attribute in kind.lists:
            others = [self._referred(entry, attribute, name) for name in entry.values.get(attribute, ())]
            found = [other for other in others if other is not None]
            if attribute not in ORDERED:
                found = list(dict.fromkeys(found))
            if [id(other) for other in found] != [id(other) for other in getattr(thing, attribute)]:
                setattr(thing, attribute, found)
        if isinstance(thing, ConfigCenter):
            self._put_credentials(entry, thing)
        self.touched.append((entry, thing))

    def _referred(self, entry: Entry, attribute: str, name: str | None) -> Any:
        if not name:
            return None
        section = _SECTIONS[attribute]
        found = self.things[section].get(name)
        if found is None:
            kind = next(kind for kind in KINDS if kind.section == section)
            self._wrong(
                entry.line_of(attribute),
                N_("There is no %(thing)s.", thing=Message(kind.named, {"name": name})),
            )
        return found

    def _put_credentials(self, entry: Entry, center: ConfigCenter) -> None:
        values = entry.values
        if "host_key" in values:
            center.host_key = " ".join(values["host_key"].split()[:2]) or None
        if "password_env" in values:
            center.password = self._from_environment(entry, "password_env")
        if "passphrase_env" in values:
            center.passphrase = self._from_environment(entry, "passphrase_env")
        if "private_key_file" in values:
            path = self.folder / Path(values["private_key_file"]).expanduser()
            try:
                center.private_key = path.read_text(encoding="utf-8")
            except (OSError, ValueError) as err:
                reason = getattr(err, "strerror", None) or "it is not text"
                self._wrong(
                    entry.line_of("private_key_file"),
                    N_("The private key %(path)s cannot be read: %(reason)s.", path=str(path), reason=reason),
                )
        if "login" not in values:
            if "private_key_file" in values:
                center.login = Login.KEY
            elif "password_env" in values:
                center.login = Login.PASSWORD
            elif not center.login:
                center.login = Login.AGENT

    def _from_environment(self, entry: Entry, key: str) -> str | None:
        name = entry.values[key]
        if not self.environment.get(name):
            self._wrong(entry.line_of(key), N_("The environment variable %(name)s is not set.", name=name))
            return None
        return self.environment[name]

    def _check(self, entry: Entry, thing: Any) -> None:
        for attribute, messages in validation.own_problems(thing).items():
            for message in messages:
                self._wrong(
                    entry.line_of(attribute) if attribute in entry.lines else entry.line,
                    _about(entry, attribute, message),
                )

    def _save(self, actor: Actor | None) -> list[Change]:
        changes = []
        for _, thing in self.touched:
            if thing not in self.before:
                services.set_defaults(thing)
                db.session.add(thing)
        db.session.flush()
        for entry, thing in self.touched:
            kind = entry.kind
            if thing not in self.before:
                services.note_created(thing, actor=actor)
                shown = {
                    key: value
                    for key, value in State.of(thing).masked.items()
                    if value and value != services.default_of(kind.model, key)
                }
                changes.append(Change(kind, entry.name, "added", after=shown))
                continue
            was, now = services.finish(thing, self.before[thing], actor=actor)
            if was:
                changes.append(Change(kind, entry.name, "changed", was, now))
        return changes

    def _prune(self, actor: Actor | None) -> list[Change]:
        changes = []
        for kind in reversed(KINDS):
            if kind.section not in self.catalog.sections or kind.model is User:
                continue
            named = {entry.name for entry in self.catalog.sections[kind.section]}
            for name, thing in sorted(self.things[kind.section].items()):
                if name in named:
                    continue
                if needed := dependents(thing):
                    self._wrong(
                        None,
                        N_(
                            "The %(thing)s, which the file does not name, cannot be deleted because of %(dependents)s.",
                            thing=kind.message(thing),
                            dependents=listed(needed),
                        ),
                    )
                    continue
                del self.things[kind.section][name]
                services.note_deleted(thing, actor=actor)
                db.session.delete(thing)
                changes.append(Change(kind, name, "deleted"))
            db.session.flush()
        return changes

    def _check_together(self) -> None:
        """Check what needs the rest: circles of variables, and the tasks of every work order."""
        entries = {thing: entry for entry, thing in self.touched}
        groups: Iterator[VariableGroup] = iter(self.things["variable_groups"].values())
        for group in groups:
            if circle := compiling.cycle(group.variables):
                entry = entries.get(group)
                self._wrong(
                    entry.line_of("variables") if entry else None,
                    N_(
                        "In the variable group %(group)s these would wait for each other: %(names)s.",
                        group=group.name,
                        names=" → ".join(circle),
                    ),
                )
        for workorder in self.things["work_orders"].values():
            self._check_tasks(workorder, entries.get(workorder))

    def _check_tasks(self, workorder: WorkOrder, entry: Entry | None) -> None:
        if entry is None:
            for messages in compiling.problems_of(workorder).values():
                told = N_("work order %(name)s", name=workorder.name)
                self._wrong(
                    None,
                    N_(
                        "With this, %(workorder)s would be refused. %(message)s",
                        workorder=told,
                        message=messages[0],
                    ),
                )
            return
        refused: set[str] = set()
        try:
            compiling.compile_workorder(workorder)
        except compiling.TasksRefused as err:
            for attribute, problems in err.problems.items():
                refused.add(attribute)
                for problem in problems:
                    line = entry.line_of(attribute, problem.line)
                    self._wrong(line, _about(entry, attribute, compiling.told(problem)))
        for attribute, messages in compiling.problems_of(workorder).items():
            for message in messages if attribute not in refused else ():
                self._wrong(entry.line_of(attribute), _about(entry, attribute, message))


# What a file that leaves it out does not change.
_KEPT = ("host_key", "login")

_SECTIONS = {
    "environment": "environments",
    "category": "categories",
    "config_center": "config_centers",
    "variable_group": "variable_groups",
    "approval_flow": "approval_flows",
    "variables": "variables",
    "levels": "groups",
    "submit_groups": "groups",
    "groups": "groups",
    "roles": "roles",
}


def _about(entry: Entry, attribute: str, message: Message) -> Message:
    named = Message(entry.kind.named, {"name": entry.name})
    if not attribute:
        return N_("%(thing)s: %(message)s", thing=named, message=message)
    return N_("%(thing)s, %(key)s: %(message)s", thing=named, key=attribute, message=message)


def _same_but_for_case(name: str, things: Mapping[str, Any]) -> str | None:
    return next((other for other in things if other.lower() == name.lower()), None)


def export() -> str:
    """Return the configuration as a catalog file. Secrets are left out; everything that is a default too."""
    document: dict[str, list[dict[str, Any]]] = {}
    for kind in KINDS:
        key = getattr(kind.model, kind.key)
        order = (kind.model.order, key) if kind.section == "environments" else (key,)
        rows = db.session.scalars(sa.select(kind.model).order_by(*order)).unique()
        document[kind.section] = [_exported(row) for row in rows]
    return yaml.dump(
        document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=False
    )


def _exported(thing: Any) -> dict[str, Any]:
    kind = kind_of(thing)
    shown = State.of(thing).shown
    always = (kind.key, "environment", "source", "widget", "login", "host", "port", "username")
    found = {}
    for attribute in (*kind.fields[:2], *kind.references, *kind.lists, *kind.fields[2:]):
        value = shown[attribute]
        if isinstance(value, dict):
            value = dict(sorted(value.items()))  # PostgreSQL forgets the order anyway.
        default = services.default_of(kind.model, attribute)
        if value is not None and (attribute in always or value != default):
            found[attribute] = value
    return found


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, and repeats rather than refers."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
