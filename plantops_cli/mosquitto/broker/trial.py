"""A trial of new files on a broker of our own, before the real ones are touched.

The local ``mosquitto`` is started with copies of the files on a Unix socket in a private folder, so that the
broker's own parser and the broker's own hashing judge them, and nobody else can connect. It writes files, but
only into that folder, which it made itself and takes away again; files that a real broker reads are written in
``files`` alone.

A broker that is started by root becomes the user ``mosquitto``. The folder is then handed over to that user, so
that other people's ACL lines are not parsed with root's rights; the broker opens its files relative to its
working folder, because that user may not be let through the folders above. Without such a user it stays root.
"""

import asyncio
import os
import pwd
import re
import secrets
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from plantops_cli.errors import (
    BrokerError,
    BrokerFileError,
    BrokerUnreachableError,
    ConfigError,
    ConnectionLostError,
    PlantopsError,
    ProofError,
)
from plantops_cli.mosquitto.broker.executable import harmless_environment
from plantops_cli.mosquitto.broker.proof import LoginAnswer, log_in, probe_acl, with_wrong_password
from plantops_cli.mosquitto.text.conf import FileKind
from plantops_cli.mosquitto.text.hashing import HASH_KIND
from plantops_cli.stream.options import ConnectOptions, MQTTVersion

_WHO = "a trial broker with the new files"
_BROKER_USER = "mosquitto"
_SOCKET, _CONFIG = "socket", "mosquitto.conf"
_FILES: Mapping[FileKind, tuple[str, str]] = {
    "password": ("password_file", "passwords"),
    "acl": ("acl_file", "acl"),
    "psk": ("psk_file", "psk"),
}
"""The option that names each kind of file, and the name that it gets in our folder."""

_POLL_SECONDS = 0.005
_LOG_BYTES = 8192

# sun_path of the socket holds 104 bytes on macOS, 108 on Linux; the rest is for our folder and the socket's name
_MAX_PARENT_BYTES = 70

_HASH = re.compile(HASH_KIND.encode())
_QUOTED_PASSWORD = re.compile(r"(password file '[^']*').*")
_TIMESTAMP = re.compile(r"^\d+: ")


@dataclass(frozen=True, slots=True)
class _TrialBroker:
    """A broker of ours that was started; ``log`` is what it writes, a file without a name."""

    process: subprocess.Popen[bytes]
    log: IO[bytes]
    socket: Path

    def options(self, username: str, password: bytes) -> ConnectOptions:
        """How to log in; the caller bounds the time."""
        return ConnectOptions(
            host="localhost",
            unix_socket=str(self.socket),
            username=username,
            password=password,
            mqtt_version=MQTTVersion.V5,
        )


async def try_files(
    executable: str,
    *,
    passwords: bytes,
    acl: bytes | None,
    username: str,
    password: bytes,
    timeout_seconds: float = 10.0,
) -> None:
    """Start the local ``mosquitto`` on copies of the files, and prove that the user's login works there.

    The right password must be accepted and a random wrong one be refused; with an ACL, a message to a topic of
    which the ACL says nothing must be refused too. It takes some 0.03 s. Broker and folder are gone when it
    returns, raises or is cancelled.

    Args:
        executable: the ``mosquitto`` to start, as ``find_mosquitto`` returns it.
        passwords: the whole new password file.
        acl: the whole new ACL file, or None when the broker has none.
        username: the user to log in as.
        password: the user's password.
        timeout_seconds: bound of the whole trial.

    Raises:
        ConfigError: it cannot be run, or no folder can be made for it.
        BrokerFileError: the broker refuses to start with these files.
        ProofError: it starts, but does not treat the login as it should, or gives no answer in time.
    """
    files: dict[FileKind, bytes] = {"password": passwords}
    if acl is not None:
        files["acl"] = acl
    with _furnished(files) as folder, _running(executable, folder) as broker:
        options = broker.options(username, password)
        try:
            async with asyncio.timeout(timeout_seconds):
                await _prove(broker, options, has_acl=acl is not None)
        except TimeoutError:
            raise ProofError(
                f"{_WHO} gave no answer within {timeout_seconds:g} s",
                hint="is the machine very busy, or has an entry very many iterations?",
            ) from None
        except BrokerError as exc:
            raise ProofError(f"{_WHO} failed: {exc}") from exc


async def is_taken(executable: str, kind: FileKind, content: bytes, *, timeout_seconds: float = 10.0) -> bool:
    """Tell whether a ``mosquitto`` starts with a file, and then answers.

    Args:
        executable: the ``mosquitto`` to start.
        kind: what the file is to it: ``password``, ``acl`` or ``psk``.
        content: the whole file.
        timeout_seconds: bound of the whole trial.
    """
    try:
        with _furnished({kind: content}) as folder, _running(executable, folder) as broker:
            async with asyncio.timeout(timeout_seconds):
                await _first_answer(broker, broker.options("nobody", secrets.token_bytes(16)))
    except (PlantopsError, TimeoutError):
        return False
    return True


async def _prove(broker: _TrialBroker, options: ConnectOptions, *, has_acl: bool) -> None:
    if await _first_answer(broker, options) is LoginAnswer.REFUSED:
        raise ProofError(
            f"{_WHO} refuses {options.username!r} with the right password",
            hint="is the entry damaged, or the local mosquitto older than 2.0?",
        )
    if await log_in(with_wrong_password(options)) is LoginAnswer.ACCEPTED:
        raise ProofError(f"{_WHO} accepts {options.username!r} with a random wrong password")
    if not has_acl:
        return
    is_refused, _ = await probe_acl(options)
    if is_refused is not True:
        raise ProofError(
            f"{_WHO} lets {options.username!r} publish where it should only read",
            hint="the ACL file gives the user more rights than reading",
        )


