"""What a command prints is shown as a terminal would leave it, and never as anything but text."""

import html
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skstack.runs import colours
from skstack.runs.cells import MAX_COLUMNS
from skstack.runs.sgr import BOLD, INVERSE, PLAIN, UNDERLINE, Style
from skstack.runs.terminal import plain, render, style_after

ROOT = Path(__file__).parents[2]


def shown(raw: bytes, **kwargs) -> list[str]:
    """Return the lines as a reader sees them: without markup."""
    return [html.unescape(re.sub(r"</?span[^>]*>", "", line)) for line in render(raw, **kwargs).lines]


@pytest.mark.parametrize(
    ("raw", "left"),
    [
        (b"10%\r20%\r30%\n", "30%"),
        (b"long text\rshort\n", "shorttext"),
        (b"dos\r\n", "dos"),
        (b"dos twice\r\r\n", "dos twice"),
        (b"abc\b\bX\n", "aXc"),
        (b"\b\b\bX\n", "X"),
        (b"abc\b \b\n", "ab"),
        (b"12345\r\x1b[Kab\n", "ab"),
        (b"12345\x1b[3D\x1b[K\n", "12"),
        (b"12345\x1b[3D\x1b[1K\n", "   45"),
        (b"12345\x1b[2Kx\n", "     x"),
        (b"12345\r\x1b[2Kx\n", "x"),
        (b"ab\x1b[3Cc\n", "ab   c"),
        (b"abcdef\x1b[3GX\n", "abXdef"),
        (b"abcdef\x1b[GX\n", "Xbcdef"),
        (b"abcdef\x1b[2DX\n", "abcdXf"),
        (b"abc\x1b[99999999999999999999DX\n", "Xbc"),
        (b"a\tb\rX\n", "X       b"),
        (b"a\tb\n", "a\tb"),
        ("你好\b\bX\n".encode(), "你X"),
        ("你好\rX\n".encode(), "X 好"),
        ("e\u0301x\r\x1b[Cy\n".encode(), "e\u0301y"),
        (b"grep \x1b[01;31m\x1b[Kred\x1b[m\x1b[K end\n", "grep red end"),
    ],
)
def test_the_cursor_moves_within_its_line(raw, left):
    assert shown(raw) == [left]


@pytest.mark.parametrize(
    "raw",
    [
        b"a\x1b]0;title\x07b",
        b"a\x1b]0;title\x1b\\b",
        b"\x1b]8;;http://evil.example\x07ab\x1b]8;;\x07",
        b"a\x1bPsome device control\x1b\\b",
        b"a\x1b[2J\x1b[1A\x1b[10;10Hb",
        b"a\x1b[?25l\x1b[?1049hb",
        b"a\x1b[>4;2mb",
        b"a\x1b(B\x1b=\x1b7b",
        b"a\x07\x0e\x0fb",
        b"a\x1b\x1b[0mb",
    ],
)
def test_other_escapes_are_dropped(raw):
    rendered = render(raw + b"\n")
    assert rendered.lines == ["ab"]
    assert rendered.style == PLAIN


def test_an_escape_string_without_end_takes_its_line_and_no_more():
    assert shown(b"a\x1b]0;title\nnext\n") == ["a", "next"]


def test_other_controls_are_shown_as_signs():
    assert shown(b"a\x00b\x0bc\x7f\xc2\x9bd\n") == ["a␀b␋c␡\ufffdd"]


def test_everything_is_escaped_on_every_path():
    evil = b"<script>alert(1)</script>&amp;"
    for raw in (evil, b"\x1b[31m" + evil, b"x\r" + evil, b"\x00" + evil):
        [line] = render(raw).lines
        assert "<script" not in line
        assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;" in line


@given(st.binary(max_size=300))
def test_markup_is_only_ever_our_own(raw):
    for line in render(raw).lines:
        rest = re.sub(r'<span class="[a-z0-9 -]+">|</span>', "", line)
        assert not re.search(r"[<>\x00-\x08\x0a-\x1f\x7f]", rest)
        assert line.count("<span") == line.count("</span>")


@given(st.text(max_size=100), st.integers(0, 500))
def test_a_line_cut_anywhere_never_shows_a_broken_character(text, cut):
    raw = text.replace("\n", " ").encode("utf-8", "ignore")
    expected = raw.decode().count("\ufffd") + sum("\x80" <= c <= "\x9f" for c in raw.decode())
    [line] = render(raw[:cut], complete=False).lines
    assert line.count("\ufffd") <= expected


def test_what_is_cut_off_is_held_back_until_the_line_is_complete():
    raw = "grün".encode()[:3]
    assert shown(raw, complete=False) == ["gr"]
    assert shown(raw) == ["gr\ufffd"]
    assert shown(b"ok \x1b[3", complete=False) == ["ok "]
    assert shown(b"ok \x1b]0;ti", complete=False) == ["ok "]
    assert shown(b"50%\r", complete=False) == ["50%"]


def test_invalid_bytes_are_replaced():
    assert shown(b"a\xff\xfeb\n") == ["a\ufffd\ufffdb"]


