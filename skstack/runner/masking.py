"""Keeps secrets out of what steps print, before it is stored anywhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

from skstack.runner.protocol import Request

Take = Callable[[memoryview], None]

MASK = b"********"

SHORTEST = 4
"""Characters of the shortest secret that is masked: shorter ones stand everywhere, and masks would tell where."""

_HEAD = 8
_IN_DOUBLE_QUOTES = re.compile(r'(["$`\\])')
_CONTROL = {"\t": r"\t", "\n": r"\n", "\\": r"\\", "'": r"\'"}


def forms_of(request: Request) -> tuple[bytes, ...]:
    """Return the texts that must not be stored of a request's output, the longest first; none without secrets."""
    return forms(request.environment[name] for name in request.secrets)


def forms(secrets: Iterable[str]) -> tuple[bytes, ...]:
    """Return these secrets, and each line of them, as commands print them: as they are, and as a shell quotes them.

    Blanks at the ends do not count. Texts of less than `SHORTEST` characters are left out.
    """
    texts = {text.strip() for secret in secrets for text in (secret, *secret.split("\n"))}
    found = {form for text in texts if len(text) >= SHORTEST for form in _written(text)}
    return tuple(sorted(found, key=lambda form: (-len(form), form)))


def _written(text: str) -> set[bytes]:
    """Return a text as it is, and as bash writes it in messages, after `set -x`, `export -p` and `declare -p`."""
    quoted = "".join(_CONTROL.get(c) or (c if c.isprintable() else _octal(c)) for c in text)
    written = {
        text,
        text.replace("\n", "\r\n"),  # A terminal's end of line.
        text.replace("'", "'\\''"),
        text.replace("'", "'\"'\"'"),  # So skstack itself sends it to another host's shell.
        _IN_DOUBLE_QUOTES.sub(r"\\\1", text),
        quoted,
        "".join(c if c.isascii() else _octal(c) for c in quoted),  # In the C locale.
        "".join("\\" + c for c in text),  # On the right of `[[ … == "$V" ]]`.
    }
    bytewise = b"".join(b"\\%c" % byte for byte in text.encode())  # There, in the C locale.
    return {bytewise, *(form.encode() for form in written)}


def _octal(character: str) -> str:
    return "".join(f"\\{byte:03o}" for byte in character.encode())


class Masked:
    """Takes the pieces of one stream and passes them on with `MASK` for each secret, however they are cut.

    The result is that of one replacement over the whole stream: leftmost first, of several there the longest.
    Held back is only what may be the beginning of a secret, at the end of what has come.
    """

    def __init__(self, forms: tuple[bytes, ...], take: Take) -> None:
        """`forms` are what the function of that name returns: the longest first, and at least one."""
        self._forms = forms
        self._take = take
        self._beginnings = _beginnings(forms)
        self._held = b""

    def __call__(self, piece: memoryview) -> None:
        """Pass on what is certain now."""
        data = self._held + piece
        found = tuple(form for form in self._forms if form in data)
        if found:
            passed, self._held = self._masked(data, found)
            self._pass_on(passed)
        else:
            end = self._first_beginning(data)
            self._held = data[end:]
            self._pass_on(memoryview(data)[:end])

    def finish(self) -> None:
        """Pass on what was held back: nothing more comes that could make a secret of it."""
        rest, self._held = self._held, b""
        self._pass_on(_pattern(self._forms).sub(MASK, rest))

    def _pass_on(self, piece: bytes | memoryview) -> None:
        if piece:
            self._take(memoryview(piece))

    def _masked(self, data: bytes, found: tuple[bytes, ...]) -> tuple[bytes, bytes]:
        """Return the part of `data` that is certain, masked, and the rest. Only `found` of all secrets stand in it."""
        pattern = _pattern(found)
        certain = max(len(data) - len(self._forms[0]) + 1, 0)
        parts, at = pattern.split(data), len(data)  # Text and secrets in turn.
        while at > certain:
            at -= len(parts.pop())
        parts[1::2] = [MASK] * (len(parts) // 2)
        end = at + self._first_beginning(data[at:])
        for match in pattern.finditer(data, at):
            if match.start() >= end:
                break
            parts += [data[at : match.start()], MASK]
            at = match.end()
            if at > end:
                end = at + self._first_beginning(data[at:])
        parts.append(data[at:end])
        return b"".join(parts), data[end:]

    def _first_beginning(self, data: bytes) -> int:
        """Return from where on `data` is the beginning of a secret, but not all of it; its length if nowhere."""
        at = max(len(data) - len(self._forms[0]) + 1, 0)
        while found := self._beginnings.search(data, at):
            at = found.start()
            rest = data[at:]
            if any(len(rest) < len(form) and form.startswith(rest) for form in self._forms):
                return at
            at += 1
        return len(data)


def start_of(output: bytes, forms: tuple[bytes, ...], *, is_whole: bool) -> bytes:
    """Return the start of an output, masked. Of more than that, half a secret at its end is left out too."""
    if not forms:
        return output
    masked = bytearray()
    masker = Masked(forms, masked.extend)
    masker(memoryview(output))
    if is_whole:
        masker.finish()
    return bytes(masked)


@lru_cache(maxsize=16)
def _pattern(found: tuple[bytes, ...]) -> re.Pattern[bytes]:
    return re.compile(b"(" + b"|".join(map(re.escape, found)) + b")")


def _beginnings(forms: tuple[bytes, ...]) -> re.Pattern[bytes]:
    """Return what finds each place that may be a beginning: `_HEAD` bytes of one, or fewer at the end of the data."""
    heads = {form[:_HEAD] for form in forms}
    ends = sorted({head[:size] for head in heads for size in range(1, len(head))})
    return re.compile(
        b"|".join([*map(re.escape, sorted(heads)), b"(?:" + b"|".join(map(re.escape, ends)) + rb")\Z"])
    )
