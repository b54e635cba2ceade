"""A directory server of its own: Debian's `slapd`, on loopback, with a certificate that nobody else trusts."""

from __future__ import annotations

import datetime as dt
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ldap3
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PROGRAM = shutil.which("slapd", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
BASE = "dc=example,dc=org"
PEOPLE, GROUPS = f"ou=people,{BASE}", f"ou=groups,{BASE}"
ADMIN, ADMIN_PASSWORD = f"cn=admin,{BASE}", "the administrator's"
SEARCHER, SEARCHER_PASSWORD = f"cn=searcher,{BASE}", "the searcher's"

_CONFIGURATION = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
pidfile {folder}/slapd.pid
TLSCACertificateFile {folder}/ca.pem
TLSCertificateFile {folder}/server.pem
TLSCertificateKeyFile {folder}/server.key
# As careless as servers can be: a bind with a name and no password goes well, as somebody anonymous.
allow bind_anon_cred
database mdb
suffix "{base}"
rootdn "{admin}"
rootpw "{password}"
directory {folder}/data
overlay memberof
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{searcher}" read by * none
"""


class Slapd:
    """A running directory with people, groups and an entry that may search."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.tls_port = _free_port(), _free_port()
        self.ca_file = folder / "ca.pem"
        _make_certificates(folder)
        (folder / "data").mkdir()
        text = _CONFIGURATION.format(
            folder=folder, base=BASE, admin=ADMIN, password=ADMIN_PASSWORD, searcher=SEARCHER
        )
        (folder / "slapd.conf").write_text(text, encoding="utf-8")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"ldap://localhost:{self.port}"

    @property
    def tls_url(self) -> str:
        return f"ldaps://localhost:{self.tls_port}"

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        assert PROGRAM, "asked for by the fixture"
        addresses = f"ldap://127.0.0.1:{self.port}/ ldaps://127.0.0.1:{self.tls_port}/"
        with (self.folder / "slapd.log").open("ab") as log:
            self.process = subprocess.Popen(
                [PROGRAM, "-f", str(self.folder / "slapd.conf"), "-h", addresses, "-d", "0"],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.tls_port), 1).close()
                return
            except OSError:
                said = (self.folder / "slapd.log").read_text(errors="replace")
                assert self.process.poll() is None, said
                assert time.monotonic() < deadline, said
                time.sleep(0.05)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
            self.process = None

    def fill(self) -> None:
        """Add the roots, the searching entry, and what the tests begin with."""
        self.add(BASE, ["domain", "top"], dc="example")
        self.add(PEOPLE, "organizationalUnit")
        self.add(GROUPS, "organizationalUnit")
        self.add(SEARCHER, ["organizationalRole", "simpleSecurityObject"], userPassword=SEARCHER_PASSWORD)

    def add_person(self, name: str, password: str = "", **attributes: str) -> str:
        """Add a person called `name` and return the DN. Without a password nobody can bind as them."""
        dn = f"uid={name},{PEOPLE}"
        given = {"cn": name.capitalize(), "sn": name, "mail": f"{name}@example.org", **attributes}
        self.add(dn, "inetOrgPerson", **given, **({"userPassword": password} if password else {}))
        return dn

    def add_group(self, name: str, *members: str) -> str:
        """Add a group of entries and return its DN."""
        dn = f"cn={name},{GROUPS}"
        self.add(dn, "groupOfNames", member=list(members))
        return dn

    def add(self, dn: str, kind: str | list[str], **attributes: str | list[str]) -> None:
        with self.administrator() as connection:
            assert connection.add(dn, kind, attributes), connection.result

    def change(self, dn: str, **attributes: list[str]) -> None:
        with self.administrator() as connection:
            changes = {name: [(ldap3.MODIFY_REPLACE, values)] for name, values in attributes.items()}
            assert connection.modify(dn, changes), connection.result

    def delete(self, dn: str) -> None:
        with self.administrator() as connection:
            assert connection.delete(dn), connection.result

    @contextmanager
    def administrator(self) -> Iterator[ldap3.Connection]:
        """Give a connection that may do everything."""
        server = ldap3.Server("127.0.0.1", self.port, get_info=ldap3.NONE)
        connection = ldap3.Connection(server, ADMIN, ADMIN_PASSWORD, auto_bind=True)
        try:
            yield connection
        finally:
            connection.unbind()


def slapd_or_skip() -> None:
    """Skip unless the server is installed."""
    if PROGRAM is None or not Path("/etc/ldap/schema/inetorgperson.schema").exists():
        pytest.skip("slapd is not installed: apt-get install slapd")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _make_certificates(folder: Path) -> None:
    now = dt.datetime.now(dt.UTC)
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = _name("an authority of the tests")
    builder = x509.CertificateBuilder().not_valid_before(now - dt.timedelta(days=1))
    builder = builder.not_valid_after(now + dt.timedelta(days=1)).issuer_name(authority)
    authority_id = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())
    root = (
        builder.subject_name(authority)
        .public_key(authority_key.public_key())
        .serial_number(1)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(authority_id, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    server = (
        builder.subject_name(_name("localhost"))
        .public_key(key.public_key())
        .serial_number(2)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority_id), critical=False
        )
        .sign(authority_key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(root.public_bytes(serialization.Encoding.PEM))
    (folder / "server.pem").write_bytes(server.public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
