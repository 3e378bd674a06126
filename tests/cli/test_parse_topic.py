import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import plantops

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "plantops_cli", "parse-topic")
GOOD = "devices/abc/telemetry"


def run(*arguments: str | bytes, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    done = plantops.run("parse-topic", *map(os.fsdecode, arguments), stdin=stdin)
    return subprocess.CompletedProcess((), done.code, done.stdout, done.stderr.encode())


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    pipe = subprocess.PIPE
    with subprocess.Popen([*COMMAND, *arguments], cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        try:
            yield process
        finally:
            process.kill()


def on_terminal(*arguments: str) -> bytes:
    """What the command writes on a terminal."""
    terminal, stdout = pty.openpty()
    subprocess.run([*COMMAND, *arguments], cwd=ROOT, stdout=stdout, timeout=60, check=True)
    os.close(stdout)
    try:
        return os.read(terminal, 65_536)
    finally:
        os.close(terminal)


def test_off_a_terminal_each_topic_is_a_json_line() -> None:
    done = run(GOOD, "devices/ü/heartbeat")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"topic": GOOD, "device_id": "abc", "kind": "telemetry"},
        {"topic": "devices/ü/heartbeat", "device_id": "ü", "kind": "heartbeat"},
    ]
    assert (done.returncode, done.stderr) == (0, b"")


def test_on_a_terminal_a_topic_is_a_line_to_read() -> None:
    assert on_terminal(GOOD) == b"device_id=abc  kind=telemetry\r\n"


@pytest.mark.parametrize("output", ["text", "jsonl"])
def test_a_control_character_never_reaches_a_terminal(output: str) -> None:
    shown = on_terminal("-o", output, "devices/a\x1b[2J\u202e\n/telemetry")
    assert shown.removesuffix(b"\r\n").decode().isprintable()


@pytest.mark.parametrize(("field", "value"), [("device_id", b"abc\n"), ("kind", b"telemetry\n")])
def test_field_prints_the_value_alone(field: str, value: bytes) -> None:
    assert run("--field", field, GOOD).stdout == value


def test_an_id_with_a_newline_stays_on_one_line() -> None:
    assert run("--field", "device_id", "devices/a\nb/telemetry").stdout == b"a\\nb\n"


def test_field_and_jsonl_together_are_a_usage_error() -> None:
    done = run("--field", "kind", "-o", "jsonl", GOOD)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"--field" in done.stderr


def test_invalid_topics_come_on_stderr_with_reasons_and_exit_8() -> None:
    done = run("--field", "device_id", "nope", GOOD, "devices//telemetry", "devices/x/heartbeat")
    assert (done.returncode, done.stdout) == (8, b"abc\nx\n")
    first, second = done.stderr.decode().splitlines()
    assert first.startswith("plantops: error: topic 'nope' does not begin with devices/")
    assert second.startswith("plantops: error: topic 'devices//telemetry' has an empty device id")


def test_an_argument_that_is_not_utf8_is_an_invalid_topic() -> None:
    done = run(b"devices/\xff/telemetry")
    assert done.returncode == 8
    assert b"is not UTF-8" in done.stderr


def test_a_dash_reads_lines_from_stdin_in_its_place() -> None:
    done = run("--field", "device_id", "devices/1/telemetry", "-", "devices/4/telemetry",
               stdin=b"devices/2/telemetry\r\ndevices/3/heartbeat")  # fmt: skip
    assert (done.returncode, done.stdout) == (0, b"1\n2\n3\n4\n")


def test_a_bad_line_on_stdin_is_named_by_its_number() -> None:
    done = run("--field", "device_id", "-", stdin=b"devices/1/telemetry\n\n\xff\xfe\ndevices/4/heartbeat\n")
    assert (done.returncode, done.stdout) == (8, b"1\n4\n")
    blank, binary = done.stderr.decode().splitlines()
    assert blank.startswith("plantops: error: line 2: an empty topic")
    assert binary.startswith("plantops: error: line 3: ")
    assert "is not UTF-8" in binary


def test_empty_stdin_is_no_topic_and_no_error() -> None:
    done = run("-", stdin=b"")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_line_is_answered_before_the_next_one_comes() -> None:
    with started("--field", "device_id", "-") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for device_id in (b"first", b"second"):
            process.stdin.write(b"devices/" + device_id + b"/telemetry\n")
            process.stdin.flush()
            assert process.stdout.readline() == device_id + b"\n"


def test_line_numbers_and_order_hold_over_many_reads() -> None:
    lines = [b"bad" if number % 1000 == 0 else b"devices/%d/telemetry" % number for number in range(1, 50_001)]
    done = run("--field", "device_id", "-", stdin=b"\n".join(lines))
    assert done.stdout.split() == [b"%d" % number for number in range(1, 50_001) if number % 1000]
    named = [int(line.split(b"line ")[1].split(b":")[0]) for line in done.stderr.splitlines()]
    assert named == list(range(1000, 50_001, 1000))


def test_an_endless_line_is_one_error_and_the_next_line_still_counts() -> None:
    done = run("--field", "device_id", "-", stdin=b"x" * 20_000_000 + b"\ndevices/2/telemetry\n")
    assert (done.returncode, done.stdout) == (8, b"2\n")
    assert done.stderr.startswith(b"plantops: error: line 1: ")
    assert len(done.stderr) < 1000


def test_a_closed_pipe_ends_it_quietly() -> None:
    with started("-") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(f"{GOOD}\n".encode())
        process.stdin.flush()
        process.stdout.readline()
        process.stdout.close()
        process.stdin.write(f"{GOOD}\n".encode() * 10)
        process.stdin.flush()
        assert (process.wait(timeout=60), process.stderr.read()) == (0, b"")


def test_without_a_topic_it_is_a_usage_error() -> None:
    assert run().returncode == 2


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_full_disk_is_one_clear_line() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*COMMAND, GOOD], stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr == b"plantops: error: cannot write to standard output: No space left on device\n"


def test_a_closed_stdin_is_one_clear_line() -> None:
    command = subprocess.list2cmdline([*COMMAND, "-"])
    done = subprocess.run(["/bin/sh", "-c", f"{command} <&-"], capture_output=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr == b"plantops: error: standard input is closed (give the topics as arguments)\n"
