"""What the manual gives people to copy is accepted."""

from __future__ import annotations

import re

import pytest
from flask.testing import FlaskCliRunner

from skstack.config import ROOT

TEMPLATE = """
environments: [{{name: PROD}}]
variables: [{{name: AnsibleHosts, source: script, script: "echo a", widget: multiselect}}]
variable_groups: [{{name: all, variables: [AnsibleHosts]}}]
work_orders:
  - name: tried
    environment: PROD
    variable_group: all
    builtin_variables: {{GitProjName: app01}}
    main_task: |
      {line}
"""


def page(language: str) -> str:
    return (ROOT / "docs" / "manual" / language / "coming-from-old.md").read_text(encoding="utf-8")


def table(language: str) -> list[tuple[str, str]]:
    """Return the first code of both columns of the table of old and new ways to write a task."""
    rows = re.findall(r"^\| `([^`]+)` \| (.+) \|$", page(language), re.MULTILINE)
    found = [(old, re.findall(r"`([^`]+)`", new)[-1]) for old, new in rows if "{AnsibleHosts}" in old]
    assert len(found) == 4
    return found


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_whole_installation_can_be_applied(command: FlaskCliRunner, language: str) -> None:
    (yaml,) = re.findall(r"```yaml\n(.*?)```", page(language), re.DOTALL)
    done = command.invoke(args=["catalog", "apply", "-"], input=yaml)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(("old", "new"), table("en"))
def test_the_old_way_is_refused_and_the_new_one_is_not(command: FlaskCliRunner, old: str, new: str) -> None:
    refused = command.invoke(args=["catalog", "apply", "-"], input=TEMPLATE.format(line=old))
    assert refused.exit_code == 1
    assert "main_task" in refused.stderr
    whole = new if not new.startswith("-e ") else f"ansible-playbook site.yml {new}"
    done = command.invoke(args=["catalog", "apply", "-"], input=TEMPLATE.format(line=whole))
    assert done.exit_code == 0, done.output


def test_both_languages_show_the_same_tasks() -> None:
    assert [old for old, _ in table("en")] == [old for old, _ in table("zh")]
    assert [new for _, new in table("en")] == [new for _, new in table("zh")]
