"""Which programs read text again as code, and where on their command line.

A table, because that knowledge grows: a program that is not here takes its arguments as they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from skstack.messages import N_, Message


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A program that runs the text of an option, a script file, or its standard input.

    `code` are the letters of the options whose argument is code, `takes` of those with another argument;
    `code_long` and `takes_long` the same for long options. `strict_too`: its language makes code of
    letters, digits and commas alone. `starts` finds what makes a constant text run its arguments.
    """

    safe: Message
    code: str = ""
    code_long: frozenset[str] = frozenset()
    takes: str = ""
    takes_long: frozenset[str] = frozenset()
    attached: str = ""  # letters whose argument, if any, is the rest of the word
    first_operand_is: str = "script"  # or "code", or "data"
    reads_stdin: bool = True
    strict_too: bool = False
    starts: re.Pattern[str] | None = None
    carries: str = ""  # of `takes`: those whose argument is never read as code
    carries_long: frozenset[str] = frozenset()
    opens_operands: str = ""  # letters with which a file name such as `touch x|` is run


@dataclass(frozen=True, slots=True)
class Wrapper:
    """A program that starts the command that follows its own options and `operands`.

    `code`: its options whose argument goes to a shell. `joins`: it gives the words to a shell, joined.
    """

    takes: str = ""
    takes_long: frozenset[str] = frozenset()
    operands: int = 0
    assignments: bool = False
    code: str = ""
    code_long: frozenset[str] = frozenset()
    joins: bool = False
    unless: frozenset[str] = frozenset()  # options without which it joins
    shell_if_none: bool = False
    safe: Message | None = None


SHELL_SAFE = N_("Give the value as an argument: sh -c 'probe \"$1\"' x {%(name)s}.")
_PYTHON_SAFE = N_("Give the value as an argument: python -c 'import sys; print(sys.argv[1])' {%(name)s}.")
_ARGUMENT_SAFE = N_("Put the program into a file and give it the value as an argument.")
_ENVIRONMENT_SAFE = N_(
    "Put the program into a file that reads the value from the environment variable WO_%(name)s."
)
_PERL_SAFE = N_("Read the value from the environment: perl -e 'print $ENV{WO_%(name)s}'.")
_RUBY_SAFE = N_("Read the value from the environment: ruby -e 'puts ENV[\"WO_%(name)s\"]'.")
_AWK_SAFE = N_("Read the value from the environment: awk '{ print ENVIRON[\"WO_%(name)s\"] }'.")
_SED_SAFE = N_("Use perl and the environment: perl -pe 's/old/$ENV{WO_%(name)s}/'.")
_JQ_SAFE = N_("Give the value as an argument: jq --arg v {%(name)s} '.name == $v'.")
_PSQL_SAFE = N_("Give the value as a variable: psql -v v={%(name)s} <<< \"SELECT … WHERE name = :'v'\".")

_SYSTEM = r"\b(?:system|exec\w*|eval|popen\w*|spawn\w*)\b|shell *= *True"

