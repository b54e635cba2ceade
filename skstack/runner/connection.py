"""Connections to other hosts: reached in time, checked against the accepted host key, logged in to."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import io
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import fabric
import paramiko
from paramiko.common import MSG_CHANNEL_REQUEST

from skstack.messages import N_
from skstack.runner.protocol import HostKey, SshTarget
from skstack.runner.watch import RefusedError, Watch

T = TypeVar("T")

# As large as packets get, and a window that keeps a fast link busy yet bounds what waits in memory.
_PACKET = 1 << 18
_WINDOW = 8 << 20

_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")

# What paramiko has to say would go to standard error; what matters of it comes as an exception.
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False


class _Socket(socket.socket):
    """A socket that acknowledges at once while a connection is made.

    Until the first session OpenSSH's server leaves Nagle's algorithm on, and each of its small packets
    waits for the acknowledgement of the one before, which Linux would otherwise hold back for 40 ms.
    """

    _exchanges = 100

    def recv(self, *args: Any) -> bytes:
        """Receive as usual."""
        received = super().recv(*args)
        self._acknowledge()
        return received

    def send(self, *args: Any) -> int:
        """Send as usual."""
        sent = super().send(*args)
        self._acknowledge()
        return sent

    def _acknowledge(self) -> None:
        if self._exchanges:
            self._exchanges -= 1
            self.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


class Transport(paramiko.Transport):
    """A paramiko transport that is quick, and that tells how a remote command was killed."""

    on_exit: Callable[[], None] | None = None
    """Called, in the transport's thread, when a remote command has ended."""

    def __init__(self, sock: Any, disabled_algorithms: Any = None) -> None:
        super().__init__(
            sock,
            default_window_size=_WINDOW,
            default_max_packet_size=_PACKET,
            disabled_algorithms=disabled_algorithms,
        )
        options = self.get_security_options()
        options.ciphers = [c for c in _CIPHERS if c in options.ciphers] + [
            c for c in options.ciphers if c not in _CIPHERS
        ]


def connect(target: SshTarget, *, timeout: float) -> fabric.Connection:
    """Return an open connection. Raises RefusedError, with the reason, within about `timeout` seconds."""
    gateway = connect(target.gateway, timeout=timeout) if target.gateway else None
    options: dict[str, Any] = {
        **_credentials(target),
        "banner_timeout": timeout,
        "auth_timeout": timeout,
        "channel_timeout": timeout,
        "transport_factory": Transport,
    }
    if gateway is None:
        options["sock"] = _reach(target, timeout)
    try:
        connection = fabric.Connection(
            target.host,
            user=target.username,
            port=target.port,
            config=configuration(),
            gateway=gateway or False,
            connect_timeout=max(1, round(timeout)),
            connect_kwargs=options,
        )
    except ValueError as err:
        raise RefusedError(N_("%(host)s is not the name of a host.", host=target.host)) from err
    _trust_only(connection.client, target)
    try:
        connection.open()
    except RefusedError:
        raise
    except Exception as err:
        raise RefusedError(_why(err, target)) from err
    return connection


def configuration() -> fabric.Config:
    """Return Fabric's defaults: no file of the worker's account decides where an approved command goes."""
    return fabric.Config(overrides={"load_ssh_configs": False}, lazy=True)


def offered_host_key(target: SshTarget, *, timeout: float) -> HostKey:
    """Return the key the host offers, without logging in to it. Raises RefusedError with the reason."""
    if target.gateway:
        through = connect(target.gateway, timeout=timeout)
        sock = through.transport.open_channel("direct-tcpip", (target.host, target.port), ("", 0))
    else:
        sock = _reach(target, timeout)
    transport = Transport(sock)
    transport.banner_timeout = timeout
    try:
        transport.start_client(timeout=timeout)
        return _host_key(transport.get_remote_server_key())
    except Exception as err:
        raise RefusedError(_why(err, target)) from err
    finally:
        transport.close()


