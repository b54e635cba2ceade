"""The catalog file, read into entries that know their lines. Nothing is looked up yet and nothing is changed.

Scalars are taken as they are written: a choice `yes`, `012` or `1.10` stays that text, whatever YAML would make of
it. Only the values of `builtin_variables` have types, those of JSON.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from skstack.accounts.models import User
from skstack.catalog.kinds import KINDS, Kind
from skstack.catalog.models import ConfigCenter, Source, Variable
from skstack.errors import Invalid
from skstack.messages import N_, Message


@dataclass(frozen=True, slots=True)
class FileProblem:
    """One thing that is wrong in a file; `line` counts from 1, and is None where no line is to blame."""

    line: int | None
    message: Message

    def __str__(self) -> str:
        return str(self.message) if self.line is None else f"line {self.line}: {self.message}"


class FileRefused(Invalid):
    """A catalog file that cannot be applied. Nothing was changed. `str()` is one line with all the problems."""

    def __init__(self, source: str, problems: list[FileProblem]) -> None:
        self.problems = sorted(problems, key=lambda problem: problem.line or 0)
        told = "; ".join(" ".join(str(problem).split()) for problem in self.problems)
        super().__init__({"": [problem.message for problem in self.problems]})
        self.args = (f"{source}: {told}",)


@dataclass(slots=True)
class Entry:
    """One object of the file: its attributes as the file has them, and the line of each."""

    kind: Kind
    name: str
    line: int
    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    texts: dict[str, int] = field(default_factory=dict)  # The line of the file before the first of a text.

    def line_of(self, attribute: str, within: int = 1) -> int:
        """Return the file's line of an attribute, or of the `within`-th line of its text."""
        if attribute in self.texts:
            return self.texts[attribute] + within
        return self.lines.get(attribute, self.line)


@dataclass(slots=True)
class CatalogFile:
    """What stands in a file, by section. A section that is not in it is not in `sections` either."""

    sections: dict[str, list[Entry]] = field(default_factory=dict)


class _Loader(yaml.SafeLoader):
    """Knows no dates, no octal and no base-60 numbers: each reads as the text it is written as."""

    yaml_implicit_resolvers: dict[str, Any] = {}


# Each takes less than YAML 1.1 does, so that whatever a YAML 1.1 program writes reads back as it was.
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(0|[1-9][0-9]*)\.[0-9]+([eE][-+][0-9]+)?", "-+0123456789"),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}",
        re.compile(rf"(?:{_pattern})\Z"),
        [*_first, ""] if _tag == "null" else list(_first),
    )

_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")

# How the keys are read that are not plain text.
_NUMBERS = (
    "order",
    "port",
    "min_length",
    "max_length",
    "time_limit",
    "expires_hours",
    "retention_days",
    "retention_megabytes",
)
_TIMES = ("starts_at", "ends_at")
_SWITCHES = (
    "required",
    "strict",
    "secret",
    "one_argument_each",
    "allow_leading_dash",
    "active",
    "template",
    "variable_group_on",
    "allow_several",
    "allow_self_approval",
    "distinct_approvers",
    "scheduling",
    "background_choice",
    "auto_run_choice",
    "task_lock",
)
_LISTS = ("choices", "pages", "variables", "levels", "submit_groups", "groups", "roles")

# Credentials stand beside the file or in the environment, never in it.
FURTHER_KEYS: dict[type[Any], tuple[str, ...]] = {
    ConfigCenter: ("password_env", "private_key_file", "passphrase_env")
}


def read(text: str, *, source: str) -> CatalogFile:
    """Read a catalog file. Raises FileRefused with every problem found, each with its line."""
    return _Reader(source).read(text)


