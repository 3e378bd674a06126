"""The broker that is to hear of new files: what it reads, whether it runs, and how it is told."""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from plantops_cli.errors import BrokerFileError, ConfigError, ReloadError
from plantops_cli.mosquitto.conf import BrokerConfig
from plantops_cli.mosquitto.conf_file import read_config
from plantops_cli.mosquitto.preflight import is_same_file
from plantops_cli.mosquitto.process import BrokerProcess, NotRunning, find_by_pid, find_by_pid_file

_FORMS = "pid:FILE, systemd, systemd:UNIT, docker:NAME or none"
_NONE = "none"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9:_.@\\-]*")
_QUESTIONS = {
    "systemd": ("systemctl", "show", "--property", "MainPID", "--value"),
    "docker": ("docker", "inspect", "--format", "{{.State.Pid}}"),
}
"""Commands that print the process id of a unit or a container, 0 when it does not run."""

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
    """

    config: BrokerConfig | None
    process: BrokerProcess | NotRunning | None

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
                raise ConfigError("no password file is given", hint="give --file FILE or set MQTT_PASSWORD_FILE")
            return given
        found = [self.locate(path) for path in self.config.password_files]
        if not found:
            dynsec = ", and keeps its users in the dynamic security plugin" if self.config.has_dynsec else ""
            raise ConfigError(
                f"{self.config.file!r} names no password_file{dynsec}: the broker would not read one",
                hint="mosquitto_ctrl dynsec" if dynsec else "add password_file to it, and restart the broker",
            )
        names = ", ".join(repr(str(path)) for path in found)
        if given is None and len(found) > 1:
            raise ConfigError(
                f"{self.config.file!r} names several password files: {names}", hint="choose by --file"
            )
        if given is not None and not any(is_same_file(given, path) for path in found):
            raise ConfigError(
                f"the broker reads {names}, not {str(given)!r}",
                hint=f"{self.config.file!r} says so: leave --file out",
            )
        return found[0] if given is None else given

    def tell(self) -> bool:
        """Make a running broker read its files again; False when none runs.

        Raises:
            ReloadError: it may not be signalled, or has ended.
        """
        if not isinstance(self.process, BrokerProcess):
            return False
        self.process.hang_up()
        return True

    def has_survived(self) -> bool:
        """Tell whether a broker that was told is still there a moment later."""
        return not (isinstance(self.process, BrokerProcess) and self.process.wait_for_end(SURVIVAL_SECONDS))

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
        target: ``pid:FILE``, ``systemd``, ``systemd:UNIT``, ``docker:NAME`` or ``none``; None for the ``pid_file``
            of the configuration.
        config_file: the configuration that it was started with; None for the one on its command line.

    Raises:
        ConfigError: another form of target, or a broker of another configuration.
        BrokerFileError: the configuration cannot be read.
        ReloadError: the process cannot be looked at, or may not be signalled.
    """
    config = read_config(config_file) if config_file is not None else None
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
        pid = _ask(_QUESTIONS[way], name)
        return find_by_pid(pid) if pid else NotRunning(f"{way} has no running {name!r}")
    if target != _NONE:
        raise ConfigError(f"--reload {target!r}: no such way", hint=_FORMS)
    return None


def _ask(question: tuple[str, ...], name: str) -> int:
    # the children need no password of ours
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MQTT_")}
    try:
        answer = subprocess.run(  # noqa: S603  # fixed programs, and a name that is no flag
            [*question, name],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=True,
            timeout=_ANSWER_SECONDS,
        ).stdout
        return int(answer)
    except subprocess.CalledProcessError as exc:
        said = exc.stderr.strip().splitlines() or [f"exit code {exc.returncode}"]
        raise ReloadError(f"{question[0]} does not say where {name!r} runs: {said[-1]}") from exc
    except (OSError, ValueError, subprocess.TimeoutExpired) as exc:
        raise ReloadError(
            f"{question[0]} does not say where {name!r} runs: {type(exc).__name__}", hint=f"--reload {_FORMS}"
        ) from exc


def _check_same(process: BrokerProcess, config_file: Path) -> None:
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
            hint="give it by --config",
        )
    return read_config(process.locate(str(process.config)), locate=process.locate)