def aside(watch: Watch, work: Callable[[], T], *, within: float = float("inf")) -> T | None:
    """Do something that may block in a thread of its own; None if the run ended meanwhile.

    Raises TimeoutError after `within` seconds, however many steps with limits of their own it is made of.

    Resolving a name or connecting takes no notice of a signal, so the main thread does not wait in it.
    """
    done, finished = os.pipe2(os.O_CLOEXEC)
    results: list[T] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            results.append(work())
        except Exception as err:  # noqa: BLE001 - raised again in the thread that waits
            errors.append(err)
        finally:
            os.close(finished)

    threading.Thread(target=run, daemon=True).start()
    watch.add(done)
    until = time.monotonic() + within
    while not results and not errors and watch.ending is None and time.monotonic() < until:
        watch.wait(until)
    watch.remove(done)
    os.close(done)
    if errors:
        raise errors[0]
    if not results and watch.ending is None:
        raise TimeoutError
    return results[0] if results else None


class Keepalive:
    """Asks the other end again and again whether it is there; `lost` when it has not answered in time."""

    def __init__(self, transport: paramiko.Transport, *, interval: float, count: int) -> None:
        self.allowed = interval * count
        self._transport = transport
        self._interval = interval
        self._answered = time.monotonic()
        if interval > 0:
            threading.Thread(target=self._ask, daemon=True).start()

    @property
    def expires_at(self) -> float:
        """Return the moment (monotonic) after which silence means that the connection is lost."""
        return self._answered + self._interval + self.allowed if self._interval > 0 else float("inf")

    def _ask(self) -> None:
        while self._transport.is_active():
            time.sleep(self._interval)
            # Servers that do not know this request answer that they do not: an answer all the same.
            with contextlib.suppress(paramiko.SSHException, OSError, EOFError):
                self._transport.global_request("keepalive@openssh.com", wait=True)
            self._answered = time.monotonic()


def _reach(target: SshTarget, timeout: float) -> socket.socket:
    """Return a connected socket; tries every address of the name until the time is up."""
    until = time.monotonic() + timeout
    try:
        addresses = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except OSError as err:
        raise RefusedError(
            N_("%(host)s: the name cannot be resolved: %(error)s.", host=target.host, error=err.strerror)
        ) from err
    reason: OSError = TimeoutError()
    for family, kind, protocol, _, address in addresses:
        sock = _Socket(family, kind, protocol)
        sock.settimeout(max(until - time.monotonic(), 0.1))
        try:
            sock.connect(address)
        except OSError as err:
            sock.close()
            reason = err
        else:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
    raise RefusedError(_why(reason, target)) from reason


def _credentials(target: SshTarget) -> dict[str, Any]:
    if target.own_keys:
        return {"allow_agent": True, "look_for_keys": True}
    only: dict[str, Any] = {"allow_agent": False, "look_for_keys": False}
    if target.private_key:
        return {**only, "pkey": _private_key(target)}
    return {**only, "password": target.password or ""}


def _private_key(target: SshTarget) -> paramiko.PKey:
    assert target.private_key is not None
    for kind in (paramiko.Ed25519Key, paramiko.RSAKey, paramiko.ECDSAKey):
        try:
            return kind.from_private_key(io.StringIO(target.private_key), password=target.passphrase or None)
        except paramiko.PasswordRequiredException as err:
            raise RefusedError(
                N_("The private key for %(host)s needs its passphrase.", host=target.host)
            ) from err
        except Exception:  # noqa: BLE001, S112 - another kind of key, or damaged: each kind says so in its own way
            continue
    raise RefusedError(
        N_("The private key for %(host)s cannot be read, or its passphrase is wrong.", host=target.host)
    )


