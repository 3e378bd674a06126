"""A running Mosquitto: found by its process id, told apart from what else may have that id, signalled by pidfd.

A pid file outlives a broker that was killed, and its number goes to another process sooner or later: SIGHUP would
end that one. A pidfd means one process for as long as it is open, so what is read from ``/proc`` is believed only
while the pidfd says that the process lives, and the signal goes through it (pidfd_open(2)).
"""

import os
import pwd
import re
import select
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from plantops_cli.errors import ReloadError
from plantops_cli.mosquitto.broker.executable import harmless_environment

COMMAND_NAME = "mosquitto"
VERSION_SECONDS = 5.0

_MAX_LINKS = 40  # as many as Linux itself follows before it says ELOOP (path_resolution(7))
_PID = re.compile(rb"\s*([0-9]{1,10})\s*")
_VERSION = re.compile(rb"mosquitto version (\d{1,4})\.(\d{1,4})")
_READS_ALL = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
_NEEDS_LINUX = "on other systems let a command do it: command:CMD"


@dataclass(frozen=True, slots=True)
class NotRunning:
    """There is no broker to tell, and why; its files can be written all the same.

    Attributes:
        reason: one line that names the pid file, the unit or the container.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class BrokerUser:
    """As whom a broker reads its files.

    Attributes:
        uid: user id.
        gid: group id.
        groups: supplementary group ids.
        reads_all: whether a capability lets it read files that their modes do not (capabilities(7)).
    """

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    reads_all: bool = False


@dataclass(frozen=True, slots=True)
class _Seen:
    """What ``/proc/PID`` told, at a time when the pidfd vouched for the process; None where it may not be read."""

    name: str
    arguments: tuple[str, ...]
    user: BrokerUser
    working_folder: Path | None
    executable: Path | None
    is_in_another_view: bool
    has_own_root: bool
    started_seconds: float | None


class BrokerProcess:
    """A living mosquitto; close it, for it holds a pidfd.

    Made by ``find_by_pid`` and ``find_by_pid_file`` only.

    Attributes:
        pid: its process id; never to be signalled by number.
        user: as whom it reads its files now, after it gave up the rights of root.
        working_folder: where its relative paths begin, as it sees it; None when that may not be read.
        executable: its program, as it sees it; None when that may not be read.
        config: the configuration file on its command line, as it sees it; None when there is none, or when the
            path is relative to a working folder that may not be read.
        is_in_another_view: whether it has other mounts or another root folder than we, as in a container.
        started_seconds: when it was started, since the epoch, by the clock as it goes now; None when that may
            not be read.
    """

    __slots__ = (
        "_has_own_root",
        "_pidfd",
        "config",
        "executable",
        "is_in_another_view",
        "pid",
        "started_seconds",
        "user",
        "working_folder",
    )

    def __init__(self, pid: int, pidfd: int, seen: _Seen) -> None:
        self._pidfd = pidfd
        self._has_own_root = seen.has_own_root
        self.pid = pid
        self.user = seen.user
        self.working_folder = seen.working_folder
        self.executable = seen.executable
        self.config = _absolute(config_argument(seen.arguments), seen.working_folder)
        self.is_in_another_view = seen.is_in_another_view
        self.started_seconds = seen.started_seconds

    def __repr__(self) -> str:
        return f"BrokerProcess(pid={self.pid}, config={str(self.config)!r})"

    @property
    def root(self) -> Path:
        """Its root folder as we reach it; of use to root and to the broker's own user at most."""
        return Path(f"/proc/{self.pid}/root")

    def close(self) -> None:
        """Give the pidfd back; may be called again."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def is_alive(self) -> bool:
        """Tell whether the process has not ended; a zombie has."""
        return not self.wait_for_end(0)

    def wait_for_end(self, seconds: float) -> bool:
        """Wait until the process ends, and tell whether it did.

        Args:
            seconds: how long to wait at most.
        """
        return _has_ended(self._pidfd, seconds)

    def hang_up(self) -> None:
        """Send SIGHUP, at which Mosquitto reads its files again.

        Raises:
            ReloadError: it has ended, or belongs to somebody whose processes we may not signal.
        """
        try:
            signal.pidfd_send_signal(self._pidfd, signal.SIGHUP)
        except ProcessLookupError as exc:
            raise ReloadError(f"the broker, process {self.pid}, has ended") from exc
        except PermissionError as exc:
            raise ReloadError(
                f"the broker, process {self.pid}, belongs to uid {self.user.uid} and may not be signalled",
                hint="run it as that user, or as root",
            ) from exc

    def may_signal(self) -> bool:
        """Tell whether ``hang_up`` would be allowed (signal 0 of kill(2))."""
        try:
            signal.pidfd_send_signal(self._pidfd, 0)
        except PermissionError:
            return False
        except ProcessLookupError:
            pass
        return True

    def locate(self, path: str) -> Path:
        """Translate a path as the broker sees it to one that leads us to the same file.

        Args:
            path: absolute, as in the broker's configuration.
        """
        return within(self.root, path) if self.is_in_another_view else Path(path)

    def version(self) -> tuple[int, int] | None:
        """Ask the broker's own program for its version; None when it cannot be asked safely."""
        with self.program() as program:
            if program is None:
                return None
            try:
                return parse_version(_help_of(program))
            except (OSError, subprocess.SubprocessError):
                return None

    @contextmanager
    def program(self) -> Iterator[str | None]:
        """Hold the broker's own program, for us to run: its path, or None when that is not safe.

        It runs with our rights, so only when nobody but root and us can have written it, and root only where
        our root folder is: who is root in a container need not be trusted outside. It is opened through the
        process, hence it is the very program that runs, even when a package has replaced the file since.
        """
        program = self._open_program()
        if program is None:
            yield None
            return
        with program:
            descriptor = program.fileno()
            is_fit = self.is_alive() and _is_trusted(os.fstat(descriptor))
            # by the number of our process: the child that is to run it has closed the descriptor by then
            yield f"/proc/{os.getpid()}/fd/{descriptor}" if is_fit else None

    def _open_program(self) -> BinaryIO | None:
        if self._has_own_root or self.executable is None:
            return None
        if self.executable.name.removesuffix(" (deleted)") != COMMAND_NAME:
            return None
        try:
            return Path(f"/proc/{self.pid}/exe").open("rb")
        except OSError:
            return None