class _Reader:
    def __init__(self, source: str) -> None:
        self.source = source
        self.problems: list[FileProblem] = []

    def read(self, text: str) -> CatalogFile:
        root = self._compose(text)
        found = CatalogFile()
        if not isinstance(root, MappingNode):
            self._wrong(
                root, N_("A catalog file is a mapping with sections such as environments and work_orders.")
            )
        else:
            kinds = {kind.section: kind for kind in KINDS}
            for key, node in self._pairs(root):
                if key.value in kinds:
                    found.sections[key.value] = list(self._entries(kinds[key.value], node))
                else:
                    self._wrong(key, N_("There is no section %(key)s.", key=key.value))
        if self.problems:
            raise FileRefused(self.source, self.problems)
        return found

    def _compose(self, text: str) -> Node | None:
        try:
            return yaml.compose(text, Loader=_Loader)
        except yaml.MarkedYAMLError as err:
            mark = err.problem_mark or err.context_mark
            problem = FileProblem(
                mark.line + 1 if mark else None, N_("This is not YAML: %(what)s", what=err.problem)
            )
        except yaml.reader.ReaderError as err:
            line = text.count("\n", 0, err.position) + 1
            problem = FileProblem(line, N_("This is not YAML: %(what)s", what=err.reason))
        except RecursionError:
            problem = FileProblem(None, N_("This is nested too deeply."))
        raise FileRefused(self.source, [problem])

    def _wrong(self, node: Node | None, message: Message) -> None:
        self.problems.append(FileProblem(None if node is None else node.start_mark.line + 1, message))

    def _pairs(self, node: MappingNode) -> Iterator[tuple[ScalarNode, Node]]:
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self._wrong(key, N_("A key must be a word."))
            elif key.value in seen:
                self._wrong(key, N_("The key %(key)s stands there twice.", key=key.value))
            else:
                seen.add(key.value)
                yield key, value

    def _entries(self, kind: Kind, section: Node) -> Iterator[Entry]:
        if isinstance(section, ScalarNode) and self._is_null(section):
            return
        if not isinstance(section, SequenceNode):
            self._wrong(section, N_("%(section)s must be a list.", section=kind.section))
            return
        lines: dict[str, int] = {}
        for node in section.value:
            entry = self._entry(kind, node)
            if entry is None:
                continue
            if entry.name in lines:
                self._wrong(
                    node,
                    N_(
                        "The %(thing)s already stands in line %(line)s.",
                        thing=_named(entry),
                        line=lines[entry.name],
                    ),
                )
                continue
            lines[entry.name] = entry.line
            yield entry

    def _entry(self, kind: Kind, node: Node) -> Entry | None:
        if not isinstance(node, MappingNode):
            self._wrong(
                node,
                N_(
                    "Each of %(section)s must be a mapping with a %(key)s.",
                    section=kind.section,
                    key=kind.key,
                ),
            )
            return None
        entry = Entry(kind, "", node.start_mark.line + 1)
        for key, value in self._pairs(node):
            self._read_key(entry, key, value)
        entry.name = entry.values.get(kind.key) or ""
        if not entry.name:
            self._wrong(node, N_("One of %(section)s has no %(key)s.", section=kind.section, key=kind.key))
            return None
        if kind.model is Variable:
            _complete_variable(entry)
        return entry

    def _read_key(self, entry: Entry, key: ScalarNode, node: Node) -> None:
        kind, name = entry.kind, key.value
        allowed = (*kind.fields, *kind.references, *kind.lists, *FURTHER_KEYS.get(kind.model, ()))
        if name not in allowed:
            self._wrong(key, self._unknown(kind, name, allowed))
            return
        entry.lines[name] = key.start_mark.line + 1
        if isinstance(node, ScalarNode) and self._is_null(node):
            return  # As if it were left out.
        read: Callable[[str, Node], Any] = (
            self._number
            if name in _NUMBERS
            else self._switch
            if name in _SWITCHES
            else self._list
            if name in _LISTS
            else self._time
            if name in _TIMES
            else self._typed_mapping
            if name == "builtin_variables"
            else self._default
            if name == "default"
            else self._text
        )
        value = read(name, node)
        if value is not None:
            entry.values[name] = value
        if isinstance(node, ScalarNode):
            # A block scalar begins under its mark; what stands in quotes or plain, on it.
            first = node.start_mark.line + (1 if node.style in ("|", ">") else 0)
            entry.texts[name] = first

    def _unknown(self, kind: Kind, name: str, allowed: tuple[str, ...]) -> Message:
        if kind.model is User and "password" in name:
            return N_("Passwords do not stand in the file; set them with the command user set-password.")
        if name in kind.secrets:
            return N_(
                "%(key)s does not stand in the file; use %(instead)s.",
                key=name,
                instead=" or ".join(key for key in FURTHER_KEYS[kind.model] if key.startswith(name)),
            )
        return N_(
            "There is no key %(key)s in %(section)s; the keys are %(keys)s.",
            key=name,
            section=kind.section,
            keys=", ".join(allowed),
        )

    @staticmethod
    def _is_null(node: ScalarNode) -> bool:
        return str(node.tag) == "tag:yaml.org,2002:null"

    def _text(self, name: str, node: Node) -> str | None:
        if not isinstance(node, ScalarNode):
            self._wrong(node, N_("%(key)s must be text.", key=name))
            return None
        return str(node.value)

    def _default(self, name: str, node: Node) -> str | list[str] | None:
        return self._list(name, node) if isinstance(node, SequenceNode) else self._text(name, node)

    def _number(self, name: str, node: Node) -> int | None:
        if isinstance(node, ScalarNode) and re.fullmatch(r"[-+]?[0-9]{1,9}", node.value, re.ASCII):
            return int(node.value)
        self._wrong(node, N_("%(key)s must be a whole number.", key=name))
        return None

    def _switch(self, name: str, node: Node) -> bool | None:
        word = node.value.lower() if isinstance(node, ScalarNode) else ""
        if word not in (*_TRUE, *_FALSE):
            self._wrong(node, N_("%(key)s must be true or false.", key=name))
            return None
        return word in _TRUE

    def _time(self, name: str, node: Node) -> dt.datetime | None:
        try:
            moment = dt.datetime.fromisoformat(node.value if isinstance(node, ScalarNode) else "")
            if moment.tzinfo is not None:
                return moment.astimezone(dt.UTC)
        except (ValueError, OverflowError):
            pass
        self._wrong(
            node,
            N_(
                "%(key)s must be a time with its zone as in RFC 3339, such as 2026-01-31T08:00:00Z.", key=name
            ),
        )
        return None

    def _list(self, name: str, node: Node) -> list[str] | None:
        if not isinstance(node, SequenceNode) or not all(isinstance(item, ScalarNode) for item in node.value):
            self._wrong(node, N_("%(key)s must be a list of texts.", key=name))
            return None
        return [str(item.value) for item in node.value]

    def _typed_mapping(self, name: str, node: Node) -> dict[str, Any] | None:
        if not isinstance(node, MappingNode):
            self._wrong(
                node, N_("%(key)s must be a mapping of names to texts, numbers, true or false.", key=name)
            )
            return None
        return {key.value: self._typed(name, value) for key, value in self._pairs(node)}

    def _typed(self, name: str, node: Node) -> Any:
        kind = str(node.tag).rpartition(":")[2]
        if not isinstance(node, ScalarNode) or kind == "null":
            self._wrong(
                node, N_("%(key)s must be a mapping of names to texts, numbers, true or false.", key=name)
            )
            return ""
        if kind == "bool":
            return node.value.lower() == "true"
        if kind in ("int", "float"):
            try:
                return int(node.value) if kind == "int" else float(node.value)
            except ValueError:
                self._wrong(node, N_("%(value)s is not a number that can be stored.", value=node.value[:40]))
        return str(node.value)


def _complete_variable(entry: Entry) -> None:
    """Fill in what a variable's entry leaves out because something else says it."""
    values = entry.values
    given = Source.SCRIPT if "script" in values else Source.LIST if "choices" in values else Source.INPUT
    source = values.setdefault("source", str(given))
    values.setdefault("widget", "text" if source == Source.INPUT else "select")
    if isinstance(values.get("default"), list):
        values["default"] = (values.get("delimiter") or ",").join(values["default"])


def _named(entry: Entry) -> Message:
    return Message(entry.kind.named, {"name": entry.name})
