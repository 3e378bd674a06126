"""The steps of provision-user that need no broker."""

from pathlib import Path

import pytest

from plantops_cli.cli.provision_user.provision_user_flags import ProvisionUserFlags
from plantops_cli.cli.provision_user.run import NewSecret, find_password, judge_drift
from plantops_cli.cli.shared.exits import Exit
from plantops_cli.config import load_settings
from plantops_cli.errors import ConfigError
from tests.support.command_line import read

PASSWORD = b"correct horse battery staple"


def test_a_generated_password_is_kept_once_nothing_stands_in_its_way(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    secret = NewSecret.of(read(ProvisionUserFlags, "--generate", "--secret-file", str(path)), PASSWORD)
    assert not path.exists()
    secret.keep()
    assert path.read_bytes().strip() == PASSWORD
    assert path.stat().st_mode & 0o777 == 0o600
    secret.discard()
    assert not path.exists()


def test_a_password_that_was_given_is_never_written(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    secret = NewSecret.of(read(ProvisionUserFlags, "--secret-file", str(path)), PASSWORD)
    secret.keep()
    secret.discard()
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_before_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("another")
    secret = NewSecret(path, PASSWORD)
    with pytest.raises(ConfigError, match="exists already"):
        secret.keep()
    secret.discard()
    assert path.read_text() == "another"


@pytest.mark.parametrize(
    ("password_matches", "fail_on_drift", "code"),
    [
        (True, True, Exit.OK),
        (None, True, Exit.OK),
        (False, False, Exit.OK),
        (False, True, Exit.CREDENTIALS),
    ],
)
def test_another_password_is_an_error_to_who_asks(
    password_matches: bool | None, *, fail_on_drift: bool, code: Exit
) -> None:
    assert judge_drift("alice", password_matches, fail_on_drift=fail_on_drift) is code


def test_a_password_is_made_where_none_is_to_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_BACKEND_PASSWORD", PASSWORD.decode())
    settings = load_settings()
    made = find_password(read(ProvisionUserFlags, "--generate", "--show"), settings)
    assert made is not None
    assert made != PASSWORD
    assert find_password(read(ProvisionUserFlags), settings) == PASSWORD


def test_a_user_is_removed_without_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MQTT_BACKEND_PASSWORD", raising=False)
    assert find_password(read(ProvisionUserFlags, "--remove"), load_settings()) is None
