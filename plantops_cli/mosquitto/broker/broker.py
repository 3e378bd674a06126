"""The broker that is to hear of new files: what it reads, whether it runs, and how it is told."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from plantops_cli.errors import BrokerFileError, ConfigError, ReloadError
from plantops_cli.mosquitto.broker.executable import harmless_environment
from plantops_cli.mosquitto.broker.preflight import is_same_file
from plantops_cli.mosquitto.broker.process import (
    BrokerProcess,
    BrokerUser,
    NotRunning,
    find_by_pid,
    find_by_pid_file,
    find_child_of,
    has_pidfd,
    user_named,
)
from plantops_cli.mosquitto.broker.witness import Witness
from plantops_cli.mosquitto.files.conf_file import read_config
from plantops_cli.mosquitto.files.lock import mark_as_read
from plantops_cli.mosquitto.text.conf import BrokerConfig
from plantops_cli.mosquitto.text.dynsec import knows_user

_FORMS = "pid:FILE, systemd, systemd:UNIT, docker:NAME, command:CMD or none"
_NONE = "none"
_COMMAND = "command:"
_PID_LINE = re.compile(r"MainPID=([0-9]{1,10})")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9:_.@\\-]*")
_QUESTIONS = {
    "systemd": ("systemctl", "show", "--property", "MainPID", "--property", "LoadState"),
    "docker": ("docker", "inspect", "--format", "MainPID={{.State.Pid}}"),
}
"""Commands that print, among others, the process id of a unit or a container, 0 when it does not run."""

_UNKNOWN_UNIT = "LoadState=not-found"

_DEFAULT_UNIT = "mosquitto"
_ANSWER_SECONDS = 30.0
SURVIVAL_SECONDS = 0.3
"""An idle broker acts on SIGHUP within 0.1 s, and 2.1 ends at once when it does not like its files."""


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker that was found, or its configuration alone.

    Attributes:
        config: what it was started with; None when it does not run and nobody named it.
        process: the running broker, why there is none, or None when nobody wants it to be told.
        command: the program that tells it, with its arguments; None to signal the process.
    """

    config: BrokerConfig | None
    process: BrokerProcess | NotRunning | None
    command: tuple[str, ...] | None = None

    @property
    def can_be_told(self) -> bool:
        """Whether there is a way to make it read its files again."""
        return self.command is not None or isinstance(self.process, BrokerProcess)

    @property
    def reader(self) -> BrokerUser | None:
        """As whom the broker reads its files; None when nothing here tells."""
        if isinstance(self.process, BrokerProcess):
            return self.process.user
        return user_named(self.config.user) if self.config else None

    @property
    def version(self) -> tuple[int, int] | None:
        """Major and minor version of a running broker, or None."""
        return self.process.version() if isinstance(self.process, BrokerProcess) else None

    @property
    def witness(self) -> Witness | None:
        """Whom to ask about the files of a running broker, or None."""
        if not isinstance(self.process, BrokerProcess) or self.config is None:
            return None
        folders = (self.locate(item.value) for item in self.config.directives if item.name == "include_dir")
        return Witness(self.process, (*map(Path, self.config.files), *folders))

    def locate(self, path: str) -> Path:
        """Find here what the broker knows by a path."""
        running = self.process if isinstance(self.process, BrokerProcess) else None
        if running is None:
            return Path(path)
        if not path.startswith("/") and running.working_folder is not None:
            path = str(running.working_folder / path)
        return running.locate(path)

    def choose_password_file(self, given: Path | None) -> Path:
        """Return the password file to write: the one that was given, if the broker reads it, or its only one.

        Args:
            given: the file that the caller named; None for the broker's.

        Raises:
            ConfigError: the broker does not read that file, or reads none or several.
        """
        if self.config is None:
            if given is None:
                raise ConfigError("no password file is given", hint="name the password file")
            return given
        found = [self.locate(path) for path in self.config.password_files]
        if not found:
            raise _names_no_password_file(self.config)
        names = ", ".join(repr(str(path)) for path in found)
        if given is None and len(found) > 1:
            raise ConfigError(
                f"{self.config.file!r} names several password files: {names}", hint="name the one that is meant"
            )
        if given is not None and not any(is_same_file(given, path) for path in found):
            raise ConfigError(
                f"the broker reads {names}, not {str(given)!r}",
                hint=f"{self.config.file!r} says so: name no other file",
            )
        return found[0] if given is None else given

    def is_user_of_plugin(self, username: str) -> bool:
        """Tell whether the broker's dynamic security plugin has this user, as far as its file may be read.

        Args:
            username: MQTT user name.
        """
        if self.config is None or self.config.dynsec_file is None:
            return False
        try:
            return knows_user(self.locate(self.config.dynsec_file).read_bytes(), username)
        except (OSError, BrokerFileError):
            return False

    def tell(self) -> bool:
        """Make a running broker read its files again; False when none runs.

        Raises:
            ReloadError: it may not be signalled, or has ended, or the command failed.
        """
        if self.command is not None:
            _run(self.command, failure=f"the command {self.command[0]!r} did not tell the broker")
            return True
        if not isinstance(self.process, BrokerProcess):
            return False
        self.process.hang_up()
        return True

    def has_survived(self) -> bool:
        """Tell whether a broker that was told is still there a moment later."""
        return not (isinstance(self.process, BrokerProcess) and self.process.wait_for_end(SURVIVAL_SECONDS))

    @contextmanager
    def program(self) -> Iterator[str | None]:
        """Hold the program of a running broker, for a trial; None when there is none that is safe to run."""
        if not isinstance(self.process, BrokerProcess):
            yield None
            return
        with self.process.program() as program:
            yield program

    def remember_reading(self, since_seconds: float) -> None:
        """Keep that the broker has read its files anew, beside those that we have a lock file for.

        Args:
            since_seconds: when it was told to, since the epoch.
        """
        for file in self.config.reload_files if self.config else ():
            mark_as_read(self.locate(file.path), since_seconds)

    def pinned_files(self) -> tuple[str, ...]:
        """Return the files that the broker still sees although they were replaced: each is mounted by itself.

        A mount of a single file holds on to the file, not to its name; the old one has no name left then.
        """
        if not isinstance(self.process, BrokerProcess) or self.config is None:
            return ()
        return tuple(file.path for file in self.config.reload_files if _has_no_name(self.locate(file.path)))

    def close(self) -> None:
        """Let go of the process."""
        if isinstance(self.process, BrokerProcess):
            self.process.close()


