"""Who is to own a file that root makes."""

import grp
import os
import pwd

import pytest

from plantops_cli.cli.provision_user.provision_user_flags import ProvisionUserFlags
from plantops_cli.cli.shared.flags.files import find_owner
from plantops_cli.errors import ConfigError
from tests.support.command_line import read

ME = pwd.getpwuid(os.geteuid())


def test_an_owner_is_a_user_and_the_users_own_group() -> None:
    assert find_owner(ME.pw_name) == (ME.pw_uid, ME.pw_gid)


def test_an_owner_may_name_another_group() -> None:
    group = grp.getgrall()[-1]
    assert read(ProvisionUserFlags, "--owner", f"{ME.pw_name}:{group.gr_name}").owner == (ME.pw_uid, group.gr_gid)


@pytest.mark.parametrize("text", ["nobody-of-this-name", f"{ME.pw_name}:no-group-of-this-name", "a\0b"])
def test_an_owner_that_is_not_there_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--owner '.*': no such user or group$"):
        read(ProvisionUserFlags, "--owner", text)
