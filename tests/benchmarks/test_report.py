"""What is done with the figures: percentiles, ratios, tables, the chart."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import report
from benchmarks.chart import Bar, draw
from benchmarks.latency import percentile
from benchmarks.measure import Comparison, Section, amount

COMPARISON = Comparison("CPU per message, QoS 0", "a | b", ((1.0, 4.0), (3.0, 6.0), (2.0, 4.0)), "µs", 0.4)


@pytest.mark.parametrize(("percent", "expected"), [(0.1, 1), (50, 500), (99, 990), (99.9, 999), (100, 1000)])
def test_a_percentile_is_a_value_that_was_measured(percent: float, expected: int) -> None:
    assert percentile([float(value) for value in range(1, 1001)], percent) == expected


def test_the_only_value_is_every_percentile() -> None:
    assert percentile([7.0], 50) == percentile([7.0], 99.9) == 7.0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0512, "0.051"),
        (1.234, "1.23"),
        (12.34, "12.3"),
        (123.4, "123"),
        (123456.7, "123,457"),
        (-12.34, "-12.3"),
    ],
)
def test_an_amount_has_three_digits(value: float, text: str) -> None:
    assert amount(value) == text
    assert amount(value, "µs") == f"{text} µs"


def test_a_comparison_is_judged_by_the_median_of_its_ratios() -> None:
    expected = ("2.00 µs", "4.00 µs", "0.50", "0.25 to 0.50", "0.40, missed")
    assert report.cells(COMPARISON)[2:] == expected


def test_the_page_says_what_was_missing_and_what_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "PAGE", tmp_path / "performance.md")
    monkeypatch.setattr(report, "CHART", tmp_path / "performance.svg")
    section = Section(
        "Flood", "By turns.", (COMPARISON,), missing=("x: not measured: no npm",), failures=("y fell",)
    )
    page = report.write([section]).read_text()
    assert "| CPU per message, QoS 0 | a \\| b | 2.00 µs | 4.00 µs |" in page
    assert "x: not measured: no npm\n\nFailed: y fell\n" in page
    assert "(performance.svg)" in page
    assert ElementTree.parse(tmp_path / "performance.svg").getroot().get("width") == "720"


def test_a_renewed_section_takes_the_place_of_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "performance.md"
    monkeypatch.setattr(report, "PAGE", page)
    page.write_text("# Performance\n\nBy turns.\n\n## Flood\n\nOld.\n\n## Latency\n\nKept.\n")
    report.renew([Section("Flood", "New."), Section("Libraries", "First.")])
    texts = page.read_text().split("\n\n")
    assert [texts[0], *texts[2:4]] == ["# Performance", "## Flood", texts[3]]
    assert texts[3].endswith(", apart from the rest.")
    assert texts[4:7] == ["New.", "## Latency", "Kept."]
    assert (texts[7], texts[9]) == ("## Libraries", "First.\n")


def test_bars_are_as_long_as_their_values() -> None:
    drawn = ElementTree.fromstring(draw("a < b", [Bar("one", 10, is_ours=True), Bar("a & b", 5)]))
    _, longest, half = (float(rect.get("width", 0)) for rect in drawn.findall("{*}rect"))
    assert half / longest == pytest.approx(0.5, abs=0.01)
    assert [text.text for text in drawn.findall("{*}text")] == ["a < b", "one", "10.0", "a & b", "5.00"]
