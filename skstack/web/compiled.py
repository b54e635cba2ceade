"""Templates as they were compiled, kept in the instance: compiling one takes ten times as long as rendering it."""

from __future__ import annotations

import contextlib
from pathlib import Path

from flask import Flask
from jinja2.bccache import Bucket, FileSystemBytecodeCache


class CompiledTemplates(FileSystemBytecodeCache):
    """Compiled templates in a folder, by a digest of their source. A page never fails for want of the folder."""

    def load_bytecode(self, bucket: Bucket) -> None:
        with contextlib.suppress(OSError):
            super().load_bytecode(bucket)

    def dump_bytecode(self, bucket: Bucket) -> None:
        with contextlib.suppress(OSError):  # A full disk, say.
            super().dump_bytecode(bucket)


def init_app(app: Flask, folder: Path) -> None:
    """Keep what is compiled in `folder`, which only skstack may write to: it holds code."""
    folder.mkdir(exist_ok=True, mode=0o700)
    app.jinja_env.bytecode_cache = CompiledTemplates(str(folder))
