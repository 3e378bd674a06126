"""A command on a terminal of its own, with somebody who answers its prompts."""

import os
import pty
import subprocess
from collections.abc import Mapping, Sequence


def run_on_terminal(
    command: Sequence[str], *, answers: Sequence[bytes], env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a command whose standard input is a terminal, and type an answer at each ``: `` on its stderr."""
    terminal, stdin = pty.openpty()
    pipe = subprocess.PIPE
    # a session of its own: the prompt must not find the terminal of whoever runs the tests
    process = subprocess.Popen(command, stdin=stdin, stdout=pipe, stderr=pipe, env=env, start_new_session=True)
    os.close(stdin)
    try:
        asked = b"".join(_answer(process, terminal, answer) for answer in answers)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
        os.close(terminal)
    return subprocess.CompletedProcess(command, process.returncode, stdout, asked + stderr)


def _answer(process: subprocess.Popen[bytes], terminal: int, answer: bytes) -> bytes:
    assert process.stderr is not None
    asked = b""
    while not asked.endswith(b": "):
        # what is typed before the prompt would be thrown away
        received = os.read(process.stderr.fileno(), 1024)
        assert received, f"no prompt but {asked!r}"
        asked += received
    os.write(terminal, answer)
    return asked
