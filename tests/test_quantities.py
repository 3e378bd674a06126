"""Times, sizes and ports: what people write, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantops_cli.errors import ConfigError
from plantops_cli.quantities import format_duration, parse_address, parse_duration, parse_period, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30), ("0.5", 0.5), ("90s", 90), ("250ms", 0.25), ("1.5h", 5_400), ("2 m", 120), ("1d", 86_400)],
)
def test_a_time_has_a_unit_or_is_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1", "soon", "1w", "1e9", "nan", "1 000", "99999999999"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{text!r}: no time above 0$"):
        parse_duration(text)


@given(st.integers(min_value=1, max_value=10**11))
def test_a_time_that_was_written_is_read_again(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


@pytest.mark.parametrize(("seconds", "text"), [(60.0, "60s"), (10.0, "10s"), (0.25, "250ms"), (1.5, "1.5s")])
def test_a_time_is_written_as_people_write_it(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("15m", 900), ("1h", 3_600), ("1d", 86_400)])
def test_periods_are_read(text: str, seconds: float) -> None:
    assert parse_period(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "5", "-1h", "1w", "h", "1.5h", "250ms", " 1h"])
def test_what_is_no_period_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{text!r}: no time$"):
        parse_period(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("4096", 4096), ("10M", 10 * 1024**2), ("10MiB", 10 * 1024**2), ("1G", 1024**3), ("8K", 8192)],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text, least_bytes=4096) == size


@pytest.mark.parametrize("text", ["", "0", "100", "-1M", "1.5M", "M", "10X", "1 M", "9" * 16])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{text!r}: no size of 4096 bytes or more$"):
        parse_size(text, least_bytes=4096)


@pytest.mark.parametrize(
    ("text", "address"),
    [("9464", ("127.0.0.1", 9464)), ("0.0.0.0:9464", ("0.0.0.0", 9464)), ("[::1]:9464", ("::1", 9464))],
)
def test_an_address_is_a_port_or_more(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text", ["", "x", "0", "65536", "127.0.0.1", "host:", "-1", pytest.param("9" * 5000, id="endless")]
)
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="no port"):
        parse_address(text)
