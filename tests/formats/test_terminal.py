import json
import sys
import unicodedata
from itertools import product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plantops_cli.formats.terminal import encodable, escape, escape_lines, escape_name, json_escape

UNSAFE_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp", "Zs"}
EVERY_CHARACTER = [chr(code) for code in range(sys.maxunicode + 1)]
# Default_Ignorable_Code_Point, as far as it is none of the categories (Unicode, DerivedCoreProperties.txt)
SHOWN_AS_NOTHING = {
    *map(chr, (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2065, 0x3164, 0xFFA0)),
    *map(chr, range(0x180B, 0x1810)),
    *map(chr, range(0xFE00, 0xFE10)),
    *map(chr, range(0xFFF0, 0xFFF9)),
    *map(chr, range(0xE0000, 0xE1000)),
}
# signs that fonts draw blank, though they are no spaces
DRAWN_BLANK = {*map(chr, (0x2800, 0xFFFC, 0x1107F, 0x13441, 0x13442, 0x16FE4, 0x1D159))}
UNSAFE = [
    character
    for character in EVERY_CHARACTER
    if (unicodedata.category(character) in UNSAFE_CATEGORIES and character != " ")
    or character in SHOWN_AS_NOTHING
    or character in DRAWN_BLANK
]
# what may make two names look alike: blanks, what is not seen, backslashes and what stands behind them, accents
ODD_NAMES = st.text(
    st.sampled_from(
        " \\ntxuU20\n\t\x1b\xa0ae\u0301\u0308\u00e9\u200b\u2800\u3164\ufe0f\u1100\u1161\uac00\u212b\ue000"
    )
    | st.characters(),
    max_size=8,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\0\x07\x7f\x9b", r"\x00\x07\x7f\x9b"),
        ("\u061c\u200e\u202e\u2066\u2028", r"\u061c\u200e\u202e\u2066\u2028"),
        ("\ud800\udcff", r"\ud800\udcff"),
        ("\ufeff\u200d\U000e0041", r"\ufeff\u200d\U000e0041"),
        ("a\u3164\ufe0f\U000e0100", r"a\u3164\ufe0f\U000e0100"),
        ("\u115f\u1160\uffa0\u034f\u180b\u2800", r"\u115f\u1160\uffa0\u034f\u180b\u2800"),
        ("a\u00a0b\u2003c\u3000d e", r"a\xa0b\u2003c\u3000d e"),
    ],
)
def test_what_commands_the_terminal_or_is_unseen_becomes_visible(text: str, shown: str) -> None:
    assert escape(text) == shown


def test_lines_stay_lines_and_are_escaped_within() -> None:
    assert escape_lines("a\x1b\n\u2028b\r\n") == "a\\x1b\n\\u2028b\\r\n"


def test_what_stands_for_other_bytes_can_be_written_as_an_escape() -> None:
    assert encodable("a\udcff\ud800ü\x1b").encode() == "a\\udcff\\ud800ü\x1b".encode()


def test_no_character_that_commands_or_shows_as_nothing_passes() -> None:
    assert [character for character in UNSAFE if character in escape(character)] == []


def test_every_assigned_character_with_a_look_of_its_own_passes() -> None:
    safe = set(EVERY_CHARACTER) - set(UNSAFE)
    assigned = [character for character in safe if unicodedata.category(character) != "Cn"]
    assert [character for character in assigned if escape(character) != character] == []


@pytest.mark.parametrize("text", ["", "größe", "日本語", "🌱🪴", "e\u0301", r"C:\temp", "[bold]"])
def test_printable_text_is_unchanged(text: str) -> None:
    assert escape(text) == text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plant 1", "plant 1"),
        (" a  ", r"\x20a\x20\x20"),
        ("  ", r"\x20\x20"),
        (r"C:\plant", r"C:\plant"),
        (r"a\x1b", r"a\\x1b"),
        ("a\\\x1b", r"a\\\x1b"),
        ("gr\u00f6\u00dfe", "gr\u00f6\u00dfe"),
        ("gro\u0308\u00dfe", r"gro\u0308\xdfe"),
        ("\ue000\u0378", r"\ue000\u0378"),
    ],
)
def test_a_name_shows_all_that_it_is_made_of(name: str, shown: str) -> None:
    assert escape_name(name) == shown


@given(ODD_NAMES, ODD_NAMES)
@example(r"a\n", "a\n")
@example("a\\", "a\\ ")
@example("\u00e9", "e\u0301")
@example("\uac00", "\u1100\u1161")
@example("\u00c5", "\u212b")
def test_names_that_differ_never_look_alike(one: str, other: str) -> None:
    shown = [unicodedata.normalize("NFC", escape_name(name)) for name in (one, other)]
    assert (shown[0] == shown[1]) is (one == other)
    for each in shown:
        assert each.isprintable()
        assert each == each.strip()
        assert escape(each) == each


def test_of_all_short_names_with_odd_parts_no_two_look_alike() -> None:
    parts = (" ", "\\", "n", "\n", "e", "\u00e9", "\u0301", "x20", "\u200b")
    names = {"".join(chosen) for length in range(5) for chosen in product(parts, repeat=length)}
    assert len({unicodedata.normalize("NFC", escape_name(name)) for name in names}) == len(names)


def test_escaped_json_holds_no_unsafe_character_and_the_same_value() -> None:
    value = "".join(character for character in UNSAFE if unicodedata.category(character) != "Cs")
    escaped = json_escape(json.dumps(value, ensure_ascii=False).encode())
    assert json.loads(escaped) == value
    assert escape(escaped.decode()) == escaped.decode()


def test_white_space_between_json_tokens_stays() -> None:
    assert json_escape('{\t"ü\x9b":\t1}\n'.encode()) == '{\t"ü\\u009b":\t1}\n'.encode()


def test_a_character_beyond_16_bits_becomes_a_surrogate_pair() -> None:
    assert json_escape('"\U000e0041"'.encode()) == rb'"\udb40\udc41"'


@given(st.text())
def test_escaping_json_never_changes_its_value(text: str) -> None:
    line = json.dumps(text, ensure_ascii=False).encode() + b"\n"
    assert json.loads(json_escape(line)) == text
