"""What may be asked of provision-user together, and what may not."""

from collections.abc import Sequence

import pytest

from plantops_cli.cli.provision_user.provision_user_flags import ProvisionUserFlags
from plantops_cli.errors import ConfigError
from tests.support.command_line import read

SECRET = "hunter2hunter2"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--if-missing", "--remove"), "--if-missing and --remove contradict each other"),
        (("--fail-on-drift",), "--fail-on-drift is for --if-missing"),
        (("--show",), "--show is for --generate"),
        (("--generate",), "nowhere to put the password"),
        (("--generate", "--secret-file", "-"), "cannot write to standard input"),
        (("--generate", "--show", "-P"), "--generate and --ask-password contradict each other"),
        (("--generate", "--show", "--remove"), "--generate and --remove contradict each other"),
        (("--trial-broker", "--list"), "--trial-broker and --list contradict each other"),
        (("--lock-timeout", "nan"), "--lock-timeout nan: must be 0 seconds or more"),
        (("--backend", "dynsec", "--file", "x", "--reload", "none"), "--file and --reload: not for"),
        (("--backend", "dynsec", "--trial-broker"), "--trial-broker: not for --backend dynsec"),
    ],
)
def test_what_contradicts_itself_is_refused(arguments: Sequence[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(ProvisionUserFlags, *arguments)


@pytest.mark.parametrize(
    "arguments", [("alice", SECRET), ("--dry-run", "alice", SECRET, "x"), ("--", "a", SECRET)]
)
def test_what_follows_the_user_name_is_refused_and_not_repeated(arguments: Sequence[str]) -> None:
    with pytest.raises(ConfigError, match="more than a user name is given") as refused:
        read(ProvisionUserFlags, *arguments)
    assert SECRET not in f"{refused.value!r} {refused.value.hint}"


def test_the_login_of_the_connection_is_that_of_the_user_to_make() -> None:
    flags = read(ProvisionUserFlags, "alice", "-h", "broker.example", "--secret-file", "x")
    assert flags.username == "alice"
    assert (flags.connection.host, flags.connection.secret_file, flags.connection.username) == (
        "broker.example",
        "x",
        None,
    )
