"""What is sent to a bash on another host: one script that runs a step, one that ends it."""

from __future__ import annotations

import shlex

from skstack.runner.protocol import TOKEN_VARIABLE, Request
from skstack.substitution.remote import remote_script

_MARK = b"\x1eskstack "
_HELD = 64 * 1024


def step_script(request: Request, script: str) -> str:
    """Return what runs a step when it comes on bash's standard input.

    Nothing of it shows in `ps`; a command that reads standard input does not get it; a part of it does not
    run. Its first output is a line that tells its process id, which `Header` takes out again.
    """
    lines = [f"export {TOKEN_VARIABLE}={shlex.quote(request.token)}"]
    if request.working_directory is not None:
        lines.append(f"cd -- {shlex.quote(request.working_directory)} || exit 1")
    if request.pty:
        lines.append("stty sane")
    lines.append(f"printf '\\036skstack %s %s\\n' {shlex.quote(request.token)} $$")
    return "\n".join(lines) + "\n" + remote_script(script, request.environment)


def pty_shell(size: int) -> str:
    """Return the command that reads a script of so many bytes from a terminal without echoing it."""
    return (
        "stty raw -echo && printf '\\036skstack ready\\n' && "
        f"exec bash --noprofile --norc -c 'eval \"$(head -c {size})\"'"
    )


def ending_script(*, token: str, pid: int, grace: float) -> str:
    """Return what ends a step: SIGTERM, and after `grace` seconds SIGKILL, to all that belongs to it.

    That is whatever stands below its shell or in its session or group, now or when first looked at, and what
    carries the run's token in its environment. Exits with the number that could not be ended. On a host
    without Linux's /proc only the group is signalled.
    """
    return _ENDING % {
        "mark": shlex.quote(f"{TOKEN_VARIABLE}={token}"),
        "pid": pid,
        "grace": round(grace * 1000),
    }


class Header:
    """Takes the first line of a step's script out of its output; `pid` is set once it has come."""

    def __init__(self, token: str) -> None:
        self.pid = 0
        self._mark = _MARK + token.encode() + b" "
        self._held = bytearray()
        self._open = True

    def strip(self, chunk: bytes) -> bytes:
        """Return what of this piece, and of what was held back before it, belongs to the output."""
        if not self._open:
            return chunk
        self._held += chunk
        start = self._held.find(self._mark)
        end = self._held.find(b"\n", start) if start >= 0 else -1
        if end < 0:
            return self.rest() if len(self._held) > _HELD else b""
        self.pid = int(self._held[start + len(self._mark) : end].strip() or 0)
        del self._held[start : end + 1]
        return self.rest()

    def rest(self) -> bytes:
        """Return what is held back still: no header comes any more."""
        self._open = False
        held = bytes(self._held)
        self._held.clear()
        return held


_ENDING = r"""
mark=%(mark)s; pid=%(pid)d; grace=%(grace)d
if [ ! -r /proc/self/environ ]; then
  [ "$pid" -gt 1 ] || exit 0
  kill -TERM -- "-$pid" 2>/dev/null
  i=0
  while kill -0 -- "-$pid" 2>/dev/null && [ "$i" -le $((grace / 1000)) ]; do sleep 1; i=$((i + 1)); done
  kill -KILL -- "-$pid" 2>/dev/null
  exit 0
fi
declare -A since
now() {
  if [ -n "$EPOCHREALTIME" ]; then local t=${EPOCHREALTIME/[.,]/}; NOW=${t%%???}
  else NOW=$((SECONDS * 1000));
  fi
}
look() {
  local -A parent group session start marked
  local files line id rest changed=1 field
  set +f; files=(/proc/[0-9]*/stat); set -f
  while IFS= read -r line; do
    id=${line%%%% *}; rest=${line##*) }; field=($rest)
    case $id${field[0]} in *[!0-9][!0-9]*|*Z|*X) continue;; esac
    parent[$id]=${field[1]} group[$id]=${field[2]} session[$id]=${field[3]} start[$id]=${field[19]}
  done < <(cat "${files[@]}" 2>/dev/null)
  set +f; files=(/proc/[0-9]*/environ); set -f
  while IFS=/ read -r _ _ id _; do
    marked[$id]=1
  done < <(grep -lzxsF -e "$mark" -- "${files[@]}" 2>/dev/null)
  for id in "${!since[@]}"; do [ "${start[$id]-}" = "${since[$id]}" ] || unset "since[$id]"; done
  while [ "$changed" = 1 ]; do
    changed=0
    for id in "${!parent[@]}"; do
      [ -n "${since[$id]-}" ] && continue
      case $id in 0|1|$$|$PPID) continue;; esac
      if [ -n "${marked[$id]-}" ] || [ -n "${since[${parent[$id]}]-}" ] || { [ "$pid" -gt 1 ] && {
         [ "$id" = "$pid" ] || [ "${session[$id]}" = "$pid" ] || [ "${group[$id]}" = "$pid" ]; }; }; then
        since[$id]=${start[$id]}; changed=1
      fi
    done
  done
}
rest() { sleep "$1" 2>/dev/null || sleep 1; }
now; term_until=$((NOW + grace)); kill_until=$((NOW + grace + 1500)); first=1
while :; do
  look
  [ "${#since[@]}" = 0 ] && exit 0
  now
  if [ "$NOW" -ge "$kill_until" ]; then exit $((${#since[@]} > 99 ? 99 : ${#since[@]})); fi
  if [ "$NOW" -ge "$term_until" ]; then
    kill -STOP "${!since[@]}" 2>/dev/null; kill -KILL "${!since[@]}" 2>/dev/null; rest 0.02
  else
    [ "$first" = 0 ] || kill -TERM "${!since[@]}" 2>/dev/null
    [ "$first" = 0 ] || kill -CONT "${!since[@]}" 2>/dev/null
    first=0
    rest 0.1
  fi
done
"""
