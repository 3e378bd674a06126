"""``plantops provision-user`` as a whole process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from plantops_cli.mosquitto.passwords import find_entry, verify_password
from tests.terminal import run_on_terminal

DONE, CONFIG_ERROR, PASSWORD_FILE_ERROR = 0, 2, 7
PASSWORD = "correct horse battery staple"


@pytest.fixture(autouse=True)
def package_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    # the processes started here run in a folder of the test's, and the package need not be installed
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


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
    command = [sys.executable, "-m", "plantops_cli", "provision-user", *arguments]
    env = environment() if env is None else env
    return subprocess.run(command, input=stdin, env=env, capture_output=True, text=True, timeout=60)


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


@pytest.mark.parametrize("username", ["a:b", " x", "#x", "\x1b[2J", "a+b", ""])
def test_an_impossible_user_name_is_refused_and_shown_escaped(
    path: Path, secret_file: Path, username: str
) -> None:
    result = plantops("--file", path, "--secret-file", secret_file, "--", username)
    assert_refused(result, CONFIG_ERROR, "user name", ascii(username))


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