@pytest.mark.parametrize(
    ("codes", "classes"),
    [
        (b"31", "a-fg1"),
        (b"1;31", "a-fg1 a-bold"),
        (b"91", "a-fg9"),
        (b"38;5;208", "a-fg208"),
        (b"38;2;255;135;0", "a-fg208"),
        (b"38:2::255:135:0", "a-fg208"),
        (b"38:5:208", "a-fg208"),
        (b"48;5;196", "a-bg196"),
        (b"48;2;8;8;8", "a-bg232"),
        (b"4:3", "a-underline"),
        (b"3;4;9", "a-italic a-underline a-strike"),
        (b"2", "a-dim"),
        (b"7", "a-inverse"),
        (b"7;31", "a-bg1"),
        (b"30;40", "a-bg0"),
        (b"58;5;3", ""),
        (b"38;5;999", ""),
        (b"38;2;1", ""),
        (b"38", ""),
        (b"999", ""),
        (b"31;39", ""),
        (b"1;22", ""),
        (b"41;0", ""),
    ],
)
def test_colours_and_attributes_are_classes(codes, classes):
    expected = f'<span class="{classes}">x</span>' if classes else "x"
    assert render(b"\x1b[" + codes + b"mx").lines == [expected]


def test_the_style_goes_on_in_the_next_line_and_the_next_fragment():
    first = render(b"\x1b[1;31mred\nstill\n")
    assert first.lines[1] == '<span class="a-fg1 a-bold">still</span>'
    second = render(b"more \x1b[0mplain\nplain\n", Style.from_token(first.style.token()))
    assert second.lines == ['<span class="a-fg1 a-bold">more </span>plain', "plain"]


def test_the_style_can_be_found_in_the_middle():
    raw = b"\x1b[32mone\x1b[0m\n\x1b[1mtwo\x1b[31m\x1b[K\n"
    assert style_after(raw) == render(raw).style == Style(foreground=1, flags=BOLD)
    assert style_after(b"nothing", Style(2)) == Style(2)


@given(
    st.builds(
        Style,
        st.none() | st.integers(0, 255),
        st.none() | st.integers(0, 255),
        st.integers(0, 63),
    )
)
def test_a_token_gives_its_style_back(style):
    assert Style.from_token(style.token()) == style


@pytest.mark.parametrize(
    "token", ["x", "f256", "f-1", "b1f1", "f01", "s0", "s64", "f1\n", "f١", "f1 ", "s99"]
)
def test_a_token_is_checked(token):
    with pytest.raises(ValueError, match="style token"):
        Style.from_token(token)


def test_a_long_line_is_cut_and_says_by_how_much():
    for raw in (b"x" * 25_000, b"\x1b[0m" + b"x" * 25_000, b"y\r" + b"x" * 25_000, b"\x00" + b"x" * 24_999):
        rendered = render(raw + b"\nshort\n")
        assert len(re.sub(r"<[^>]*>", "", rendered.lines[0])) == MAX_COLUMNS
        assert rendered.omitted == {0: 15_000}
        assert rendered.lines[1] == "short"


def test_a_long_line_that_was_rewritten_shows_its_end():
    raw = b"\x1b[32m" + b"".join(b"\r%d of 100000" % number for number in range(100_001))
    rendered = render(raw)
    assert rendered.lines == ['<span class="a-fg2">100000 of 100000</span>']
    assert rendered.omitted == {}


def test_wide_jumps_cost_no_memory():
    assert shown(b"a\x1b[999999999Cb\n") == ["a"]
    assert shown(b"\r\x1b[99999G\tb\n") == [""]


def test_plain_text_for_search_keeps_what_was_overwritten():
    assert plain(b"a\x1b[31mb\rc\x00\td") == "abc d"


def test_the_stylesheet_is_the_one_in_the_tree():
    stored = (ROOT / "static/css/log-colors.css").read_text(encoding="utf-8")
    assert stored == colours.stylesheet(), "run: python -m skstack.runs.colours > static/css/log-colors.css"


@given(
    st.builds(
        Style, st.none() | st.integers(0, 255), st.none() | st.integers(0, 255), st.sampled_from((0, INVERSE))
    )
)
def test_every_pair_of_colours_can_be_read(style):
    [line] = render(b"x", style).lines
    ink, ground = colours.TEXT, colours.PANE
    rules = dict(re.findall(r"\.log \.(a-[a-z0-9]+)\{([^}]*)\}", colours.stylesheet()))
    names = re.findall(r"a-[a-z0-9]+", line)
    for name in sorted(names, key=list(rules).index):
        for what, value in re.findall(r"(color|background):#([0-9a-f]{6})", rules[name]):
            colour = tuple(bytes.fromhex(value))
            ink, ground = (colour, ground) if what == "color" else (ink, colour)
    assert colours.contrast(ink, ground) >= 4.5


def test_every_colour_can_be_read_on_the_pane():
    inks = re.findall(r"\.a-fg\d+\{color:#([0-9a-f]+)\}", colours.stylesheet())
    assert len(inks) == 256
    assert {len(ink) for ink in inks} == {6}
    assert all(colours.contrast(tuple(bytes.fromhex(ink)), colours.PANE) >= 4.5 for ink in inks)


def test_true_colour_becomes_the_nearest_of_the_256():
    for index in range(16, 256):
        near = colours.nearest(*colours.palette(index))
        assert colours.palette(near) == colours.palette(index)


def test_a_thousand_plain_lines_are_rendered_at_once():
    raw = b"".join(
        b"%06d some words of ordinary output, about a hundred bytes in all %s\n" % (n, b"x" * 30)
        for n in range(1000)
    )
    render(raw)
    start = time.thread_time()
    for _ in range(10):
        assert len(render(raw).lines) == 1000
    assert (time.thread_time() - start) / 10 < 0.005


def test_underline_survives_a_colour_change():
    assert render(b"\x1b[4mx\x1b[39my").style == Style(flags=UNDERLINE)
