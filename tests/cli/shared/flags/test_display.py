"""Where messages go, and in which form."""

from pathlib import Path

import pytest

from plantops_cli.cli.shared.flags.display import FileFlags, MetricsFlags
from plantops_cli.errors import ConfigError
from tests.support.command_line import read


def test_sizes_and_periods_of_a_file_are_read_at_once() -> None:
    flags = read(FileFlags, "--to", "x", "--rotate-size", "10M", "--rotate-every", "1h")
    assert flags == FileFlags(to=Path("x"), rotate_size=10 * 1024**2, rotate_every=3_600.0)


@pytest.mark.parametrize("text", ["", "0", "100", "-1M", "1.5M", "M", "10X", "1 M"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"^--rotate-size {text!r}: no size of 4096 bytes or more$"):
        read(FileFlags, "--to", "x", f"--rotate-size={text}")


@pytest.mark.parametrize("text", ["", "0s", "5", "-1h", "1w", "h"])
def test_what_is_no_period_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"^--rotate-every {text!r}: no time$"):
        read(FileFlags, "--to", "x", f"--rotate-every={text}")


@pytest.mark.parametrize("flag", [("--rotate-size", "1M"), ("--rotate-every", "1h")])
def test_only_a_file_is_begun_anew(flag: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match="are for --to"):
        read(FileFlags, *flag)


def test_series_for_each_device_need_somewhere_to_be_served() -> None:
    assert read(MetricsFlags, "--metrics-port", "9464", "--metrics-per-device").is_per_device
    with pytest.raises(ConfigError, match="--metrics-per-device is for --metrics-port"):
        read(MetricsFlags, "--metrics-per-device")


@pytest.mark.parametrize(("text", "address"), [("9464", ("127.0.0.1", 9464)), ("0.0.0.0:9464", ("0.0.0.0", 9464))])
def test_a_port_for_metrics_is_taken_apart_at_once(text: str, address: tuple[str, int]) -> None:
    assert read(MetricsFlags, "--metrics-port", text).metrics_port == address
    with pytest.raises(ConfigError, match=r"^--metrics-port 'x': no port$"):
        read(MetricsFlags, "--metrics-port", "x")
