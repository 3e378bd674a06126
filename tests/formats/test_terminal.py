import json
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantops_cli.formats.terminal import encodable, escape, escape_lines, json_escape

UNSAFE_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}
EVERY_CHARACTER = [chr(code) for code in range(sys.maxunicode + 1)]
# Default_Ignorable_Code_Point, as far as it is none of the categories (Unicode, DerivedCoreProperties.txt)
SHOWN_AS_NOTHING = {
    *map(chr, (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2065, 0x3164, 0xFFA0)),
    *map(chr, range(0x180B, 0x1810)),
    *map(chr, range(0xFE00, 0xFE10)),
    *map(chr, range(0xFFF0, 0xFFF9)),
    *map(chr, range(0xE0000, 0xE1000)),
}
UNSAFE = [
    character
    for character in EVERY_CHARACTER
    if unicodedata.category(character) in UNSAFE_CATEGORIES or character in SHOWN_AS_NOTHING
]


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
