"""README.md says what the program says."""

from pathlib import Path

import pytest

from docs.generate import README, generate
from plantops_cli.cli.app import COMMANDS, build_app
from plantops_cli.cli.shared.exits import MEANINGS, Exit

ROOT = Path(__file__).parent.parent


def test_the_generated_parts_are_up_to_date() -> None:
    text = README.read_text()
    assert text == generate(text), "python -m docs.generate writes them anew"


def test_every_command_has_its_help_in_it() -> None:
    registered = {
        (command.name or command.callback.__name__).replace("_", "-")
        for command in build_app().registered_commands
        if command.callback
    }
    assert registered == set(COMMANDS)
    for name in COMMANDS:
        assert f"<!-- generated: help-{name} -->" in README.read_text()


def test_every_exit_code_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Exit)


@pytest.mark.parametrize("command", ["make demo", "make test"])
def test_it_names_the_two_commands(command: str) -> None:
    assert command in README.read_text()


@pytest.mark.parametrize(("name", "shown"), [("listen", "telemetry"), ("fleet", "mute")])
def test_the_pictures_are_there_and_fetch_nothing(name: str, shown: str) -> None:
    picture = (ROOT / "docs" / f"{name}.svg").read_text()
    assert f"docs/{name}.svg" in README.read_text()
    assert "url(http" not in picture
    assert shown in picture
