"""Mosquitto's password file on disk: one user made, changed or removed, and the rest left as it is."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from plantops_cli.errors import BrokerFileError, ConfigError
from plantops_cli.mosquitto.files.rewrite import Rewritten, rewrite
from plantops_cli.mosquitto.text.actions import Action
from plantops_cli.mosquitto.text.hashing import (
    DEFAULT_ITERATIONS,
    check_iterations,
    entry_kind,
    hash_password,
    is_comparable,
    is_weaker,
    verify_password,
)
from plantops_cli.mosquitto.text.logins import check_password, check_username
from plantops_cli.mosquitto.text.passwords import (
    FileUser,
    count_entries,
    find_entry,
    list_users,
    remove_entry,
    upsert_entry,
    why_no_password_file,
)


@dataclass(frozen=True, slots=True)
class Provisioned:
    """The outcome of ``write_user`` and ``drop_user``; of a dry run, the outcome that a run would have had.

    Attributes:
        action: what became of the user; the file was written unless it is ``UNCHANGED``.
        path: the password file, as it was given.
        username: the user.
        password_matches: whether the user can now log in with the given password; False only for a user who
            was there with another one and was not to be overwritten; None when no password was given, or when
            such a user has an entry that no password can be compared with here.
        is_new_file: whether the file was made, with mode 0600, and the broker's user may not read it yet.
        rewritten: the file before and after, for ``rewrite.restore``.
        notices: what a person should know, one line each.
    """

    action: Action
    path: Path
    username: str
    password_matches: bool | None
    is_new_file: bool
    rewritten: Rewritten = field(repr=False)
    notices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to do; ``content`` is the whole new file, or None to leave it alone."""

    action: Action
    password_matches: bool | None = None
    content: bytes | None = field(default=None, repr=False)
    notices: tuple[str, ...] = ()


def write_user(
    path: Path,
    username: str,
    password: bytes,
    *,
    overwrite: bool = True,
    allow_control: bool = False,
    iterations: int = DEFAULT_ITERATIONS,
    lock_timeout_seconds: float = 10.0,
    new_file_owner: tuple[int, int] | None = None,
    dry_run: bool = False,
) -> Provisioned:
    """Make sure that a user can log in with a password, and touch nothing else in the file.

    Nothing is written when the user has the password already, so that this also works where nothing can be
    written; but a weaker entry, or one of several lines, is made anew of the same password, for which the
    broker disconnects nobody. A running broker reads the file again only when it is told to (SIGHUP).

    Args:
        path: Mosquitto's ``password_file``.
        username: the user to create or update.
        password: the password as the client will send it.
        overwrite: False to leave a user who is there entirely alone. One whose every line is malformed is
            not there: such a user cannot log in.
        allow_control: True to allow control characters in the password, but for NUL, CR and LF.
        iterations: rounds of PBKDF2 for a new entry; a stronger entry is not made weaker.
        lock_timeout_seconds: how long to wait for another run on the same file.
        new_file_owner: uid and gid to give to a file that is made, if root makes it.
        dry_run: write nothing, and make no lock file.

    Raises:
        ConfigError: the user name, the password or the iterations are not allowed.
        BrokerFileError: the file cannot be read or replaced, or is no password file; it is as it was.
        BrokerFileBusyError: another run held the lock, or another program had the file open for writing.
        BrokerFileChangedError: another program kept rewriting it meanwhile; it is as that one left it.
    """
    check_username(username)
    check_password(password, allow_control=allow_control)
    check_iterations(iterations)

    # the plan is made twice, before the lock and under it, and hashing is slow
    @cache
    def matches(entry: str) -> bool:
        return verify_password(password, entry)

    @cache
    def fresh() -> str:
        return hash_password(password, iterations=iterations)

    def plan(content: bytes) -> _Plan:
        entry = find_entry(content, username)
        is_match = entry is not None and matches(entry)
        if entry is not None and not overwrite:
            return _left_alone(username, entry, is_match=is_match)
        lines = count_entries(content, username)
        if is_match and entry is not None and lines == 1 and not is_weaker(entry, iterations):
            return _Plan(Action.UNCHANGED, is_match)
        # of several lines with the password the one that counts is kept, if it is strong enough
        keeps = is_match and entry is not None and not is_weaker(entry, iterations)
        upserted = upsert_entry(content, username, entry if keeps and entry is not None else fresh())
        return _Plan(_action(entry, is_match=is_match), True, upserted, _collapsed(lines))

    return _carry_out(
        path,
        username,
        plan,
        lock_timeout_seconds=lock_timeout_seconds,
        new_file_owner=new_file_owner,
        dry_run=dry_run,
    )


