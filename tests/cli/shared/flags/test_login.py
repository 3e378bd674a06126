"""How a password is made: none of it is a value of a flag."""

from plantops_cli.cli.provision_user.provision_user_flags import ProvisionUserFlags
from tests.support.command_line import BY_COMMAND, read

PANEL = [option for option in BY_COMMAND["provision-user"] if option.rich_help_panel == "Password"]


def test_nothing_but_the_iterations_has_a_value() -> None:
    assert [option.opts for option in PANEL if not option.is_flag] == [["--iterations"]]


def test_iterations_are_a_number_or_the_librarys_choice() -> None:
    assert read(ProvisionUserFlags, "--iterations", "20000").iterations == 20_000
    assert read(ProvisionUserFlags).iterations is None
