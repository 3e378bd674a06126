"""How much may be in the hands of handlers at once."""

from typing import Any

import pytest

from plantops_cli.errors import ConfigError
from plantops_cli.stream.handling.bounds import Bounds


@pytest.mark.parametrize("count", [0, -1, True, 1.5, "2", None])
def test_limits_are_whole_numbers_of_one_or_more(count: Any) -> None:
    for name in ("max_unacknowledged", "max_threads"):
        with pytest.raises(ConfigError, match=name):
            Bounds(**{name: count})
