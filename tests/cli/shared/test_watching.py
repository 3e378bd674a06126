"""What the commands that watch a fleet share."""

from pathlib import Path

import pytest

from plantops_cli.cli.shared.watching import parse_duration, read_roster
from plantops_cli.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30), ("0.5", 0.5), ("90s", 90), ("250ms", 0.25), ("1.5h", 5_400), ("2 m", 120), ("1d", 86_400)],
)
def test_a_time_has_a_unit_or_is_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text, flag="--wait") == seconds


@pytest.mark.parametrize("text", ["", "0", "-1", "soon", "1w", "1e9", "nan", "1 000", "99999999999"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--wait"):
        parse_duration(text, flag="--wait")


def test_a_roster_is_a_file_or_a_flag_not_both(tmp_path: Path) -> None:
    (tmp_path / "roster").write_text("a\nb\n")
    assert read_roster(tmp_path / "roster", None) == ("a", "b")
    assert read_roster(None, "c") == ("c",)
    assert read_roster(None, None) == ()
    with pytest.raises(ConfigError, match="together"):
        read_roster(tmp_path / "roster", "c")


def test_a_roster_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for name in ("absent", "bytes", "."):
        with pytest.raises(ConfigError, match=f"--expect '{tmp_path}") as caught:
            read_roster(tmp_path / name, None)
        assert "\n" not in str(caught.value)
