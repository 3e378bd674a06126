"""CSV that no spreadsheet runs, and CSV as people write it."""

import csv
import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plantops_cli.formats.spreadsheet import SEPARATORS, TableError, csv_line, defuse, read_rows, undefuse

ODD = st.text(st.sampled_from("'=+-@\t\r\n ,;|\"#1.5eE\u2028\uff1d") | st.characters(exclude_categories=["Cs"]))


def cells(text: str, separator: str = ",", *, columns: int = 1) -> list[tuple[str, ...]]:
    return [tuple(cell.text for cell in row.cells) for row in read_rows(text, separator, columns=columns)]


@pytest.mark.parametrize(
    "text",
    [
        '=HYPERLINK("http://x")',
        "=1*2",
        "@SUM(1)",
        "+x",
        "-x",
        "-1+1",
        "+",
        "-",
        "\tx",
        "\rx",
        "\nx",
        " =1",
        "\uff1d1",
    ],
)
def test_a_formula_gets_an_apostrophe_before_it(text: str) -> None:
    assert defuse(text) == f"'{text}"


@pytest.mark.parametrize("text", ["-12.5", "+3", "1e5", "-1.5E-7", ".5", "-.5", "", "plant-1", "a=b", "'a", "3+4"])
def test_numbers_and_plain_text_stay_as_they_are(text: str) -> None:
    assert defuse(text) == text


def test_an_apostrophe_that_was_there_can_be_told_from_one_of_ours() -> None:
    assert (defuse("'=x"), undefuse("''=x"), undefuse("'=x"), undefuse("'x")) == ("''=x", "'=x", "=x", "'x")


@given(ODD)
@example("'-12.5")
@example("''")
def test_what_was_defused_comes_back_exactly(text: str) -> None:
    assert undefuse(defuse(text)) == text
    assert len({defuse(text), defuse(f"'{text}"), defuse(f"={text}")}) == 3


@given(st.lists(ODD, min_size=1, max_size=4))
def test_a_row_that_was_written_is_read_back_by_us_and_by_others(texts: list[str]) -> None:
    line = csv_line(["first", *texts])
    assert [undefuse(text) for text in cells(line)[0]] == ["first", *texts]
    assert next(csv.reader(io.StringIO(line, newline=""))) == ["first", *map(defuse, texts)]


def test_numbers_are_written_as_numbers_and_nothing_as_an_empty_cell() -> None:
    assert csv_line(["a", -1.5, None, True, 0]) == "a,-1.5,,True,0\n"


@pytest.mark.parametrize("separator", SEPARATORS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_table_is_read_with_its_separator_and_line_ends(separator: str, end: str) -> None:
    text = end.join([f'a{separator} "b ""x"""{separator}', f"{separator}c{separator}d", ""])
    assert cells(text, separator) == [("a", 'b "x"', ""), ("", "c", "d")]


def test_rows_know_their_line_whatever_is_in_quotes() -> None:
    rows = list(read_rows('a\n\n"b\nb\r\nb"\n# said\nc\u2028c\n', ","))
    assert [(row.line, row.cells[0].text) for row in rows] == [(1, "a"), (3, "b\nb\r\nb"), (7, "c\u2028c")]


def test_blanks_count_in_quotes_only() -> None:
    assert cells(' a ," b "\n') == [("a", " b ")]


def test_a_number_sign_begins_a_comment_unless_it_stands_in_a_whole_row() -> None:
    assert cells("# a\n b #\n#1\n") == [("b #",)]
    assert cells("#1,a\n# gone: b\n", columns=2) == [("#1", "a")]


@pytest.mark.parametrize(("text", "line"), [('a\n"b', 2), ('"a"b', 1), ('a,"b\nc', 1), ('"a\nb",c,"d', 2)])
def test_quotes_that_are_not_closed_are_refused_with_their_line(text: str, line: int) -> None:
    with pytest.raises(TableError, match="quotes are not closed") as caught:
        list(read_rows(text, ","))
    assert caught.value.line == line