SHELLS = frozenset(["sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "rbash", "fish", "busybox-sh"])
_SHELL = Interpreter(
    SHELL_SAFE,
    code="c",
    code_long=frozenset({"--command", "--init-command"}),
    takes="oO",
    takes_long=frozenset({"--rcfile", "--init-file"}),
)
_PYTHON = Interpreter(
    _PYTHON_SAFE, code="c", takes="WXQ", starts=re.compile(_SYSTEM + r"|\bcompile\b|__import__")
)
_JAVASCRIPT = Interpreter(
    _ARGUMENT_SAFE,
    code="ep",
    code_long=frozenset({"--eval", "--print"}),
    takes="rC",
    takes_long=frozenset({"--require", "--import", "--loader", "--conditions"}),
    starts=re.compile(_SYSTEM + r"|\bFunction\b|child_process"),
)
_LUA = Interpreter(_ARGUMENT_SAFE, code="e", takes="l", starts=re.compile(_SYSTEM + r"|\bload"))
_SQL = Interpreter(_ENVIRONMENT_SAFE, first_operand_is="data")

INTERPRETERS: dict[str, Interpreter] = dict.fromkeys(SHELLS, _SHELL) | {
    "python": _PYTHON,
    "pypy": _PYTHON,
    "perl": Interpreter(
        _PERL_SAFE,
        code="eE",
        takes="IMmF",
        attached="0ilCDVdxF",
        strict_too=True,
        starts=re.compile(_SYSTEM + r"|\b(?:qx|open|do|require)\b|`|<>|<<>>|<ARGV>|/\w*e\w*\s*(?:;|\Z)"),
        opens_operands="np",
    ),
    "ruby": Interpreter(
        _RUBY_SAFE,
        code="e",
        takes="ICErS",
        attached="0iFKTWx",
        strict_too=True,
        starts=re.compile(_SYSTEM + r"|%x|`|\bopen\b|\bsend\b"),
        opens_operands="np",
    ),
    "node": _JAVASCRIPT,
    "nodejs": _JAVASCRIPT,
    "bun": _JAVASCRIPT,
    "php": Interpreter(
        _ARGUMENT_SAFE,
        code="rBRE",
        takes="cdfFzSt",
        code_long=frozenset({"--run", "--process-begin", "--process-code", "--process-end"}),
        starts=re.compile(_SYSTEM + r"|`|\bpassthru\b|\bassert\b|\bproc_open\b"),
    ),
    "lua": _LUA,
    "luajit": _LUA,
    "tclsh": Interpreter(_ARGUMENT_SAFE),
    "wish": Interpreter(_ARGUMENT_SAFE),
    "expect": Interpreter(_ARGUMENT_SAFE, code="c", takes="f"),
    "Rscript": Interpreter(_ARGUMENT_SAFE, code="e", starts=re.compile(_SYSTEM)),
    "R": Interpreter(_ARGUMENT_SAFE, code="e", takes="f", first_operand_is="data"),
    "julia": Interpreter(_ARGUMENT_SAFE, code="eE", code_long=frozenset({"--eval", "--print"}), takes="LpJ"),
    "groovy": Interpreter(_ARGUMENT_SAFE, code="e"),
    "elixir": Interpreter(_ARGUMENT_SAFE, code="e", code_long=frozenset({"--eval"}), takes="rSp"),
    "erl": Interpreter(_ARGUMENT_SAFE, first_operand_is="data", code_long=frozenset({"-eval"})),
    "pwsh": Interpreter(
        _ARGUMENT_SAFE,
        code="c",
        code_long=frozenset({"-Command", "-command", "-EncodedCommand", "-e", "-ec"}),
        takes_long=frozenset({"-File", "-f"}),
    ),
    "osascript": Interpreter(_ARGUMENT_SAFE, code="e", takes="ls"),
    "awk": Interpreter(
        _AWK_SAFE,
        code="e",
        code_long=frozenset({"--source"}),
        takes="FvfilEW",
        carries="Fv",
        carries_long=frozenset({"--assign", "--field-separator"}),
        takes_long=frozenset({"--assign", "--field-separator", "--file", "--include", "--load", "--exec"}),
        first_operand_is="code",
        reads_stdin=False,
        starts=re.compile(r"\bsystem\b|\bgetline\b|\|"),
    ),
    "sed": Interpreter(
        _SED_SAFE,
        code="e",
        code_long=frozenset({"--expression"}),
        takes="fl",
        takes_long=frozenset({"--file", "--line-length"}),
        attached="i",
        first_operand_is="code",
        reads_stdin=False,
        strict_too=True,
    ),
    "jq": Interpreter(
        _JQ_SAFE,
        takes="fL",
        takes_long=frozenset({"--from-file", "--indent"}),
        first_operand_is="code",
        reads_stdin=False,
    ),
    "mysql": Interpreter(
        _ENVIRONMENT_SAFE,
        code="e",
        code_long=frozenset({"--execute", "--init-command"}),
        takes="hPuDS",
        carries="hPuD",
        attached="p",
        first_operand_is="data",
    ),
    "psql": Interpreter(
        _PSQL_SAFE,
        code="c",
        code_long=frozenset({"--command"}),
        takes="fhpUdvoLFPRT",
        carries="hpUdv",
        carries_long=frozenset({"--host", "--port", "--username", "--dbname", "--set", "--variable"}),
        takes_long=frozenset(
            [
                "--file",
                "--host",
                "--port",
                "--username",
                "--dbname",
                "--set",
                "--variable",
                "--output",
                "--pset",
            ]
        ),
        first_operand_is="data",
    ),
    "sqlite3": Interpreter(_ENVIRONMENT_SAFE, first_operand_is="database", code_long=frozenset({"-cmd"})),
    "mongosh": Interpreter(_ENVIRONMENT_SAFE, code_long=frozenset({"--eval"}), first_operand_is="data"),
    "ed": _SQL,
    "m4": Interpreter(_ARGUMENT_SAFE, first_operand_is="script"),
    "dc": Interpreter(_ARGUMENT_SAFE, code="e", code_long=frozenset({"--expression"}), takes="f"),
    "gdb": Interpreter(
        _ARGUMENT_SAFE,
        code_long=frozenset({"-ex", "--ex", "--eval-command", "-iex"}),
        takes="x",
        strict_too=True,
        first_operand_is="data",
    ),
    "vim": Interpreter(
        _ARGUMENT_SAFE,
        code="c",
        code_long=frozenset({"--cmd"}),
        takes="SsuUwWT",
        first_operand_is="data",
        strict_too=True,
    ),
    "emacs": Interpreter(
        _ARGUMENT_SAFE,
        code_long=frozenset({"--eval", "-eval", "--execute"}),
        takes="lf",
        first_operand_is="data",
        takes_long=frozenset({"--load", "--funcall", "-l", "-f"}),
    ),
    "gnuplot": Interpreter(_ARGUMENT_SAFE, code="e"),
    "at": Interpreter(_ARGUMENT_SAFE, takes="fqt", first_operand_is="data"),
    "batch": _SQL,
    "crontab": Interpreter(_ARGUMENT_SAFE, takes="u"),
    "sftp": Interpreter(_ARGUMENT_SAFE, takes="bBcDFiJloPRSX", carries="iPlJ", first_operand_is="data"),
    "ftp": _SQL,
    "lftp": Interpreter(_ARGUMENT_SAFE, code="ec", takes="fup", first_operand_is="data"),
    "telnet": _SQL,
}
INTERPRETERS |= {
    "gawk": INTERPRETERS["awk"],
    "mawk": INTERPRETERS["awk"],
    "nawk": INTERPRETERS["awk"],
    "gsed": INTERPRETERS["sed"],
    "mariadb": INTERPRETERS["mysql"],
    "mongo": INTERPRETERS["mongosh"],
    "sqlite": INTERPRETERS["sqlite3"],
    "vi": INTERPRETERS["vim"],
    "nvim": INTERPRETERS["vim"],
    "view": INTERPRETERS["vim"],
    "ex": INTERPRETERS["vim"],
    "powershell": INTERPRETERS["pwsh"],
}

_SUDO_SAFE = N_("Let the command take the value itself: sudo -u user probe {%(name)s}.")

WRAPPERS: dict[str, Wrapper] = {
    "sudo": Wrapper(
        "ACcDghpRrTtUu",
        frozenset(
            [
                "--user",
                "--group",
                "--host",
                "--prompt",
                "--chdir",
                "--chroot",
                "--close-from",
                "--role",
                "--type",
            ]
        ),
        assignments=True,
        shell_if_none=True,
    ),
    "doas": Wrapper("uCa", shell_if_none=True),
    "env": Wrapper(
        "uCS",
        frozenset({"--unset", "--chdir"}),
        assignments=True,
        code="S",
        code_long=frozenset({"--split-string"}),
    ),
    "nohup": Wrapper(),
    "setsid": Wrapper(),
    "nice": Wrapper("n", frozenset({"--adjustment"})),
    "ionice": Wrapper("cnpPu", frozenset({"--class", "--classdata"})),
    "chrt": Wrapper("TPD", operands=1),
    "taskset": Wrapper(operands=1),
    "timeout": Wrapper("ks", frozenset({"--kill-after", "--signal"}), operands=1),
    "stdbuf": Wrapper("ioe", frozenset({"--input", "--output", "--error"})),
    "time": Wrapper("fo", frozenset({"--format", "--output"})),
    "command": Wrapper(),
    "builtin": Wrapper(),
    "exec": Wrapper("a"),
    "busybox": Wrapper(),
    "toybox": Wrapper(),
    "chroot": Wrapper(operands=1, shell_if_none=True),
    "unshare": Wrapper("SGR", shell_if_none=True),
    "nsenter": Wrapper("tSG", shell_if_none=True),
    "setpriv": Wrapper(),
    "prlimit": Wrapper(),
    "numactl": Wrapper("NmCipl"),
    "fakeroot": Wrapper("lsib"),
    "unbuffer": Wrapper(),
    "strace": Wrapper("abeEIOopPsSuUX"),
    "ltrace": Wrapper("aAeFlnopsuwx"),
    "systemd-run": Wrapper(
        "uptEHM",
        frozenset(
            [
                "--unit",
                "--property",
                "--slice",
                "--uid",
                "--gid",
                "--setenv",
                "--description",
                "--on-calendar",
            ]
        ),
    ),
    "systemd-inhibit": Wrapper(),
    "systemd-cat": Wrapper("tp"),
    "start-stop-daemon": Wrapper(),
    "runuser": Wrapper(
        "ugGcsw",
        code="c",
        code_long=frozenset({"--command", "--session-command"}),
        safe=_SUDO_SAFE,
        shell_if_none=True,
    ),
    "su": Wrapper(
        "cgGsw",
        code="c",
        code_long=frozenset({"--command", "--session-command"}),
        operands=99,
        safe=_SUDO_SAFE,
        shell_if_none=True,
    ),
    "flock": Wrapper(
        "wE",
        frozenset({"--timeout", "--wait", "--conflict-exit-code"}),
        operands=1,
        code="c",
        code_long=frozenset({"--command"}),
    ),
    "script": Wrapper(
        "cEIOBmT", operands=99, code="c", code_long=frozenset({"--command"}), shell_if_none=True
    ),
    "watch": Wrapper(
        "n",
        frozenset({"--interval"}),
        joins=True,
        unless=frozenset({"-x", "--exec"}),
        safe=N_("Use watch -x, which starts the command without a shell."),
    ),
    "ssh-agent": Wrapper("aEtOP"),
    "dbus-run-session": Wrapper(),
    "xvfb-run": Wrapper("efnpsw"),
    "torsocks": Wrapper(),
    "proxychains": Wrapper("f"),
    "caffeinate": Wrapper("tw"),
    "linux64": Wrapper(),
    "linux32": Wrapper(),
    "setarch": Wrapper(operands=1),
    "chpst": Wrapper("uUbeCmdoptcrf/"),
    "sshpass": Wrapper("pfdP"),
    "jobs": Wrapper(),
    "gosu": Wrapper(operands=1),
    "su-exec": Wrapper(operands=1),
    "tini": Wrapper(),
    "dumb-init": Wrapper(),
    "catchsegv": Wrapper(),
    "eatmydata": Wrapper(),
    "poetry": Wrapper(operands=1),
    "pipenv": Wrapper(operands=1),
    "uv": Wrapper(operands=1),
}

# An option, or how an argument begins, after which other programs read code or the name of a program.
_OPTION_SAFE = N_("Write this argument out, without a value in it.")
OPTIONS: dict[str, re.Pattern[str]] = {
    name: re.compile(pattern)
    for name, pattern in {
        "tar": r"--checkpoint-action|-I|--use-compress-program|--to-command|-F|--info-script|--new-volume-script"
        r"|--rsh-command|--rmt-command",
        "rsync": r"-e\b|-[a-zA-Z]*e\Z|--rsh|--rsync-path",
        "git": r"-c\b|--config-env|--exec-path|--upload-pack|--receive-pack|-u\Z|-x\Z|--exec|--extcmd|-O|--template",
        "scp": r"-S|-F|-o *(?:Proxy|Local|KnownHostsC|Include|\Z)",
        "curl": r"-K|--config",
        "wget": r"-e|--execute|--use-askpass|--config",
        "find": r"-exec|-ok|-execdir|-okdir|-fprint|-fls",
        "sort": r"--compress-program",
        "split": r"--filter",
        "zip": r"-TT|--unzip-command",
        "less": r"\+|-k|--lesskey",
        "man": r"-P|--pager|-H",
        "nc": r"-e|-c|--exec|--sh-exec|--lua-exec",
        "tcpdump": r"-z",
        "pip": r"--config-settings|--global-option",
        "kubectl": r"--kubeconfig",
        "ansible-playbook": r"-e|--extra-vars",
        "docker": r"--entrypoint",
        "helm": r"--post-renderer",
        "gcloud": r"--command",
        "vagrant": r"-c|--command",
    }.items()
}
OPTIONS |= {"bsdtar": OPTIONS["tar"], "gtar": OPTIONS["tar"], "ncat": OPTIONS["nc"], "netcat": OPTIONS["nc"]}

# Programs of which an option alone starts another program: a value there may never begin with a dash.
RISKY_OPTIONS = frozenset(OPTIONS) | frozenset(INTERPRETERS) | frozenset(WRAPPERS) | {"ssh", "xargs", "make"}


def named(message: Message | None, name: str) -> Message | None:
    """Return the message about one variable."""
    return Message(message.text, {**message.values, "name": name}) if message else None