def find_broker(target: str | None, config_file: Path | None) -> Broker:
    """Find the broker, without touching it.

    Args:
        target: ``pid:FILE``, ``systemd``, ``systemd:UNIT``, ``docker:NAME``, ``command:CMD`` or ``none``; None
            for the ``pid_file`` of the configuration.
        config_file: the configuration that it was started with; None for the one on its command line.

    Raises:
        ConfigError: another form of target, or a broker of another configuration.
        BrokerFileError: the configuration cannot be read.
        ReloadError: the process cannot be looked at, or may not be signalled.
    """
    config = read_config(config_file) if config_file is not None else None
    if target is not None and target.startswith(_COMMAND):
        return _told_by(_parse_command(target), config)
    process = _find_process(target, config)
    if not isinstance(process, BrokerProcess):
        return Broker(config, process)
    try:
        if config is not None and config_file is not None:
            _check_same(process, config_file)
        if not process.may_signal():
            raise ReloadError(
                f"the broker, process {process.pid}, belongs to uid {process.user.uid} and may not be signalled",
                hint="run it as that user, or as root",
            )
        return Broker(config or _config_of(process), process)
    except BaseException:
        process.close()
        raise


def _find_process(target: str | None, config: BrokerConfig | None) -> BrokerProcess | NotRunning | None:
    if target is None:
        return find_by_pid_file(Path(config.pid_file)) if config and config.pid_file else None
    way, _, name = target.partition(":")
    if way == "pid" and name:
        return find_by_pid_file(Path(name))
    if way == "systemd" and ":" not in target:
        name = _DEFAULT_UNIT
    if way in _QUESTIONS and _NAME.fullmatch(name):
        return _find_looked_after(way, name)
    if target != _NONE:
        raise ConfigError(f"reload by {target!r}: no such way", hint=_FORMS)
    return None


