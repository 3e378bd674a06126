"""Finding a broker by its process id, and never mistaking anything else for it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from plantops_cli.mosquitto.broker.process import (
    BrokerProcess,
    NotRunning,
    config_argument,
    find_by_pid,
    find_by_pid_file,
    parse_version,
    within,
)
from tests.support.brokers import START_SECONDS, Mosquitto, executable, free_port

AS_NOBODY = """
import os, sys
from plantops_cli.mosquitto.broker.process import find_by_pid
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
process = find_by_pid(int(sys.argv[1]))
print(process.may_signal())
process.close()
"""


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else, or mount")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    running = Mosquitto(tmp_path, extra=f"pid_file {tmp_path / 'pid'}")
    running.start()
    yield running
    running.stop()


def pid_of(broker: Mosquitto) -> int:
    assert broker.process is not None
    return broker.process.pid


def found(broker: Mosquitto) -> BrokerProcess:
    process = find_by_pid_file(broker.folder / "pid")
    assert isinstance(process, BrokerProcess)
    return process


def test_a_broker_is_found_with_its_configuration_and_its_user(broker: Mosquitto) -> None:
    with closing(found(broker)) as process:
        assert (process.pid, process.config) == (pid_of(broker), broker.folder / "mosquitto.conf")
        assert process.user.uid == os.geteuid()
        assert process.locate("/etc/passwd") == Path("/etc/passwd")
        assert process.is_alive()
        assert process.may_signal()


def test_the_version_is_asked_of_its_own_program(broker: Mosquitto) -> None:
    shown = subprocess.run(["mosquitto", "-h"], capture_output=True, text=True).stdout.split()[2]
    with closing(found(broker)) as process:
        assert process.version() == tuple(int(part) for part in shown.split(".")[:2])


def in_a_root_of_its_own(folder: Path) -> tuple[str, ...]:
    """A command line before the broker's: it has all of the system, in another root folder, as in a container."""
    binds = "for d in usr etc dev proc tmp; do mkdir {0}/$d; mount --rbind /$d {0}/$d; done; "
    links = "for d in bin sbin lib lib64; do ln -s usr/$d {0}/$d; done; "
    script = "mount -t tmpfs none {0}; " + binds + links + 'exec chroot {0} "$@"'
    return ("unshare", "--mount", "sh", "-ec", script.format(folder), "sh")


@needs_root
def test_the_program_of_a_container_is_never_run(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    config = f"listener {free_port()} 127.0.0.1\nuser root\npid_file {tmp_path / 'pid'}\n"
    (tmp_path / "mosquitto.conf").write_text(config)
    command = [*in_a_root_of_its_own(tmp_path / "root"), executable(), "-c", str(tmp_path / "mosquitto.conf")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            process = wait_for_broker(tmp_path / "pid")
            with closing(process), process.program() as program:
                assert process.is_in_another_view
                assert (program, process.version()) == (None, None)
        finally:
            running.kill()


def wait_for_broker(pid_file: Path) -> BrokerProcess:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        process = find_by_pid_file(pid_file)
        if isinstance(process, BrokerProcess):
            return process
        time.sleep(0.02)
    pytest.fail("mosquitto did not start")


@needs_root
def test_a_broker_that_may_read_every_file_is_known_by_its_capabilities(tmp_path: Path) -> None:
    rights = "+dac_read_search"
    user = ("setpriv", "--reuid=65534", "--clear-groups", f"--inh-caps={rights}", f"--ambient-caps={rights}")
    for prefix, expected in ((user, True), (("setpriv", "--reuid=65534", "--clear-groups"), False)):
        with subprocess.Popen(
            [*prefix, executable(), "-p", str(free_port())], stderr=subprocess.DEVNULL
        ) as running:
            try:
                wait_for_uid(running.pid, 65534)
                process = find_by_pid(running.pid)
                assert isinstance(process, BrokerProcess)
                with closing(process):
                    assert process.user.reads_all is expected
            finally:
                running.kill()


def wait_for_uid(pid: int, uid: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while f"Uid:\t{uid}" not in (status := Path(f"/proc/{pid}/status").read_text()) or "mosquitto" not in status:
        assert time.monotonic() < deadline, status
        time.sleep(0.01)


def test_a_process_knows_when_it_was_started(tmp_path: Path) -> None:
    before = time.time()
    with Mosquitto(tmp_path, extra=f"pid_file {tmp_path / 'pid'}") as broker, closing(found(broker)) as process:
        assert process.started_seconds is not None
        # to a hundredth of a second, and by another clock
        assert before - 0.1 < process.started_seconds < time.time() + 0.1


def test_the_end_of_the_process_is_seen(broker: Mosquitto) -> None:
    with closing(found(broker)) as process:
        assert not process.wait_for_end(0.01)
        broker.stop()
        assert process.wait_for_end(5)
        assert not process.is_alive()


@needs_root
def test_a_broker_of_somebody_else_may_not_be_signalled(broker: Mosquitto) -> None:
    command = [sys.executable, "-c", AS_NOBODY, str(pid_of(broker))]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env, timeout=30)
    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize("content", [b"", b"x", b"-1", b"0", b"1 2", b"99999999999999", b"4194304999"])
def test_a_pid_file_of_nonsense_means_no_broker(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pid").write_bytes(content)
    assert isinstance(find_by_pid_file(tmp_path / "pid"), NotRunning)


def test_a_missing_pid_file_means_no_broker(tmp_path: Path) -> None:
    assert find_by_pid_file(tmp_path / "pid") == NotRunning(f"there is no pid file {str(tmp_path / 'pid')!r}")


def test_a_pid_file_of_a_broker_that_has_ended_is_stale(broker: Mosquitto) -> None:
    content = (broker.folder / "pid").read_bytes()
    broker.stop()
    (broker.folder / "pid").write_bytes(content)
    stale = find_by_pid_file(broker.folder / "pid")
    assert isinstance(stale, NotRunning)
    assert "stale" in stale.reason


def test_a_process_that_is_no_broker_is_named(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text(str(os.getpid()))
    stale = find_by_pid_file(tmp_path / "pid")
    assert isinstance(stale, NotRunning)
    assert "stale" in stale.reason


def test_a_zombie_is_no_broker() -> None:
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert isinstance(find_by_pid(child.pid), NotRunning)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("mosquitto",), None),
        (("mosquitto", "-c", "/a"), "/a"),
        (("mosquitto", "--config-file", "/a", "-d"), "/a"),
        (("mosquitto", "-c", "/a", "-c", "/b"), "/b"),
        (("mosquitto", "-c"), None),
    ],
)
def test_the_last_configuration_on_the_command_line_counts(
    arguments: tuple[str, ...], expected: str | None
) -> None:
    assert config_argument(arguments) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [(b"mosquitto version 2.0.11\n", (2, 0)), (b"mosquitto version 2.1.2", (2, 1)), (b"", None)],
)
def test_the_version_is_read_from_the_help(text: bytes, expected: tuple[int, int] | None) -> None:
    assert parse_version(text) == expected


def test_links_of_a_container_stay_inside_of_it(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/link").symlink_to("/data/file")
    assert within(tmp_path, "/etc/link") == tmp_path / "data/file"
    assert within(tmp_path, "/../../etc/passwd") == tmp_path / "etc/passwd"
