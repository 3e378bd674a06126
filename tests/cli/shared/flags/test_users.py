"""Where a broker keeps its users, and how it is told of new ones."""

import pytest

from plantops_cli.cli.provision_user.provision_user_flags import ProvisionUserFlags
from plantops_cli.cli.shared.flags.users import BackendChoice
from tests.support.command_line import BY_COMMAND, read


def test_a_proof_is_wanted_refused_or_left_to_what_is_known() -> None:
    assert read(ProvisionUserFlags).verify is None
    assert read(ProvisionUserFlags, "--verify").verify is True
    assert read(ProvisionUserFlags, "--no-verify").verify is False


@pytest.mark.parametrize("choice", BackendChoice)
def test_a_backend_is_chosen_by_its_name(choice: BackendChoice) -> None:
    assert read(ProvisionUserFlags, "--backend", choice.value).backend is choice


def test_canary_means_a_message_and_nothing_else() -> None:
    assert [name for name, options in BY_COMMAND.items() if any("--canary" in one.opts for one in options)] == [
        "doctor"
    ]