class _Reject(paramiko.MissingHostKeyPolicy):
    def __init__(self, target: SshTarget) -> None:
        self._target = target

    def missing_host_key(self, client: Any, hostname: str, key: paramiko.PKey) -> None:
        raise RefusedError(
            N_(
                "The host key of %(host)s is not known: it offers %(offered)s. "
                "An administrator must accept it.",
                host=self._target.host,
                offered=_host_key(key).fingerprint,
            )
        )


def _trust_only(client: paramiko.SSHClient, target: SshTarget) -> None:
    """Let the client accept the one key that an administrator accepted. Fabric would accept any."""
    client.set_missing_host_key_policy(_Reject(target))
    if target.host_key is None:
        return
    kind, _, rest = target.host_key.strip().partition(" ")
    try:
        key = paramiko.PKey.from_type_string(kind, base64.b64decode(rest.split()[0], validate=True))
    except (paramiko.SSHException, binascii.Error, IndexError, ValueError) as err:
        raise RefusedError(N_("The accepted host key of %(host)s cannot be read.", host=target.host)) from err
    name = target.host if target.port == 22 else f"[{target.host}]:{target.port}"
    client.get_host_keys().add(name, key.get_name(), key)


def _host_key(key: paramiko.PKey) -> HostKey:
    digest = base64.b64encode(hashlib.sha256(key.asbytes()).digest()).rstrip(b"=").decode()
    return HostKey(key=f"{key.get_name()} {key.get_base64()}", fingerprint=f"SHA256:{digest}")


def not_in_time(target: SshTarget) -> RefusedError:
    """Return the refusal of a host that was too slow in all."""
    return RefusedError(_why(TimeoutError(), target))


def _why(err: Exception, target: SshTarget) -> Any:
    where = {"host": target.host, "port": target.port}
    if isinstance(err, paramiko.BadHostKeyException):
        return N_(
            "The host key of %(host)s has changed: it offers %(offered)s, accepted is %(accepted)s. "
            "An administrator must accept the new key.",
            host=target.host,
            offered=_host_key(err.key).fingerprint,
            accepted=_host_key(err.expected_key).fingerprint,
        )
    if isinstance(err, paramiko.AuthenticationException):
        return N_("%(host)s refused the login of %(user)s.", host=target.host, user=target.username)
    if isinstance(err, TimeoutError):
        return N_("%(host)s:%(port)s did not answer in time.", **where)
    if isinstance(err, OSError):
        return N_("%(host)s:%(port)s cannot be reached: %(error)s.", **where, error=err.strerror or str(err))
    if target.own_keys and "authentication methods" in str(err):
        return N_("The worker has no key of its own to log in to %(host)s with.", host=target.host)
    return N_(
        "%(host)s:%(port)s does not speak SSH as it should: %(error)s.",
        **where,
        error=str(err) or type(err).__name__,
    )


def _channel_request(channel: paramiko.Channel, message: paramiko.Message) -> None:
    """Read `exit-signal`, which paramiko passes over, and leave every other request to it."""
    transport = channel.get_transport()
    start = message.packet.tell()
    kind = message.get_text()
    if kind == "exit-signal":
        message.get_boolean()
        channel.exit_status = 128 + _SIGNALS.get(message.get_text(), 0)
        channel.status_event.set()
    else:
        message.packet.seek(start)
        _paramiko_request(channel, message)
    if kind.startswith("exit-") and transport.on_exit is not None:
        transport.on_exit()


_SIGNALS = {
    "HUP": 1,
    "INT": 2,
    "QUIT": 3,
    "ILL": 4,
    "ABRT": 6,
    "FPE": 8,
    "KILL": 9,
    "USR1": 10,
    "SEGV": 11,
    "USR2": 12,
    "PIPE": 13,
    "ALRM": 14,
    "TERM": 15,
}
_paramiko_request = paramiko.Transport._channel_handler_table[MSG_CHANNEL_REQUEST]
Transport._channel_handler_table = {
    **paramiko.Transport._channel_handler_table,
    MSG_CHANNEL_REQUEST: _channel_request,
}
