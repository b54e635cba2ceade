"""What tests of the catalog share: somebody who configures, and objects made by the services."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from skstack.accounts.models import Page, User
from skstack.catalog import services
from skstack.catalog.models import Environment, Variable, VariableGroup, WorkOrder
from skstack.extensions import db
from tests import factories


@pytest.fixture
def configurator(context: Flask) -> User:
    return factories.make_user("connie", pages=[Page.CONFIGURATION])


@pytest.fixture
def pages(configurator: User, client: FlaskClient) -> FlaskClient:
    """Give a client that the configurator is signed in at."""
    factories.sign_in(client, configurator)
    return client


def make_environment(name: str = "PROD", **values: Any) -> Environment:
    return services.create(Environment, {"name": name, **values}, actor=None)


def make_variable(name: str, **values: Any) -> Variable:
    return services.create(Variable, {"name": name, **values}, actor=None)


def listed(name: str, *choices: str, **values: Any) -> Variable:
    values = {"source": "list", "widget": "select", "choices": list(choices), **values}
    return make_variable(name, **values)


def scripted(name: str, script: str, **values: Any) -> Variable:
    return make_variable(name, **{"source": "script", "widget": "select", "script": script, **values})


def make_group(name: str, *variables: Variable) -> VariableGroup:
    return services.create(VariableGroup, {"name": name, "variables": list(variables)}, actor=None)


def make_workorder(*variables: Variable, name: str = "site", **values: Any) -> WorkOrder:
    """Make a work order in PROD whose form asks for `variables`."""
    environment = db.session.scalar(sa.select(Environment)) or make_environment()
    group = make_group(f"{name} form", *variables) if variables else None
    values = {"main_task": "true\n", "environment": environment, "variable_group": group, **values}
    return services.create(WorkOrder, {"name": name, **values}, actor=None)
