"""Mosquitto's ACL file on disk: a user's right to read the devices, given and taken back."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from plantops_cli.errors import BrokerFileError
from plantops_cli.mosquitto.files.rewrite import Rewritten, rewrite
from plantops_cli.mosquitto.text.acl import acl_notices, check_acl, has_block, remove_block, upsert_block
from plantops_cli.mosquitto.text.actions import Action
from plantops_cli.mosquitto.text.lint import Weight

NEW_FILE_NOTICE = (
    "the broker reads this new file only where acl_file names it, and then whoever has no line in it has no rights"
)


@dataclass(frozen=True, slots=True)
class Granted:
    """The outcome of ``grant_read`` or ``revoke``.

    Attributes:
        action: what became of the user's block.
        path: the ACL file, as it was given.
        rewritten: what was done to the file.
        notices: what a person should know of the user's rights, and of the file.
    """

    action: Action
    path: Path
    rewritten: Rewritten
    notices: tuple[str, ...]


def grant_read(
    path: Path,
    username: str,
    *,
    lock_timeout_seconds: float = 10.0,
    new_file_owner: tuple[int, int] | None = None,
    dry_run: bool = False,
) -> Granted:
    """Make sure that a user may read what the devices say, and nothing more by this.

    A missing file is made. A running broker reads the file again only when it is told to (SIGHUP).

    Args:
        path: Mosquitto's ``acl_file``.
        username: the user.
        lock_timeout_seconds: how long to wait for another run on the same file.
        new_file_owner: uid and gid to give to a file that is made, if root makes it.
        dry_run: True to write nothing.

    Raises:
        ConfigError: the user name is not allowed.
        BrokerFileError: the broker would refuse the file, a change would touch other users' rights, or the file
            cannot be read or replaced; it is as it was.
        BrokerFileChangedError: another program kept rewriting it meanwhile; it is as that one left it.
    """

    def change(old: bytes | None) -> bytes:
        return _changed(path, old or b"", lambda content: upsert_block(content, username))

    rewritten = rewrite(
        path,
        change,
        lock_timeout_seconds=lock_timeout_seconds,
        new_file_owner=new_file_owner,
        dry_run=dry_run,
    )
    notices = [*rewritten.notices, *acl_notices(rewritten.new, username)]
    if rewritten.is_new_file:
        notices.append(NEW_FILE_NOTICE)
    return Granted(_action(rewritten, username), path, rewritten, tuple(notices))


def revoke(path: Path, username: str, *, lock_timeout_seconds: float = 10.0, dry_run: bool = False) -> Granted:
    """Take a user's marked block out of the ACL file; a missing file stays missing.

    Args:
        path: Mosquitto's ``acl_file``.
        username: the user.
        lock_timeout_seconds: how long to wait for another run on the same file.
        dry_run: True to write nothing.

    Raises:
        BrokerFileError, BrokerFileChangedError: as ``grant_read``.
    """

    def change(old: bytes | None) -> bytes | None:
        return None if old is None else _changed(path, old, lambda content: remove_block(content, username))

    rewritten = rewrite(path, change, lock_timeout_seconds=lock_timeout_seconds, dry_run=dry_run)
    action = Action.REMOVED if rewritten.was_written else Action.UNCHANGED
    return Granted(action, path, rewritten, (*rewritten.notices, *acl_notices(rewritten.new, username)))


def _changed(path: Path, content: bytes, change: Callable[[bytes], bytes]) -> bytes:
    _check(path, content)
    try:
        changed = change(content)
    except BrokerFileError as exc:
        raise BrokerFileError(f"{str(path)!r}: {exc}", hint=exc.hint) from exc
    _check(path, changed)
    return changed


def _check(path: Path, content: bytes) -> None:
    bad = next((fault for fault in check_acl(content) if fault.weight is Weight.STOPS_ALL), None)
    if bad is not None:
        raise BrokerFileError(
            f"{str(path)!r}, line {bad.line}: {bad.message}",
            hint="mend that line first: for it the broker refuses the whole file",
        )


def _action(rewritten: Rewritten, username: str) -> Action:
    if not rewritten.was_written:
        return Action.UNCHANGED
    return Action.UPDATED if has_block(rewritten.old or b"", username) else Action.CREATED
