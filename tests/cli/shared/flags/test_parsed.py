"""Values that are more than Typer reads."""

import pytest

from plantops_cli.cli.shared.flags.parsed import DURATION, MANY
from plantops_cli.errors import ConfigError


def test_a_duration_is_shown_as_it_is_read() -> None:
    assert DURATION.read(DURATION.show(60.0), "--within") == 60.0


def test_what_is_no_duration_is_refused_by_the_name_of_its_flag_and_with_a_cure() -> None:
    with pytest.raises(ConfigError, match=r"^--within 'soon': no time above 0$") as refused:
        DURATION.read("soon", "--within")
    assert "90s" in str(refused.value.hint)


def test_many_values_can_be_changed_by_nobody() -> None:
    assert MANY.read(["a", "b"], "--device") == ("a", "b")
