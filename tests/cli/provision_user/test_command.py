"""``plantops provision-user`` as a whole process."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from plantops_cli.mosquitto.text.hashing import verify_password
from plantops_cli.mosquitto.text.passwords import find_entry
from tests.support.brokers import Mosquitto, free_port
from tests.support.plantops import run
from tests.support.terminal import run_on_terminal

DONE, CONFIG_ERROR, PASSWORD_FILE_ERROR = 0, 2, 7
PASSWORD = "correct horse battery staple"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "passwd"


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_text(PASSWORD + "\n")
    return secret


def environment(**variables: str | Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MQTT_")}
    return inherited | {name: str(value) for name, value in variables.items()}


def plantops(
    *arguments: str | Path, stdin: str = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    done = run("provision-user", *map(str, arguments), stdin=stdin.encode(), env=env)
    return subprocess.CompletedProcess((), done.code, done.stdout.decode(), done.stderr)


def logs_in(path: Path, username: str, password: str) -> bool:
    entry = find_entry(path.read_bytes(), username)
    return entry is not None and verify_password(password.encode(), entry)


def assert_refused(result: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("plantops: error: ")
    assert result.stderr.count("\n") == 1
    assert PASSWORD not in result.stderr
    assert [word for word in words if word not in result.stderr] == []


def test_the_backend_login_is_made_from_the_environment(path: Path) -> None:
    result = plantops(env=environment(MQTT_BACKEND_PASSWORD=PASSWORD, MQTT_PASSWORD_FILE=path))
    assert (result.returncode, result.stdout) == (DONE, f"plantops_backend: created in {path}\n")
    assert "reload the broker" in result.stderr
    assert logs_in(path, "plantops_backend", PASSWORD)


def test_a_second_run_changes_nothing_and_says_so(path: Path, secret_file: Path) -> None:
    plantops("--file", path, "--secret-file", secret_file)
    before = path.stat()
    result = plantops("--file", path, "--secret-file", secret_file)
    assert (result.returncode, result.stdout) == (DONE, f"plantops_backend: unchanged in {path}\n")
    assert result.stderr == ""
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_new_password_updates_the_login(path: Path) -> None:
    plantops("--file", path, "--secret-file", "-", stdin="old\n")
    result = plantops("--file", path, "--secret-file", "-", stdin=f"{PASSWORD}\n")
    assert result.stdout == f"plantops_backend: updated in {path}\n"
    assert logs_in(path, "plantops_backend", PASSWORD)


def test_a_user_name_given_outranks_the_environment(path: Path, secret_file: Path) -> None:
    env = environment(MQTT_BACKEND_USERNAME="from_env")
    plantops("--file", path, "--secret-file", secret_file, env=env)
    plantops("given", "--file", path, "--secret-file", secret_file, env=env)
    assert logs_in(path, "from_env", PASSWORD)
    assert logs_in(path, "given", PASSWORD)


def test_a_secret_file_given_outranks_the_environment(path: Path, secret_file: Path) -> None:
    plantops("--file", path, "--secret-file", secret_file, env=environment(MQTT_BACKEND_PASSWORD="other"))
    assert logs_in(path, "plantops_backend", PASSWORD)


def test_a_mounted_secret_is_read(path: Path, secret_file: Path) -> None:
    plantops("--file", path, env=environment(MQTT_BACKEND_PASSWORD_FILE=secret_file))
    assert logs_in(path, "plantops_backend", PASSWORD)


def test_without_a_source_a_terminal_is_asked_twice(path: Path) -> None:
    typed = f"{PASSWORD}\n".encode()
    command = [sys.executable, "-m", "plantops_cli", "provision-user", "--file", str(path)]
    result = run_on_terminal(command, answers=[typed, typed], env=environment())
    assert result.returncode == DONE, result.stderr
    assert PASSWORD.encode() not in result.stdout + result.stderr
    assert logs_in(path, "plantops_backend", PASSWORD)


def test_without_a_source_and_a_terminal_the_sources_are_listed(path: Path) -> None:
    sources = ("MQTT_BACKEND_PASSWORD", "MQTT_BACKEND_PASSWORD_FILE", "--secret-file", "prompt")
    assert_refused(plantops("--file", path), CONFIG_ERROR, *sources)
    assert not path.exists()


def test_without_a_password_file_the_ways_to_name_it_are_told(secret_file: Path) -> None:
    assert_refused(plantops("--secret-file", secret_file), CONFIG_ERROR, "--file", "MQTT_PASSWORD_FILE")


def test_two_flags_for_the_password_are_ambiguous(path: Path, secret_file: Path) -> None:
    result = plantops("--file", path, "--secret-file", secret_file, "-P")
    assert_refused(result, CONFIG_ERROR, "--secret-file", "--ask-password")


def test_two_variables_for_the_password_are_ambiguous(path: Path, secret_file: Path) -> None:
    env = environment(MQTT_BACKEND_PASSWORD=PASSWORD, MQTT_BACKEND_PASSWORD_FILE=secret_file)
    assert_refused(plantops("--file", path, env=env), CONFIG_ERROR, "MQTT_BACKEND_PASSWORD_FILE")


@pytest.mark.parametrize("password", ["", PASSWORD + "\n", PASSWORD + "\r\nx", PASSWORD + "\x1b"])
def test_a_variable_that_is_no_password_is_refused_without_being_shown(path: Path, password: str) -> None:
    result = plantops("--file", path, env=environment(MQTT_BACKEND_PASSWORD=password))
    assert_refused(result, CONFIG_ERROR, "password")
    assert not path.exists()


@pytest.mark.parametrize("username", [" x", "#x", "\x1b[2J", "a+b", ""])
def test_an_impossible_user_name_is_refused_and_shown_escaped(
    path: Path, secret_file: Path, username: str
) -> None:
    result = plantops("--file", path, "--secret-file", secret_file, "--", username)
    assert_refused(result, CONFIG_ERROR, "user name", ascii(username))


def test_an_impossible_user_name_is_shown_without_what_may_be_its_password(path: Path, secret_file: Path) -> None:
    result = plantops("--file", path, "--secret-file", secret_file, f"a:{PASSWORD}")
    assert_refused(result, CONFIG_ERROR, "user name", "'a:...'", "':'")


def test_a_file_that_is_no_password_file_is_refused_and_kept(path: Path, secret_file: Path) -> None:
    path.write_text("listener 1883\n")
    result = plantops("--file", path, "--secret-file", secret_file)
    assert_refused(result, PASSWORD_FILE_ERROR, str(path), "line 1 does not look like a password file")
    assert path.read_text() == "listener 1883\n"


def test_a_missing_folder_is_a_password_file_error(path: Path, secret_file: Path) -> None:
    result = plantops("--file", path / "passwd", "--secret-file", secret_file)
    assert_refused(result, PASSWORD_FILE_ERROR, "folder must exist")


def test_a_password_is_no_argument(path: Path) -> None:
    assert plantops("--file", path, "plantops_backend", PASSWORD).returncode == CONFIG_ERROR
    assert not path.exists()


def test_a_new_file_comes_with_the_advice_to_let_the_broker_read_it(path: Path, secret_file: Path) -> None:
    first = plantops("alice", "--file", path, "--secret-file", secret_file)
    second = plantops("bob", "--file", path, "--secret-file", secret_file)
    assert "chown mosquitto" in first.stderr
    assert "chown" not in second.stderr


def test_a_password_after_the_user_name_is_refused_without_being_shown(path: Path) -> None:
    result = plantops("--file", path, "alice", PASSWORD)
    assert_refused(result, CONFIG_ERROR, "never taken from the command line", "MQTT_BACKEND_PASSWORD", "-P")


@pytest.mark.parametrize(
    "flags",
    [
        ["--if-missing", "--remove"],
        ["--remove", "--list"],
        ["--fail-on-drift"],
        ["--show"],
        ["--generate"],
        ["--generate", "--secret-file", "-"],
        ["--generate", "--show", "-P"],
        ["--generate", "--show", "--remove"],
        ["--trial-broker", "--list"],
        ["--lock-timeout", "-1"],
        ["--lock-timeout", "nan"],
        ["--iterations", "0"],
        ["--iterations", "-1"],
        ["--iterations", "999"],
        ["--iterations", "1000001"],
        ["--iterations", "2147483648"],
        ["--iterations", "1000000000000"],
        ["--owner", "nobody-of-this-name"],
        ["--owner", "root:no-group-of-this-name"],
    ],
)
def test_flags_that_make_no_sense_are_refused_before_anything_is_made(path: Path, flags: list[str]) -> None:
    result = plantops("--file", path, *flags, env=environment(MQTT_BACKEND_PASSWORD=PASSWORD))
    assert_refused(result, CONFIG_ERROR)
    assert not path.exists()


def test_a_generated_password_goes_to_its_file_alone(path: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    result = plantops("--file", path, "--generate", "--secret-file", made)
    password = made.read_text().removesuffix("\n")
    assert result.returncode == DONE, result.stderr
    assert made.stat().st_mode & 0o777 == 0o600
    assert len(password) >= 43  # 256 bits in base64
    assert logs_in(path, "plantops_backend", password)
    assert password not in result.stdout + result.stderr


def test_a_generated_password_is_shown_only_when_asked_for(path: Path) -> None:
    result = plantops("--file", path, "--generate", "--show")
    assert logs_in(path, "plantops_backend", result.stdout.splitlines()[-1])


def test_a_secret_that_is_there_is_never_overwritten(path: Path, secret_file: Path) -> None:
    result = plantops("--file", path, "--generate", "--secret-file", secret_file)
    assert_refused(result, CONFIG_ERROR, "exists already")
    assert secret_file.read_text() == PASSWORD + "\n"
    assert not path.exists()


def test_no_secret_is_left_of_a_run_that_was_refused(path: Path, tmp_path: Path) -> None:
    path.write_text("listener 1883\n")
    assert plantops("--file", path, "--generate", "--secret-file", tmp_path / "made").returncode == 7
    assert not (tmp_path / "made").exists()


def test_if_missing_reports_drift_and_fails_only_when_asked_to(path: Path, secret_file: Path) -> None:
    plantops("--file", path, "--secret-file", "-", stdin="old\n")
    before = path.read_bytes()
    told = plantops("--file", path, "--if-missing", "--secret-file", secret_file)
    failed = plantops("--file", path, "--if-missing", "--fail-on-drift", "--secret-file", secret_file)
    assert (told.returncode, failed.returncode) == (DONE, 5)
    assert "another password" in told.stderr
    assert told.stdout == f"plantops_backend: unchanged in {path}\n"
    assert path.read_bytes() == before


def test_the_same_password_with_a_weaker_hash_is_upgraded(path: Path, secret_file: Path) -> None:
    subprocess.run(["mosquitto_passwd", "-c", "-b", path, "plantops_backend", PASSWORD], check=True)
    result = plantops("--file", path, "--secret-file", secret_file)
    assert result.stdout == f"plantops_backend: upgraded in {path}\n"
    assert b"$7$10000$" in path.read_bytes()


def test_iterations_that_hold_up_the_broker_come_with_a_warning(path: Path, secret_file: Path) -> None:
    result = plantops("--file", path, "--secret-file", secret_file, "--iterations", "100001")
    assert result.returncode == DONE
    assert "only thread" in result.stderr
    assert "reload" in result.stderr
    assert b"$7$100001$" in path.read_bytes()


def test_remove_needs_no_password(path: Path, secret_file: Path) -> None:
    plantops("--file", path, "--secret-file", secret_file)
    result = plantops("--file", path, "--remove")
    assert (result.returncode, result.stdout) == (DONE, f"plantops_backend: removed in {path}\n")
    assert path.read_bytes() == b""
    assert plantops("--file", path, "--remove").stdout == f"plantops_backend: unchanged in {path}\n"


def test_list_shows_names_and_kinds_and_never_a_hash(path: Path, secret_file: Path) -> None:
    plantops("--file", path, "--secret-file", secret_file)
    plantops("bob", "--file", path, "--secret-file", secret_file, "--iterations", "2000")
    lines = plantops("--file", path, "--list").stdout.splitlines()
    document = json.loads(plantops("--file", path, "--list", "-o", "json").stdout)
    assert [line.split(maxsplit=1)[0] for line in lines] == ["plantops_backend", "bob"]
    assert "10,000 iterations" in lines[0]
    assert [user["username"] for user in document["users"]] == ["plantops_backend", "bob"]
    assert "$7$" not in "".join(lines) + json.dumps(document)


def test_list_names_a_kind_that_it_does_not_know_as_unknown(path: Path) -> None:
    path.write_text(f"alice:$8$1000${'A' * 16}${'B' * 86}==\nbob:$8$cut\n")
    lines = plantops("--file", path, "--list").stdout.splitlines()
    users = json.loads(plantops("--file", path, "--list", "-o", "json").stdout)["users"]
    assert [line.split(maxsplit=1)[1] for line in lines] == ["unknown kind ($8$)", "malformed"]
    assert [user["valid"] for user in users] == [None, False]


def test_a_dry_run_says_what_it_would_do(path: Path, secret_file: Path) -> None:
    result = plantops("--file", path, "--secret-file", secret_file, "--dry-run")
    assert (result.returncode, result.stdout) == (DONE, f"plantops_backend: would be created in {path}\n")
    assert not path.exists()


def test_the_outcome_as_json_is_one_document_on_stdout(path: Path, secret_file: Path, tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    result = plantops("--file", path, "--acl-file", acl, "--secret-file", secret_file, "-o", "json")
    document = json.loads(result.stdout)
    assert (document["action"], document["acl"]["action"], document["proof"]) == ("created", "created", None)
    assert (document["username"], document["file"], document["dry_run"]) == ("plantops_backend", str(path), False)
    assert PASSWORD not in result.stdout + result.stderr
    assert result.stderr == ""


def test_the_right_to_read_is_given_and_shown(path: Path, secret_file: Path, tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    result = plantops("--file", path, "--acl-file", acl, "--secret-file", secret_file)
    assert "right to read devices/+/telemetry and devices/+/heartbeat: created" in result.stdout
    assert b"user plantops_backend\ntopic read devices/+/telemetry\n" in acl.read_bytes()


def test_a_known_address_has_the_login_proven(own_mosquitto: Mosquitto) -> None:
    file = own_mosquitto.folder / "passwords"
    proven = plantops("--file", file, env=environment(**own_mosquitto.environment))
    assert proven.returncode == DONE, proven.stderr
    assert f"127.0.0.1:{own_mosquitto.port}: the login is accepted, a wrong password refused" in proven.stdout
    env = environment(**own_mosquitto.environment | {"MQTT_BACKEND_PASSWORD": "another"})
    failed = plantops("--file", file, env=env)
    assert failed.returncode == 5
    assert failed.stdout == f"plantops_backend: updated in {file}\n"
    assert "not reloaded" in failed.stderr
    assert plantops("--file", file, "--no-verify", env=env).returncode == DONE


def test_a_broker_that_does_not_run_is_told_after_the_file_is_written(path: Path, secret_file: Path) -> None:
    address = ("-h", "127.0.0.1", "-p", str(free_port()))
    result = plantops("--file", path, "--secret-file", secret_file, *address)
    assert result.returncode == 3
    assert logs_in(path, "plantops_backend", PASSWORD)
    assert plantops("--file", path, "--secret-file", secret_file, *address, "--no-verify").returncode == DONE


def test_the_canary_is_flown(path: Path, secret_file: Path) -> None:
    assert plantops("--file", path, "--secret-file", secret_file, "--trial-broker").returncode == DONE
    assert logs_in(path, "plantops_backend", PASSWORD)


def test_a_lock_that_another_run_holds_is_waited_for_as_long_as_asked(path: Path, secret_file: Path) -> None:
    with path.with_name(".passwd.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = plantops("--file", path, "--secret-file", secret_file, "--lock-timeout", "0.1")
    assert_refused(result, PASSWORD_FILE_ERROR, "--lock-timeout")


def test_a_configuration_is_all_that_a_running_broker_needs(own_mosquitto: Mosquitto) -> None:
    config = own_mosquitto.folder / "mosquitto.conf"
    own_mosquitto.stop()
    own_mosquitto.extra = f"pid_file {own_mosquitto.folder / 'pid'}"
    own_mosquitto.start()
    env = environment(MQTT_BACKEND_PASSWORD="another one")
    result = plantops("--config", config, env=env)
    assert result.returncode == DONE, result.stderr
    assert result.stdout.splitlines() == [
        f"plantops_backend: updated in {own_mosquitto.folder / 'passwords'}",
        "the broker has read its files again",
        f"127.0.0.1:{own_mosquitto.port}: the login is accepted, a wrong password refused",
    ]
    assert "disconnected" in result.stderr
    document = json.loads(plantops("--config", config, "-o", "json", env=env).stdout)
    assert (document["action"], document["reloaded"]) == ("unchanged", False)
    assert document["proof"]["anonymous_accepted"] is False


def test_a_configuration_that_is_not_there_is_refused(path: Path, secret_file: Path, tmp_path: Path) -> None:
    missing = tmp_path / "none.conf"
    result = plantops("--config", missing, "--secret-file", secret_file)
    assert_refused(result, PASSWORD_FILE_ERROR, str(missing))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_no_canary_behind(
    path: Path, secret_file: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    silent = folder / "mosquitto"  # a broker that never answers
    silent.write_text(
        f"#!/bin/sh\necho $$ > {tmp_path / 'pid.new'}\nmv {tmp_path / 'pid.new'} {tmp_path / 'pid'}\n"
        "exec sleep 60\n"
    )
    silent.chmod(0o755)
    (tmp_path / "tmp").mkdir()
    env = environment(TMPDIR=tmp_path / "tmp") | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-m", "plantops_cli", "provision-user", "--trial-broker", "--file", str(path)]
    with subprocess.Popen(
        [*command, "--secret-file", str(secret_file)], env=env, stderr=subprocess.PIPE
    ) as process:
        pid = int(wait_for_text(tmp_path / "pid"))
        process.send_signal(number)
        assert process.wait(timeout=20) == code
    assert not Path(f"/proc/{pid}").exists()
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not path.exists()


def wait_for_text(path: Path) -> str:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} does not appear"
        time.sleep(0.01)
    return path.read_text()