def find_by_pid_file(path: Path) -> BrokerProcess | NotRunning:
    """Find the broker whose process id a file holds.

    Args:
        path: Mosquitto's ``pid_file``.

    Raises:
        ReloadError: the file or the process cannot be looked at, or this is no Linux.
    """
    try:
        # A FIFO would keep us waiting for its writer
        content = _read_start(path) if path.is_file() else None
    except FileNotFoundError:
        content = None
    except OSError as exc:
        raise ReloadError(
            f"cannot read the pid file {str(path)!r}: {exc.strerror}", hint="run it as root, or as its owner"
        ) from exc
    if content is None:
        return NotRunning(f"there is no pid file {str(path)!r}")
    found = _PID.fullmatch(content)
    if not found:
        return NotRunning(f"the pid file {str(path)!r} holds no process id")
    process = find_by_pid(int(found[1]))
    if isinstance(process, NotRunning):
        return NotRunning(f"the pid file {str(path)!r} is stale: {process.reason}")
    return process


def find_by_pid(pid: int) -> BrokerProcess | NotRunning:
    """Find the broker that has a process id, if what has it now is one.

    Args:
        pid: process id.

    Raises:
        ReloadError: the process cannot be looked at, or this is no Linux.
    """
    pidfd = _open_pidfd(pid)
    if pidfd is None:
        return NotRunning(f"there is no process {pid}")
    process: BrokerProcess | None = None
    try:
        seen = None if _has_ended(pidfd, 0) else _look(pid)
        # Read by number: somebody else's data, should the process have ended and its number be given away
        if _has_ended(pidfd, 0):
            return NotRunning(f"process {pid} has ended")
        if seen is None:
            raise ReloadError(f"process {pid} lives, but /proc/{pid} cannot be read", hint="run it as root")
        if seen.name != COMMAND_NAME:
            return NotRunning(f"process {pid} is {seen.name!r}")
        process = BrokerProcess(pid, pidfd, seen)
        return process
    finally:
        if process is None:
            os.close(pidfd)


def find_child_of(pid: int) -> BrokerProcess | NotRunning:
    """Find the one broker among the children of a process, such as the init of a container.

    Args:
        pid: process id of the parent.

    Raises:
        ReloadError: a child cannot be looked at.
    """
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        children = []
    for child in children:
        found = find_by_pid(int(child))
        if isinstance(found, BrokerProcess):
            return found
    return NotRunning(f"process {pid} has no mosquitto among its children")


def config_argument(arguments: tuple[str, ...]) -> str | None:
    """Return the configuration file that a command line of Mosquitto names: the last one, which a reload reads.

    Args:
        arguments: the command line, the program's name first.
    """
    config = None
    for flag, value in pairwise(arguments):
        if flag in ("-c", "--config-file"):
            config = value
    return config


def parse_version(help_text: bytes) -> tuple[int, int] | None:
    """Return major and minor version from what ``mosquitto -h`` prints, or None.

    Args:
        help_text: standard output of ``mosquitto -h``.
    """
    found = _VERSION.match(help_text)
    return (int(found[1]), int(found[2])) if found else None


