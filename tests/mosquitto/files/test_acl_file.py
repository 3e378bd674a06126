"""The ACL file on disk."""

from collections.abc import Callable
from pathlib import Path

import pytest

from plantops_cli.errors import BrokerFileError, ConfigError
from plantops_cli.mosquitto.files.acl_file import NEW_FILE_NOTICE, Granted, grant_read, revoke
from plantops_cli.mosquitto.text.actions import Action

USER = "plantops_backend"
BLOCK = (
    b"# >>> plantops provision-user: plantops_backend (managed)\n"
    b"user plantops_backend\ntopic read devices/+/telemetry\ntopic read devices/+/heartbeat\n"
    b"# <<< plantops provision-user\n"
)
OTHERS = b"# the others'\nuser device\npattern write devices/%c/#\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    folder.mkdir()
    return folder / "acl"


def identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def test_a_missing_file_is_made_for_its_owner_alone_and_the_danger_is_told(path: Path) -> None:
    granted = grant_read(path, USER)
    assert (granted.action, granted.path, granted.rewritten.is_new_file) == (Action.CREATED, path, True)
    assert NEW_FILE_NOTICE in granted.notices
    assert path.read_bytes() == BLOCK
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_block_is_added_and_the_rest_is_kept_with_its_mode(path: Path) -> None:
    path.write_bytes(OTHERS)
    path.chmod(0o640)
    granted = grant_read(path, USER)
    assert (granted.action, granted.rewritten.is_new_file) == (Action.CREATED, False)
    assert path.read_bytes() == OTHERS + BLOCK
    assert path.stat().st_mode & 0o777 == 0o640
    assert NEW_FILE_NOTICE not in granted.notices


def test_a_block_that_is_there_is_not_written_again(path: Path) -> None:
    path.write_bytes(OTHERS + BLOCK)
    before = identity(path)
    assert grant_read(path, USER).action is Action.UNCHANGED
    assert identity(path) == before


def test_a_block_edited_by_hand_is_put_right(path: Path) -> None:
    path.write_bytes(BLOCK.replace(b"read", b"readwrite"))
    assert grant_read(path, USER).action is Action.UPDATED
    assert path.read_bytes() == BLOCK


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(path: Path) -> None:
    path.write_bytes(OTHERS)
    before = identity(path)
    granted = grant_read(path, USER, dry_run=True)
    assert (granted.action, granted.rewritten.new) == (Action.CREATED, OTHERS + BLOCK)
    assert identity(path) == before
    assert [item.name for item in path.parent.iterdir()] == ["acl"]


def test_wider_rights_are_told(path: Path) -> None:
    path.write_bytes(OTHERS + BLOCK + b"topic #\n")
    notices = "\n".join(grant_read(path, USER).notices)
    assert "line 3 gives every user" in notices
    assert "line 9 stands below our block" in notices


@pytest.mark.parametrize("change", [grant_read, revoke])
@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"user x\n\ttopic read a\n", "line 2:"),
        (b"topic read a # why\n", "line 1:"),
        (b"topic read a\nuser x\ntopic read b\0\n", "line 3:"),
        (b"\xef\xbb\xbfuser x\n", "line 1:"),
        (BLOCK[:-12], "line 1 "),
    ],
    ids=["tab", "trailing comment", "NUL", "BOM", "not closed"],
)
def test_a_file_that_cannot_be_kept_right_is_refused_by_its_line_and_untouched(
    path: Path, content: bytes, line: str, change: Callable[[Path, str], Granted]
) -> None:
    path.write_bytes(content)
    before = identity(path)
    with pytest.raises(BrokerFileError, match=line) as refused:
        change(path, USER)
    assert str(path) in str(refused.value)
    assert refused.value.hint
    assert identity(path) == before
    assert path.read_bytes() == content


def test_a_user_name_that_would_add_lines_is_refused(path: Path) -> None:
    with pytest.raises(ConfigError):
        grant_read(path, "x\ntopic readwrite #")
    assert not path.exists()


def test_a_revoked_block_is_gone_and_nothing_else(path: Path) -> None:
    path.write_bytes(OTHERS + BLOCK)
    assert revoke(path, USER).action is Action.REMOVED
    assert path.read_bytes() == OTHERS
    assert revoke(path, USER).action is Action.UNCHANGED


def test_a_revocation_tells_of_sections_by_hand(path: Path) -> None:
    path.write_bytes(b"user plantops_backend\ntopic read x\n" + BLOCK)
    assert any("line 1 opens another section" in notice for notice in revoke(path, USER).notices)


def test_nothing_is_revoked_when_lines_below_would_change_hands(path: Path) -> None:
    content = OTHERS + BLOCK + b"topic read x\n"
    path.write_bytes(content)
    with pytest.raises(BrokerFileError, match=r"line 9 would change its user"):
        revoke(path, USER)
    assert path.read_bytes() == content


def test_a_missing_file_stays_missing_when_there_is_nothing_to_revoke(path: Path) -> None:
    assert revoke(path, USER).action is Action.UNCHANGED
    assert not path.exists()
