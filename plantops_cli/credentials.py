"""Passwords from where they are kept, and to it: a file, standard input, the environment or a person.

A password is bytes from here on, for that is what MQTT carries, and it never appears in a message. Nor does what
may be one by mistake: the name of a secret file that is not there, or what follows the colon of ``user:password``.
"""

import getpass
import logging
import os
import stat
import sys
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import BinaryIO, Final, Literal

from plantops_cli.errors import ConfigError

_logger = logging.getLogger("plantops.credentials")

_MAX_BYTES = 65_535  # longest password that MQTT can carry (MQTT 5, 1.5.6)
_STDIN: Final = "-"
_SOURCES = (
    "set MQTT_BACKEND_PASSWORD or MQTT_BACKEND_PASSWORD_FILE, give secret_file=FILE (or - for standard "
    "input), or answer the prompt on a terminal"
)


PasswordSource = Callable[[], str | bytes | Awaitable[str | bytes]]
"""A function, plain or async, that gives a password; it is asked before each attempt to connect."""


class KeptPassword:
    """A password that stands in a file, where somebody may change it while it is in use.

    The one that was right is used until it is refused; then the file is read anew. Who changes a password may tell
    the broker first or change the file first, so that both are tried in turn as long as neither is right.

    Args:
        password: as it was read first.
        read: reads it anew.
    """

    def __init__(self, password: bytes, read: Callable[[], bytes]) -> None:
        self._chosen = self._right = password
        self._read = read
        self._refused = set[bytes]()

    def __call__(self) -> bytes:
        """Return the password to use now."""
        return self._chosen

    def note_accepted(self) -> None:
        """Take note that the password is right."""
        self._right = self._chosen
        self._refused.clear()

    def note_refused(self) -> bool:
        """Choose what to use next, and tell whether it has not been refused yet.

        A file that cannot be read now is one that is just being written; the log says so.
        """
        self._refused.add(self._chosen)
        found = self._found()
        untried = [password for password in (found, self._right) if password not in self._refused]
        if untried:
            self._chosen = untried[0]
        else:
            self._chosen = self._right if self._chosen == found else found
        return bool(untried)

    def _found(self) -> bytes:
        try:
            return self._read()
        except ConfigError as exc:
            _logger.warning("%s", exc)
            return self._chosen


def choose_password(
    *,
    secret_file: str | None,
    ask: bool,
    environment: bytes | None,
    environment_file: Path | None,
    variable: str = "MQTT_BACKEND_PASSWORD",
    confirm: bool = False,
) -> bytes | None:
    """Return the password from the one source that was chosen, or None when none was.

    Args:
        secret_file: a path, or ``-`` for standard input.
        ask: whether to ask on the terminal.
        environment: the value of the environment variable; both outrank it.
        environment_file: the value of the one whose name ends in ``_FILE``; both outrank it.
        variable: the name of the first.
        confirm: whether a prompt asks twice.

    Raises:
        ConfigError: both, or two environment variables compete, or the source holds no password.
    """
    if secret_file is not None and ask:
        raise ConfigError("secret_file and ask are both given", hint="choose one of them")
    if secret_file is not None:
        return read_secret_file(_STDIN if secret_file == _STDIN else Path(secret_file))
    if ask:
        return prompt_password(confirm=confirm)
    if environment is not None and environment_file is not None:
        raise ConfigError(f"{variable} and {variable}_FILE are both set", hint="unset one of them")
    if environment_file is not None:
        return read_secret_file(environment_file, name=f"{variable}_FILE")
    if environment is not None:
        _remark_on_quotes(environment, variable)
    return environment


