"""A limit of open files that is too low: one line, whatever the command and wherever it would have run out."""

import asyncio
import os
import resource
import signal
import subprocess
from collections.abc import Sequence
from errno import EMFILE, ENFILE
from pathlib import Path

import pytest

from plantops_cli.cli.shared.room import check_room, explain_no_room
from tests.support.plantops import Done, start
from tests.support.processes import COMMAND, ROOT
from tests.support.scripted_broker import SUBSCRIBE, ScriptedBroker, serving
from tests.support.scripts import run_script
from tests.support.subscribing import no_room, open_files

COMMANDS = (
    ("listen", "-p", "1"),
    ("listen", "-p", "1", "--to", "file"),
    ("fleet", "--once", "-p", "1"),
    ("check", "-p", "1"),
    ("doctor", "-p", "1"),
    ("provision-user", "--file", "passwords", "--no-verify"),
    ("demo", "-W", "1"),
)
# the command line is read only now
LIMITED = """
import resource, sys
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
from plantops_cli.__main__ import main
main()
"""


def environment() -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MQTT_")}
    return ours | {"MQTT_BACKEND_PASSWORD": "tulip"}


def run_with(limit: int, *arguments: str, is_fresh: bool) -> Done:
    """Run a command with a limit, which holds from the start of its interpreter on, or from just behind that."""
    if not is_fresh:
        return run_script(LIMITED, str(limit), *arguments, env=environment())
    line = ["sh", "-c", f'ulimit -n {limit} && exec "$@"', "sh", *COMMAND, *arguments]
    env = environment() | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, env=env, capture_output=True, check=False, timeout=30)
    return Done(done.returncode, done.stdout, done.stderr.decode(), 0.0)


@pytest.mark.parametrize("limit", [6, 12])
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_too_low_a_limit_is_said_in_one_line_and_nothing_is_begun(
    arguments: Sequence[str], limit: int, tmp_path: Path
) -> None:
    done = run_with(limit, *arguments, is_fresh=limit == 6)
    assert done.code == (3 if arguments[0] == "check" else 1)
    said = f"too many open files: the limit of this process is {limit} (raise it, for example: ulimit -n 64)\n"
    # a monitor reads standard output
    answer = f"PLANTOPS UNKNOWN - {said}" if arguments[0] == "check" else ""
    assert (done.stdout.decode(), done.stderr) == (answer, f"plantops: error: {said}")
    assert list(tmp_path.iterdir()) == []


def test_what_needs_no_room_works_with_little() -> None:
    done = run_with(6, "parse-topic", "devices/a/telemetry", is_fresh=True)
    assert (done.code, done.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [*COMMANDS[:2], COMMANDS[5]], ids=" ".join)
def test_a_low_limit_that_suffices_is_no_matter(arguments: Sequence[str]) -> None:
    is_fresh = arguments == COMMANDS[0]
    assert "too many open files" not in run_with(20, *arguments, is_fresh=is_fresh).stderr


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux changes the limits of another process")
async def test_a_connection_lost_while_no_file_can_be_opened_is_made_again_when_one_can() -> None:
    async with serving(ScriptedBroker()) as broker:
        env = {"MQTT_BACKEND_PASSWORD": "tulip"}
        with start("listen", "-h", "127.0.0.1", "-p", str(broker.port), env=env) as running:
            await asyncio.to_thread(running.stderr.wait_for, "connected to")
            pid = running.process.pid
            usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, usual[1]))
            broker.hang_up()
            await asyncio.to_thread(running.stderr.wait_for, "cannot connect: too many open files; retry in")
            resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)
            await broker.wait_for(SUBSCRIBE, 2)
            await asyncio.to_thread(running.stderr.wait_for, "resumed after")
            done = await asyncio.to_thread(running.finish, signal.SIGINT)
    assert (done.code, done.errors) == (0, [])
    assert "Traceback" not in done.stderr


def test_a_check_leaves_nothing_open() -> None:
    before = open_files()
    check_room()
    assert open_files() == before
    with no_room(), pytest.raises(OSError, match="Too many open files"):
        check_room()
    assert open_files() == before


def test_a_machine_without_room_has_another_cure() -> None:
    assert "ulimit -n" in explain_no_room(OSError(EMFILE, "Too many open files"))
    assert "on this machine" in explain_no_room(OSError(ENFILE, "Too many open files in system"))
