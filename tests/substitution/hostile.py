"""Values that break programs which paste text into commands. `evil` and `touch C` must never run."""

from __future__ import annotations

from skstack.substitution import Variable

# The table in the design, and below it what aims at single places: arithmetic, arrays, options, patterns.
DESIGN = [
    "a  b", "x; touch C #", "$(touch C)", "`touch C`", "'; touch C; '", '"; touch C; "',
    "x && touch C", "x | touch C", "/etc/pass*", "~root", "$HOME", "a\\", "\\\\n", "",
    "a[$(touch C)]", "{V}{Other}", "!!", "#x", "%s%n", "中文 é", "\\'; touch C #", "{a,b}", "A=1",
    "x\ntouch C\n#", "a\n", "a\nEOF\ntouch C\ncat <<EOF\n",
]  # fmt: skip
MORE = [
    "evil", "$(evil)", "a[$(evil)]", "([0]=$(evil))", "x=$(evil)", "evil|", "|evil", "}; evil; {", ")\nevil\n(",
    "\tevil\t", "*", "?", "[", "]", "~", "~/", "\\", '"', "'", "`", "$", "${HOME}", "$((1+1))", "${WO_V}",
    "EOF", "\\\n", "\x20", " lead", "trail ", "a\t\tb", "@(a|b)", "1e9", "\u202ereversed", "a\u00a0b", "😀",
    "$'\\x41'", "<(evil)", ">C", "2>&1", "&", ";", "||evil", "(evil)", "{evil,}", "a=(b)", "\n", "\n\n",
    "%", "x" * 5000, "'\"'\"'", "\\\"", "$(evil)\\", "é" * 300,
]  # fmt: skip
VALUES = DESIGN + MORE

VARIABLES = {
    variable.name: variable
    for variable in (
        Variable("V"),
        Variable("W"),
        Variable("Strict", strict=True),
        Variable("Secret", secret=True),
        Variable("Hosts", one_argument_each=True),
        Variable("Dash", allow_leading_dash=True),
        Variable("sk__name", strict=True),
    )
}