def read_secret_file(source: Path | Literal["-"], *, name: str = "secret_file") -> bytes:
    r"""Read a password from a file, without the line break at its end and the byte order mark at its beginning.

    Exactly one ``\n`` or ``\r\n`` is dropped, for editors and ``echo`` add one. Quotes around all of it belong to
    it. Of these, and of a file that everybody may read, the log is warned.

    Args:
        source: a regular file or a symbolic link to one, or ``-`` for standard input.
        name: the flag or the variable that named it, which an error names when nothing of that name is there.

    Raises:
        ConfigError: it is missing, unreadable, not a regular file, UTF-16, empty, or longer than MQTT allows.
    """
    shown = "standard input" if source == _STDIN else repr(str(source))
    try:
        data = _read_stdin() if source == _STDIN else _read_regular_file(Path(source))
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not a path"
        if source == _STDIN or os.path.lexists(source):
            hint = "check the path and who may read it"
            raise ConfigError(f"cannot read the password from {shown}: {reason}", hint=hint) from exc
        # from None: the foreign error repeats the path too
        raise ConfigError(
            f"{name}: {reason}",
            hint="give the path of a file that holds the password; what was given is not shown, for it may be one",
        ) from None
    if _is_utf_16(data):
        raise ConfigError(f"the password in {shown} is UTF-16 text", hint="save it as UTF-8")
    password = _without_line_break(data.removeprefix(BOM_UTF8))
    if not password:
        raise ConfigError(f"the password in {shown} is empty")
    if len(password) > _MAX_BYTES:
        raise ConfigError(
            f"the password in {shown} has more than {_MAX_BYTES:,} bytes", hint="is it the right file?"
        )
    _remark_on_quotes(password, shown)
    return password


def write_secret_file(path: Path, password: bytes) -> None:
    """Keep a password in a new file that its owner alone may read, safe from a power cut.

    Args:
        path: the file to make; nothing may be there yet, not even a dangling link.
        password: the password; a line break is added.

    Raises:
        ConfigError: something is there already, or the file cannot be written; none is then left behind.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as exc:
        raise ConfigError(
            f"{str(path)!r} exists already, and a password in it would be lost",
            hint="name another file, or use the password in it",
        ) from exc
    except OSError as exc:
        raise _unwritable(exc) from None  # it repeats the path
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)  # a umask may have taken the owner's own bits
            file.write(password + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        path.unlink(missing_ok=True)
        raise _unwritable(exc) from None


def prompt_password(*, confirm: bool) -> bytes:
    """Ask for a password on the terminal, without echo.

    Args:
        confirm: ask twice, and refuse two different answers.

    Raises:
        ConfigError: there is no terminal, nothing was typed, or the answers differ.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfigError("no password is given, and there is no terminal to ask on", hint=_SOURCES)
    password = _ask("Password: ")
    if not password:
        raise ConfigError("the password is empty")
    if confirm and _ask("Password again: ") != password:
        raise ConfigError("the two passwords differ", hint="nothing was changed; try again")
    return password


def _ask(prompt: str) -> bytes:
    try:
        return getpass.getpass(prompt).encode()
    except EOFError as exc:
        raise ConfigError("the prompt for the password was closed", hint=_SOURCES) from exc
    except UnicodeError:
        # from None: the foreign error carries what was typed
        raise ConfigError(
            "the terminal sent a password that is not text", hint="give it by secret_file="
        ) from None


def _unwritable(exc: OSError) -> ConfigError:
    return ConfigError(f"cannot write the password to secret_file: {exc.strerror}", hint="check its path")


def _read_stdin() -> bytes:
    if sys.stdin is None:
        raise ConfigError("standard input is closed", hint=_SOURCES)
    return _read_bounded(sys.stdin.buffer)


def _read_regular_file(path: Path) -> bytes:
    with open(path, "rb", opener=_open_without_waiting) as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise ConfigError(
                f"{str(path)!r} is not a regular file", hint="use secret_file='-' to read from a pipe"
            )
        if mode & stat.S_IROTH:
            _logger.warning("%r is readable by every user of this machine (chmod 600 would end that)", str(path))
        return _read_bounded(file)


def _open_without_waiting(path: str, flags: int) -> int:
    # O_NONBLOCK: opening a FIFO must not wait for a writer before it can be refused
    return os.open(path, flags | os.O_NONBLOCK)


def _read_bounded(file: BinaryIO) -> bytes:
    # the longest password, its mark and its line break, and one byte that shows that there is more
    return file.read(len(BOM_UTF8) + _MAX_BYTES + 3)


def _is_utf_16(data: bytes) -> bool:
    """Whether a text begins as in UTF-16, which PowerShell writes: with the mark, and every other byte 0."""
    return (data[:2], data[3:4]) == (BOM_UTF16_LE, b"\0") or data[:3] == BOM_UTF16_BE + b"\0"


def _remark_on_quotes(password: bytes, where: str) -> None:
    if len(password) > 1 and password[:1] == password[-1:] and password[:1] in (b'"', b"'"):
        _logger.warning(
            "the quotes around the password in %s are part of it (leave them out if they are not)", where
        )


def _without_line_break(data: bytes) -> bytes:
    if data.endswith(b"\n"):
        data = data[:-1].removesuffix(b"\r")
    return data
