"""A command or a script that is forked from a process which has loaded it is as one that is started afresh."""

import json
import os
import signal
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.brokers import Mosquitto
from tests.support.plantops import Done, run, start, start_on_terminal
from tests.support.scripts import run_script

COMMANDS = (
    ("parse-topic", "devices/ü/telemetry"),
    ("parse-topic", "-"),
    ("listen", "--help"),
    ("listen", "-W", "soon"),
    ("listen", "-h", "127.0.0.1", "-p", "1"),
    ("provision-user", "--file", "absent/passwords", "--no-verify"),
    ("check", "-h", "127.0.0.1", "-p", "1", "--within", "0.5s"),
)

SCRIPTS = {
    "what it is given": "import os, sys; print(sys.argv, os.environ['MINE'], os.getcwd(), sys.stdin.read())",
    "nothing else open": """
import os
first = os.open(os.devnull, os.O_RDONLY)
print(first, len(os.listdir("/dev/fd")))
""",
    "the helpers": "from tests.support.samples import lines; print(lines(1))",
    "few descriptors": """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (6, 6))
from plantops_cli.cli.app import run
run(["listen", "-p", "1"])
""",
    "an exit code": "import sys; print('said'); sys.exit(7)",
    "a large exit code": "import sys; sys.exit(-250)",
    "last words": "import sys; print('said'); sys.exit('no more')",
    "a thread that ends last": "import threading; threading.Timer(0.1, print, ['said']).start(); print('begun')",
    "what is done at the end": "import atexit; atexit.register(print, 'last'); print('first')",
    "an interrupt": "print('said'); raise KeyboardInterrupt",
    "an error": "x = 1\nraise RuntimeError(x)",
    "words that cannot go out": """
import atexit, os, sys
sys.stdout = os.fdopen(os.dup(1), "w")
print("said")
atexit.register(os.close, sys.stdout.fileno())
""",
    "a kill": "import os; os.kill(os.getpid(), 9)",
}
GIVE_UP_RIGHTS = """
import os
os.setgroups([])
os.setgid(54_322)
os.setuid(54_322)
try:
    os.setuid(0)
except PermissionError:
    print(os.getresuid(), os.getresgid(), os.getgroups())
"""


@pytest.fixture(params=[False, True], ids=["forked", "fresh"])
def each_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "IS_ALWAYS_FRESH", request.param)


def result(arguments: tuple[str, ...]) -> tuple[int, bytes, str]:
    done: Done = run(*arguments, env={"MQTT_BACKEND_PASSWORD": "tulip"}, stdin=b"devices/a/heartbeat\n")
    return done.code, done.stdout, done.stderr


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_it_says_the_same(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    forked = result(arguments)
    monkeypatch.setattr(processes, "IS_ALWAYS_FRESH", True)
    assert forked == result(arguments)


@pytest.mark.usefixtures("each_way")
def test_a_signal_ends_it(mosquitto: Mosquitto) -> None:
    with start("listen", env=mosquitto.environment) as listening:
        listening.stderr.wait_for("connected to")
        assert listening.process.poll() is None
        assert listening.finish(signal.SIGTERM).code == 0


@pytest.mark.usefixtures("each_way")
def test_a_kill_is_told(mosquitto: Mosquitto) -> None:
    with start("listen", env=mosquitto.environment) as listening:
        listening.stderr.wait_for("connected to")
        listening.process.kill()
        assert listening.process.wait(timeout=10) == -signal.SIGKILL


@pytest.mark.usefixtures("each_way")
def test_ctrl_c_reaches_it_on_its_terminal(mosquitto: Mosquitto) -> None:
    with start_on_terminal("listen", env=mosquitto.environment) as (listening, keyboard):
        listening.stderr.wait_for("connected to")
        keyboard.write(b"\x03")
        assert listening.finish().code == 0


@pytest.mark.usefixtures("each_way")
def test_its_folder_and_its_umask_are_ours(tmp_path: Path) -> None:
    usual = os.umask(0o077)
    try:
        done = run("provision-user", "--file", "here", "--no-verify", env={"MQTT_BACKEND_PASSWORD": "tulip"})
    finally:
        os.umask(usual)
    assert done.code == 0, done.stderr
    assert tmp_path.joinpath("here").stat().st_mode & 0o077 == 0


def test_what_is_read_when_an_interpreter_starts_needs_a_fresh_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "IS_ALWAYS_FRESH", False)
    assert not processes.must_be_fresh(os.environ)
    assert processes.must_be_fresh(os.environ | {"PYTHONIOENCODING": "ascii"})
    assert processes.must_be_fresh(os.environ | {"LC_ALL": "de_DE"})
    assert json.loads(run("parse-topic", "devices/a/telemetry", env={"PYTHONDEVMODE": "1"}).stdout)


@pytest.mark.parametrize("code", SCRIPTS.values(), ids=SCRIPTS)
def test_a_script_does_the_same(code: str) -> None:
    forked, fresh = (
        run_script(code, "one", "two", env=os.environ | {"MINE": "mine"}, is_fresh=is_fresh)
        for is_fresh in (False, True)
    )
    assert (forked.code, forked.stdout) == (fresh.code, fresh.stdout)
    assert forked.stderr.splitlines()[-1:] == fresh.stderr.splitlines()[-1:]


@pytest.mark.parametrize("is_fresh", [False, True], ids=["forked", "fresh"])
def test_what_a_script_has_left_lying_in_a_circle_is_told_at_its_end(is_fresh: bool) -> None:
    done = run_script("async def lost(): pass\nkept = [lost()]\nkept.append(kept)", is_fresh=is_fresh)
    assert "coroutine 'lost' was never awaited" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("is_fresh", [False, True], ids=["forked", "fresh"])
def test_a_script_gives_up_its_rights_for_good(is_fresh: bool) -> None:
    ids = (54_322,) * 3
    done = run_script(GIVE_UP_RIGHTS, is_fresh=is_fresh)
    assert done.stdout.decode() == f"{ids} {ids} []\n", done.stderr
