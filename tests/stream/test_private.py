"""Names that another release may move."""

import pytest

from plantops_cli.errors import ConfigError
from plantops_cli.stream.private import check_names


class Library:
    def _kept(self) -> None: ...


@pytest.mark.parametrize("thing", [Library, Library()])
def test_what_has_all_its_names_passes(thing: object) -> None:
    check_names(thing, ["_kept"])


@pytest.mark.parametrize("thing", [Library, Library()])
def test_all_the_names_that_are_missing_are_told_with_the_cure(thing: object) -> None:
    with pytest.raises(ConfigError, match=r"test_private\.Library .* has no _moved, _gone$") as caught:
        check_names(thing, ["_moved", "_kept", "_gone"])
    assert caught.value.hint
    assert "aiomqtt 2.5.1" in caught.value.hint
