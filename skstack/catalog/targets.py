"""Where commands run, as the runner wants to be told."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

from flask import current_app

from skstack.catalog.models import ConfigCenter, Login
from skstack.runner.protocol import CaptureRequest, LocalTarget, PlanStep, SshTarget, Target, Task


def target_of(config_center: ConfigCenter | None) -> Target:
    """Return the target with its credentials: the worker's own host where no config center is chosen."""
    if config_center is None:
        return LocalTarget()
    return ssh_target(config_center)


def ssh_target(config_center: ConfigCenter) -> SshTarget:
    """Return how to reach a config center and sign in to it. Only its accepted key is trusted."""
    with_key = config_center.login == Login.KEY
    return SshTarget(
        host=config_center.host,
        port=config_center.port,
        username=config_center.username,
        host_key=config_center.host_key,
        password=config_center.password if config_center.login == Login.PASSWORD else None,
        private_key=config_center.private_key if with_key else None,
        passphrase=config_center.passphrase if with_key else None,
        own_keys=config_center.login == Login.AGENT,
    )


def capture_request(
    target: Target, scripts: Sequence[tuple[str, str]], *, environment: Mapping[str, str] | None = None
) -> CaptureRequest:
    """Return a request to run lines and read what they print. `scripts` are pairs: as shown, as the shell gets it."""
    settings = current_app.config["SKSTACK"]
    return CaptureRequest(
        steps=tuple(
            PlanStep(position=position, task=Task.PRE, line=line, script=script)
            for position, (line, script) in enumerate(scripts)
        ),
        target=target,
        token=f"capture.{secrets.token_hex(8)}",
        environment=dict(environment or {}),
        base_environment=dict(settings.run_environment),
        working_directory=settings.working_directory or None,
        time_limit=settings.script_timeout,
        output_limit=settings.script_output_limit,
        connect_timeout=min(settings.connect_timeout, settings.script_timeout),
        keepalive=settings.keepalive,
    )
