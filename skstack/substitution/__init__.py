"""Get values into commands without the shell ever parsing one.

A task's text is compiled once: `{Name}` becomes a reference to the environment variable `WO_Name`. What
cannot be compiled safely is refused with its place and the safe way to write it. This package imports nothing
but the standard library and `skstack.messages`.
"""

from skstack.substitution.display import display
from skstack.substitution.problems import Problem, TemplateRefused
from skstack.substitution.remote import REMOTE_COMMAND, remote_script
from skstack.substitution.task import Line, Task, compile_task, placeholders
from skstack.substitution.values import (
    MAX_TOTAL_BYTES,
    MAX_VALUE_BYTES,
    STRICT_PATTERN,
    Variable,
    check_total,
    check_value,
    check_whole_word,
    choices_are_strict,
    environment,
    is_strict,
    join_items,
    normalize,
)

__all__ = [
    "MAX_TOTAL_BYTES",
    "MAX_VALUE_BYTES",
    "REMOTE_COMMAND",
    "STRICT_PATTERN",
    "Line",
    "Problem",
    "Task",
    "TemplateRefused",
    "Variable",
    "check_total",
    "check_value",
    "check_whole_word",
    "choices_are_strict",
    "compile_task",
    "display",
    "environment",
    "is_strict",
    "join_items",
    "normalize",
    "placeholders",
    "remote_script",
]
