"""The file of a backup: a compressed tar whose last member says what the others have to be."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from skstack.errors import SkstackError
from skstack.messages import N_

MANIFEST = "manifest.json"
FORMAT = 1
SQLITE, POSTGRESQL = "sqlite", "postgresql"
"""The database of the instance, as the manifest names it."""

SQLITE_MEMBER = "skstack.db"

# What a backup may hold, and where it goes to below the instance: nothing else is ever written.
_NAMES = re.compile(
    r"skstack\.db|tables/[a-z0-9_]{1,63}\.copy|keys/[a-z]{1,32}\.keys?|config\.toml|runs/[1-9]\d{0,17}/[a-z]{1,32}\.[a-z]{1,8}"
)
_PIECE = 1 << 20


class BackupUnusable(SkstackError):
    """A file is no backup, was changed, or does not fit here. The message says which."""

    status = 409


class Writer:
    """Puts members into the archive, and remembers what they were."""

    def __init__(self, file: IO[bytes]) -> None:
        self._tar = tarfile.open(  # noqa: SIM115 - closed by `finish`
            fileobj=file, mode="w:gz", compresslevel=3, format=tarfile.PAX_FORMAT
        )
        self._digests: dict[str, str] = {}

    def add(self, name: str, source: IO[bytes], size: int) -> None:
        """Add the first `size` bytes of a file. Raises OSError if there are fewer: it was cut meanwhile.

        Raises ValueError for a name that `unpack` would refuse: a backup that cannot be restored must not be made.
        """
        if not may_hold(name):
            raise ValueError(f"{name} cannot be in a backup")
        member = tarfile.TarInfo(name)
        member.size, member.mode = size, 0o600
        reader = _Digesting(source)
        self._tar.addfile(member, reader)
        self._digests[name] = reader.digest.hexdigest()

    def add_file(self, name: str, path: Path) -> None:
        """Add a file as it is now, up to the size that it has now: what is appended meanwhile is left out."""
        with path.open("rb") as file:
            self.add(name, file, path.stat().st_size)

    def finish(self, **facts: Any) -> None:
        """Write the manifest, with `facts` about the instance, and end the archive."""
        content = json.dumps({"format": FORMAT, **facts, "members": self._digests}, indent=1).encode()
        member = tarfile.TarInfo(MANIFEST)
        member.size, member.mode = len(content), 0o600
        self._tar.addfile(member, io.BytesIO(content))
        self._tar.close()


def may_hold(name: str) -> bool:
    """Say whether a backup can have a member of this name."""
    return _NAMES.fullmatch(name) is not None


def unpack(file: Path, folder: Path) -> dict[str, Any]:
    """Write the members of a backup into an empty folder, and return its manifest.

    Raises BackupUnusable for anything but a whole backup, as it was written: then nothing in the folder is to be used.
    """
    try:
        with tarfile.open(file, mode="r:gz") as tar:
            found = _write_members(tar, folder)
    except (tarfile.TarError, EOFError, OSError) as err:
        raise BackupUnusable(
            N_("%(file)s is no whole backup: %(error)s", file=str(file), error=str(err))
        ) from err
    digests, manifest = found
    if manifest is None or manifest.get("format") != FORMAT or manifest.get("members") != digests:
        raise BackupUnusable(
            N_(
                "%(file)s is not as it was written: it was changed or cut. Nothing was restored.",
                file=str(file),
            )
        )
    return manifest


def _write_members(tar: tarfile.TarFile, folder: Path) -> tuple[dict[str, str], dict[str, Any] | None]:
    digests: dict[str, str] = {}
    manifest = None
    for member in tar:
        source = tar.extractfile(member) if member.isreg() else None
        if source is None or manifest is not None or member.name in digests:
            raise tarfile.TarError(f"unexpected member {member.name!r}")
        if member.name == MANIFEST:
            manifest = _parsed(source.read(1 << 30))
            continue
        if not may_hold(member.name):
            raise tarfile.TarError(f"unexpected member {member.name!r}")
        target = folder / member.name
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        digest = hashlib.sha256()
        with target.open("xb") as file:
            target.chmod(0o600)
            while piece := source.read(_PIECE):
                digest.update(piece)
                file.write(piece)
        digests[member.name] = digest.hexdigest()
    return digests, manifest


def _parsed(content: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(content)
    except ValueError:
        return None
    return found if isinstance(found, Mapping) else None  # type: ignore[return-value]


class _Digesting:
    """A file whose digest grows as it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self.digest.update(piece)
        return piece