def _find_looked_after(way: str, name: str) -> BrokerProcess | NotRunning:
    question = (*_QUESTIONS[way], name)
    answer = _run(question, failure=f"{question[0]} does not say where {name!r} runs").splitlines()
    if _UNKNOWN_UNIT in answer:
        raise ConfigError(f"{way} knows no unit {name!r}", hint="systemctl list-units shows those that there are")
    found = next((_PID_LINE.fullmatch(line) for line in answer if line.startswith("MainPID=")), None)
    if found is None:
        raise ReloadError(f"{question[0]} does not say where {name!r} runs: no process id in its answer")
    pid = int(found[1])
    if not pid:
        return NotRunning(f"{way} has no running {name!r}")
    process = find_by_pid(pid)
    # the first process of a container may be an init that has the broker as its child
    child = find_child_of(pid) if isinstance(process, NotRunning) else process
    return child if isinstance(child, BrokerProcess) else process


def _parse_command(target: str) -> tuple[str, ...]:
    try:
        command = tuple(shlex.split(target.removeprefix(_COMMAND)))
    except ValueError as exc:
        raise ConfigError(f"reload by {target!r}: {exc}", hint="quote it as for a shell") from exc
    if not command:
        raise ConfigError(
            f"reload by {target!r}: no command", hint="command:CMD, for example command:'rc-service ...'"
        )
    return command


def _told_by(command: tuple[str, ...], config: BrokerConfig | None) -> Broker:
    if config is None:
        raise ConfigError(
            "a command does not say which files the broker reads, and they are checked first",
            hint="name its mosquitto.conf",
        )
    # only to see whether it survives; where no pidfd can be had, that stays unknown
    process = find_by_pid_file(Path(config.pid_file)) if config.pid_file and has_pidfd() else None
    return Broker(config, process if isinstance(process, BrokerProcess) else None, command)


def _run(command: tuple[str, ...], *, failure: str) -> str:
    """Run a program without a shell, and return what it printed."""
    try:
        return subprocess.run(  # noqa: S603  # fixed programs with a name that is no flag, or the user's own command
            command,
            env=harmless_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=True,
            timeout=_ANSWER_SECONDS,
        ).stdout
    except subprocess.CalledProcessError as exc:
        said = exc.stderr.strip().splitlines() or [f"exit code {exc.returncode}"]
        raise ReloadError(f"{failure}: {said[-1]}") from exc
    except subprocess.TimeoutExpired as exc:
        raise ReloadError(f"{failure}: no end after {_ANSWER_SECONDS:g} s") from exc
    except OSError as exc:
        raise ReloadError(f"{failure}: {exc.strerror}", hint=f"ways to tell it: {_FORMS}") from exc


def _names_no_password_file(config: BrokerConfig) -> ConfigError:
    what, hint = f"{config.file!r} names no password_file", "add password_file to it, and restart the broker"
    if config.has_dynsec:
        what += ", and keeps its users in the dynamic security plugin"
        hint = "make the user through the plugin"
    return ConfigError(f"{what}: the broker would not read one", hint=hint)


def _check_same(process: BrokerProcess, config_file: Path) -> None:
    # the same file, not the same name: a container has a mosquitto.conf of its own at the path of ours
    theirs = process.locate(str(process.config)) if process.config else None
    if theirs is None or not theirs.exists() or not theirs.samefile(config_file):
        raise ConfigError(
            f"process {process.pid} is a mosquitto of another configuration: {str(process.config)!r}",
            hint="give the configuration that it was started with, or the right pid file",
        )


def _has_no_name(path: Path) -> bool:
    try:
        return path.stat().st_nlink == 0
    except OSError:
        return False


def _config_of(process: BrokerProcess) -> BrokerConfig:
    if process.config is None:
        raise BrokerFileError(
            f"the configuration of the broker, process {process.pid}, cannot be found on its command line",
            hint="name its mosquitto.conf",
        )
    return read_config(process.locate(str(process.config)), locate=process.locate)