def drop_user(
    path: Path, username: str, *, lock_timeout_seconds: float = 10.0, dry_run: bool = False
) -> Provisioned:
    """Remove every line of a user, and touch nothing else in the file.

    A user name that nobody can log in under, but that stands in the file, can be removed too.

    Args:
        path: Mosquitto's ``password_file``.
        username: the user to remove; ``UNCHANGED`` is the outcome when there is none of this name.
        lock_timeout_seconds: how long to wait for another run on the same file.
        dry_run: write nothing, and make no lock file.

    Raises:
        ConfigError: no line of a password file can have this user name.
        BrokerFileError: the file is missing, cannot be read or replaced, or is no password file; it is as it was.
        BrokerFileBusyError: another run held the lock, or another program had the file open for writing.
        BrokerFileChangedError: another program kept rewriting it meanwhile; it is as that one left it.
    """
    if not username or ":" in username or "\n" in username:
        raise ConfigError(f"user name {username[:80]!a} cannot stand in a password file")

    def plan(content: bytes) -> _Plan:
        lines = count_entries(content, username)
        if not lines:
            return _Plan(Action.UNCHANGED)
        notices = (f"{lines} lines of this user were removed",) if lines > 1 else ()
        return _Plan(Action.REMOVED, content=remove_entry(content, username), notices=notices)

    return _carry_out(
        path, username, plan, lock_timeout_seconds=lock_timeout_seconds, dry_run=dry_run, must_exist=True
    )


def users(path: Path, *, lock_timeout_seconds: float = 10.0) -> list[FileUser]:
    """Return the users of a password file, in its order.

    Args:
        path: Mosquitto's ``password_file``.
        lock_timeout_seconds: how long to wait for a program that writes the file.

    Raises:
        BrokerFileError: the file is missing, cannot be read, or is no password file.
    """
    found: list[FileUser] = []

    def look(content: bytes | None) -> None:
        found.extend(list_users(_checked(path, content, must_exist=True)))

    rewrite(path, look, lock_timeout_seconds=lock_timeout_seconds)
    return found


def _carry_out(
    path: Path,
    username: str,
    plan: Callable[[bytes], _Plan],
    *,
    lock_timeout_seconds: float,
    dry_run: bool,
    new_file_owner: tuple[int, int] | None = None,
    must_exist: bool = False,
) -> Provisioned:
    made = _Plan(Action.UNCHANGED)

    def change(content: bytes | None) -> bytes | None:
        nonlocal made
        made = plan(_checked(path, content, must_exist=must_exist))
        return made.content

    rewritten = rewrite(
        path,
        change,
        lock_timeout_seconds=lock_timeout_seconds,
        new_file_owner=new_file_owner,
        dry_run=dry_run,
    )
    return Provisioned(
        made.action,
        path,
        username,
        made.password_matches,
        rewritten.is_new_file,
        rewritten,
        made.notices + rewritten.notices,
    )


def _left_alone(username: str, entry: str, *, is_match: bool) -> _Plan:
    if is_comparable(entry):
        return _Plan(Action.UNCHANGED, is_match)
    unknown = f"whether {username} has this password cannot be told here: its entry is {entry_kind(entry)}"
    return _Plan(Action.UNCHANGED, notices=(unknown,))


def _action(entry: str | None, *, is_match: bool) -> Action:
    if entry is None:
        return Action.CREATED
    return Action.UPGRADED if is_match else Action.UPDATED


def _collapsed(lines: int) -> tuple[str, ...]:
    return (f"{lines} lines of this user became one",) if lines > 1 else ()


def _checked(path: Path, content: bytes | None, *, must_exist: bool) -> bytes:
    """Return the content of a password file, and refuse what is none.

    Raises:
        BrokerFileError: it is plainly something else, or is missing and must not be.
    """
    if content is None and must_exist:
        raise BrokerFileError(f"{str(path)!r} does not exist", hint="give the file that password_file names")
    reason = why_no_password_file(content or b"")
    if reason is not None:
        raise BrokerFileError(f"{str(path)!r}: {reason}", hint="give the file that password_file names")
    return content or b""
