import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantops_cli.formats.keyvalue import pairs, quote


def shown(document: str) -> str:
    return " ".join(f"{name}={value}" if name else value for name, value in pairs(document))


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ('{"a": 1, "b": -2.50}', "a=1 b=-2.50"),
        ('{"gps":{"lat":1,"alt":{"m":2}},"x":3}', "gps.lat=1 gps.alt.m=2 x=3"),
        ('{"a":[1, 2, {"b": [3]}],"c":4}', 'a=[1,2,{"b":[3]}] c=4'),
        ('{"a":["]", "b c"],"d":1}', 'a=["]","b c"] d=1'),
        ('{"a":{},"b":{ },"c":[]}', "a={} b={} c=[]"),
        ('{"a":true,"b":null}', "a=true b=null"),
        ('[1, "a b"]', '[1,"a b"]'),
        (' "a  b" ', '"a  b"'),
        ("42", "42"),
        ("{ }", "{}"),
    ],
)
def test_objects_are_dotted_and_arrays_compact(document: str, expected: str) -> None:
    assert shown(document) == expected


@pytest.mark.parametrize("number", ["1234567890123456789012345678901234567890", "1.10", "1E+2", "-0"])
def test_digits_stay_as_sent(number: str) -> None:
    assert list(pairs(f'{{"a":{number}}}')) == [("a", number)]


def test_duplicate_keys_are_both_shown() -> None:
    assert shown('{"a":1,"a":2}') == "a=1 a=2"


@pytest.mark.parametrize("word", ["ok", "2026-11-23T20:15:02Z", "1.4.2", "größe", "日本", "a/b:c", "0x1"])
def test_a_harmless_string_is_bare(word: str) -> None:
    assert shown(json.dumps({"a": word})) == f"a={word}"


@pytest.mark.parametrize(
    "word", ["", "a b", "a=b", "a,b", "[1]", "it's", "42", "01", "-1.5e3", "true", "null", "\x1b", "\u202e"]
)
def test_a_string_that_could_be_misread_is_quoted(word: str) -> None:
    assert shown(json.dumps({"a": word})) == f'a="{word}"'


def test_a_key_that_could_be_misread_is_quoted() -> None:
    assert shown('{"a b":{"":1}}') == '"a b".""=1'


def test_quoting_keeps_the_end_of_the_text_unmistakable() -> None:
    assert quote('say "hi" \\') == r'"say \"hi\" \\"'


def test_5000_levels_are_no_deeper_than_one() -> None:
    assert list(pairs('{"a":' * 5000 + "1" + "}" * 5000)) == [(".".join("a" * 5000), "1")]
    assert list(pairs("[" * 5000 + "]" * 5000)) == [("", "[" * 5000 + "]" * 5000)]


KEYS = st.text("abc", min_size=1)
VALUES = st.integers() | st.booleans() | st.none() | st.lists(st.integers() | st.text())


@given(st.dictionaries(KEYS, VALUES, min_size=1), st.sampled_from([None, 1]))
def test_every_value_of_an_object_is_shown_under_its_key(document: dict[str, object], indent: int | None) -> None:
    found = pairs(json.dumps(document, indent=indent))
    assert {name: json.loads(value) for name, value in found} == document
