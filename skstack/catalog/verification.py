"""*Verify* on a config center: its key to be accepted once, then a command that shows that all of it works."""

from __future__ import annotations

from dataclasses import dataclass

from flask import current_app

from skstack.audit.services import Actor
from skstack.catalog import services, targets
from skstack.catalog.choices import last_lines
from skstack.catalog.models import ConfigCenter
from skstack.extensions import db
from skstack.hosting import runner_host
from skstack.messages import N_, Message
from skstack.runner.client import HostKeyUnavailable, RunnerUnavailable
from skstack.runner.protocol import HostKey, Outcome


@dataclass(frozen=True, slots=True)
class Verified:
    """What came of it: the time that the host printed, a key to be accepted first, or an error.

    `changed` says that the offered key is another than the accepted one.
    """

    time: str = ""
    offered: HostKey | None = None
    changed: bool = False
    error: Message | None = None


def verify(center: ConfigCenter, *, actor: Actor | None) -> Verified:
    """Connect to a config center and run `date`. Takes at most `connect_timeout` and `script_timeout`.

    Returns the host's key where none was accepted yet, or where it offers another. Not to be called inside
    `transaction()`.
    """
    db.session.commit()  # Nothing is read while the host is asked.
    settings = current_app.config["SKSTACK"]
    target = targets.ssh_target(center)
    try:
        offered = runner_host().host_key(target, timeout=settings.connect_timeout)
        if offered.key != center.host_key:
            return Verified(offered=offered, changed=center.host_key is not None)
        captured = runner_host().capture(targets.capture_request(target, [("date", "date")]))
    except HostKeyUnavailable as err:
        return Verified(error=err.reason)
    except RunnerUnavailable as err:
        current_app.logger.error("a config center was not verified: %s", err)
        return Verified(error=N_("The connection could not be tried. Tell whoever runs skstack."))
    if captured.outcome == Outcome.TIMED_OUT:
        seconds = f"{settings.script_timeout:g}"
        return Verified(
            error=N_("The host did not run the command date within %(seconds)s s.", seconds=seconds)
        )
    if captured.outcome != Outcome.FINISHED:
        return Verified(error=captured.reason or N_("The connection was lost."))
    if captured.exit_code != 0:
        said = last_lines(captured.stderr) or last_lines(captured.stdout)
        return Verified(
            error=N_(
                "The command date failed with exit code %(code)s: %(said)s",
                code=captured.exit_code,
                said=said,
            )
        )
    time = last_lines(captured.stdout, lines=1)
    services.note_verified(center, actor=actor, time=time)
    return Verified(time=time)
