"""A real broker that root starts and that then becomes the user mosquitto, perhaps with mounts of its own."""

import os
import pwd
import subprocess
from pathlib import Path

from plantops_cli.mosquitto.broker.broker import Broker, find_broker
from plantops_cli.mosquitto.broker.process import BrokerProcess
from plantops_cli.mosquitto.files.password_file import write_user
from tests.support.brokers import executable, free_port

USER, PASSWORD = "alice", b"tulip"
ACCEPTED, REFUSED = 0, 5


def launch(folder: Path, *prefix: str, allow_anonymous: str = "false") -> tuple[subprocess.Popen[bytes], int]:
    """Start the broker, and return its process and its port; it may not answer yet.

    Args:
        folder: a folder that every user can reach.
        prefix: a command line before the broker's.
        allow_anonymous: the option of that name.
    """
    port = free_port()
    passwords = folder / "passwords"
    write_user(passwords, USER, PASSWORD, iterations=1000)
    give_to_broker(passwords)
    (folder / "run").mkdir()
    give_to_broker(folder / "run")
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nuser mosquitto\nallow_anonymous {allow_anonymous}\npersistence false\n"
        f"password_file {passwords}\npid_file {folder / 'run' / 'pid'}\n"
    )
    quiet = subprocess.DEVNULL
    command = [*prefix, executable(), "-c", str(config)]
    return subprocess.Popen(command, stdout=quiet, stderr=quiet), port


def give_to_broker(path: Path) -> None:
    account = pwd.getpwnam("mosquitto")
    os.chown(path, account.pw_uid, account.pw_gid)


def found(folder: Path) -> Broker:
    """The broker that runs in a folder, as a program of ours finds it."""
    broker = find_broker(None, folder / "mosquitto.conf")
    assert isinstance(broker.process, BrokerProcess), broker.process
    return broker


def mounting(source: Path, target: Path) -> tuple[str, ...]:
    """A command line before the broker's, for mounts that only the broker sees."""
    return ("unshare", "--mount", "sh", "-ec", f'mount --bind {source} {target}; exec "$@"', "sh")