def within(root: Path, path: str) -> Path:
    """Follow a path as a process with another root folder would, so that absolute links stay inside.

    Args:
        root: that root folder, as we reach it.
        path: a path as that process sees it; relative ones begin at its root.
    """
    todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    done: list[str] = []
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            del done[-1:]
            continue
        here = root.joinpath(*done, part)
        link = _target_of(here) if links < _MAX_LINKS else None
        if link is None:
            done.append(part)
            continue
        links += 1
        if link.is_absolute():
            done.clear()
        todo += [part for part in reversed(link.parts) if part != "/"]
    return root.joinpath(*done)


def has_pidfd() -> bool:
    """Tell whether this system can hold on to a process (Linux)."""
    return hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal")


def user_named(name: str) -> BrokerUser | None:
    """Return the user that a broker started by root becomes, or None when this machine has none of that name.

    Args:
        name: the value of ``user`` in the configuration.
    """
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        return None
    return BrokerUser(account.pw_uid, account.pw_gid, tuple(os.getgrouplist(name, account.pw_gid)))


def _open_pidfd(pid: int) -> int | None:
    if not has_pidfd():
        raise ReloadError("finding the broker by its process id needs Linux", hint=_NEEDS_LINUX)
    if not 0 < pid < 2**31:
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _has_ended(pidfd: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(max(0.0, seconds) * 1000))


def _read_start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)


def _look(pid: int) -> _Seen | None:
    folder = Path(f"/proc/{pid}")
    try:
        name = (folder / "comm").read_bytes().removesuffix(b"\n")
        arguments = (folder / "cmdline").read_bytes().removesuffix(b"\0").split(b"\0")
        status = (folder / "status").read_text(errors="replace")
    except OSError:
        return None
    has_own_root = _shares(folder, "root") is False
    return _Seen(
        name=name.decode(errors="replace"),
        arguments=tuple(os.fsdecode(argument) for argument in arguments),
        # in a user namespace of its own its capabilities are of no use on files of others (user_namespaces(7))
        user=_user(status, has_our_users=_shares(folder, "ns/user") is True),
        working_folder=_target_of(folder / "cwd"),
        executable=_target_of(folder / "exe"),
        # only root and the broker's user may compare; whom a container's broker runs as, the host seldom does
        is_in_another_view=has_own_root or _shares(folder, "ns/mnt") is False,
        # of one that may not be read the program cannot be opened either
        has_own_root=has_own_root,
        started_seconds=_started_seconds(folder),
    )


def _user(status: str, *, has_our_users: bool) -> BrokerUser:
    """Take the file system ids, the last of the four, groups and rights from ``/proc/PID/status`` (proc(5))."""
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    uid, gid = (int(fields[name].split()[-1]) for name in ("Uid", "Gid"))
    groups = tuple(int(group) for group in fields["Groups"].split())
    reads_all = has_our_users and bool(int(fields.get("CapEff", "0"), 16) & _READS_ALL)
    return BrokerUser(uid, gid, groups, reads_all)


def _target_of(link: Path) -> Path | None:
    try:
        return link.readlink()
    except OSError:
        return None


def _shares(folder: Path, link: str) -> bool | None:
    """Whether a process and we have the same root folder or namespace; None when that may not be read."""
    try:
        return (folder / link).samefile(f"/proc/self/{link}")
    except OSError:
        return None


def _started_seconds(folder: Path) -> float | None:
    # the 22nd field of /proc/PID/stat is in ticks since the machine started (proc(5)); the second, the name,
    # may hold blanks and brackets
    try:
        _, _, fields = (folder / "stat").read_text(errors="replace").rpartition(")")
        ticks = int(fields.split()[19])
    except (OSError, ValueError, IndexError):
        return None
    now_seconds = time.time()
    # the ticks are rounded down; it had not read anything before the end of that hundredth of a second
    age_seconds = time.clock_gettime(time.CLOCK_BOOTTIME) - (ticks + 1) / os.sysconf("SC_CLK_TCK")
    return now_seconds - age_seconds


def _absolute(path: str | None, working_folder: Path | None) -> Path | None:
    if path is None or path.startswith("/"):
        return None if path is None else Path(path)
    return None if working_folder is None else working_folder / path


def _is_trusted(program: os.stat_result) -> bool:
    return program.st_uid in (0, os.geteuid()) and not program.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _help_of(program: str) -> bytes:
    done = subprocess.run(  # noqa: S603 - the broker's own program, see BrokerProcess.program
        [program, "-h"],
        env=harmless_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=VERSION_SECONDS,
        check=False,
    )
    return done.stdout