async def _first_answer(broker: _TrialBroker, options: ConnectOptions) -> LoginAnswer:
    """Log in as soon as the broker listens; the caller bounds the time."""
    while True:
        if broker.process.poll() is not None:
            raise _refused_to_start(broker)
        # the broker may end between its first socket and the reading of its files
        with suppress(BrokerUnreachableError, ConnectionLostError):
            if _is_there(broker.socket):
                return await log_in(options)
        await asyncio.sleep(_POLL_SECONDS)


def _is_there(path: Path) -> bool:
    return path.exists()


def _refused_to_start(broker: _TrialBroker) -> BrokerFileError:
    broker.log.seek(0, os.SEEK_END)
    broker.log.seek(max(0, broker.log.tell() - _LOG_BYTES))
    reason = why_it_ended(broker.log.read()) or f"it ended with exit code {broker.process.returncode}"
    return BrokerFileError(
        f"{_WHO} does not start: {reason}",
        hint="mend the file, or do without the trial where the broker in use is of another build",
    )


def why_it_ended(log: bytes) -> str | None:
    """Return the last words of a broker that did not start, in one line; None when it left none.

    Mosquitto prints what it cannot read of a password file. A line with a hash is not passed on, and of the
    others not what they quote of it.

    Args:
        log: the end of its log.
    """
    lines = [line for line in log.splitlines() if b"Error" in line and not _HASH.search(line)]
    texts = [_shown(line.decode(errors="replace")) for line in lines]
    # 2.0 goes on without a bad line of the password file; it is not the reason
    reasons = [text for text in texts if not text.endswith("removing entry.")]
    return " ".join(reasons[-2:]) or None


def _shown(line: str) -> str:
    return _QUOTED_PASSWORD.sub(r"\1", _TIMESTAMP.sub("", line)).strip()


@contextmanager
def _furnished(files: Mapping[FileKind, bytes]) -> Iterator[Path]:
    """Make the private folder with all that a broker needs, and take it away again."""
    with ExitStack() as stack:
        try:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plantops-", dir=_parent())))
            owner = _hand_over(folder)
            for kind, content in files.items():
                _write(folder / _FILES[kind][1], content, owner=owner)
            _write(folder / _CONFIG, _config(files, owner=owner).encode(), owner=owner)
        except OSError as exc:
            raise ConfigError(
                f"no folder for a trial broker can be made in {_parent()!r}: {exc.strerror or exc}",
                hint="point TMPDIR to a folder with room, or do without the trial",
            ) from exc
        yield folder


def _parent() -> str:
    parent = tempfile.gettempdir()
    is_too_long = len(os.fsencode(parent)) > _MAX_PARENT_BYTES
    return "/tmp" if is_too_long else parent  # noqa: S108  # only a folder of mode 0700 is made in it


def _hand_over(folder: Path) -> pwd.struct_passwd | None:
    """Give the folder to the broker's user where root may; None when the broker runs as whoever starts it."""
    if os.geteuid() != 0:
        return None
    try:
        user = pwd.getpwnam(_BROKER_USER)
        os.chown(folder, user.pw_uid, user.pw_gid)
    except (KeyError, PermissionError):  # no such user; a container without the right to change owners
        return None
    return user


def _write(path: Path, content: bytes, *, owner: pwd.struct_passwd | None) -> None:
    # O_EXCL: the folder may belong to another user by now, whose links are not to be followed
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        if owner is not None:
            os.fchown(descriptor, owner.pw_uid, owner.pw_gid)
        file.write(content)


def _config(kinds: Iterable[FileKind], *, owner: pwd.struct_passwd | None) -> str:
    lines = [
        f"listener 0 {_SOCKET}",
        "allow_anonymous false",
        "persistence false",  # or it would look for, and leave, a database in its folder
        *(" ".join(_FILES[kind]) for kind in kinds),
        "log_dest stderr",
        "log_type error",
        # says nothing to a broker that root did not start
        f"user {owner.pw_name if owner else 'root'}",
    ]
    return "\n".join(lines) + "\n"


@contextmanager
def _running(executable: str, folder: Path) -> Iterator[_TrialBroker]:
    """Start the broker, and end it without asking, for it has nothing to save."""
    started: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryFile(dir=folder) as log:
        # in a thread, where no signal interrupts it: a broker that runs, but is not returned yet, would stay
        pool = ThreadPoolExecutor(1)
        try:
            # a start of the thread that is interrupted leaves a thread that nobody joins
            pool.submit(int).result()
            pool.submit(lambda: started.append(_start(executable, folder, log))).result()
            yield _TrialBroker(started[0], log, folder / _SOCKET)
        finally:
            pool.shutdown()
            for process in started:
                process.kill()
                process.wait()


def _start(executable: str, folder: Path, log: IO[bytes]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # noqa: S603  # no shell, and nothing of the files in the arguments
            [executable, "-c", _CONFIG],
            cwd=folder,
            env=harmless_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    except OSError as exc:
        raise ConfigError(f"{executable!r} cannot be run: {exc.strerror}", hint="do without the trial") from exc
