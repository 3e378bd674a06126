"""Write the generated parts of README.md: help texts, exit codes, settings. Run it with: python -m docs.generate

A part stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``; a test holds README.md to it.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from pydantic import SecretStr

from plantops_cli.cli.shared.exits import MEANINGS
from plantops_cli.config import Settings

README = Path(__file__).parent.parent / "README.md"
COMMANDS = ("listen", "fleet", "check", "doctor", "provision-user", "parse-topic", "demo")

_PART = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def generate(readme: str) -> str:
    """Return the text of README.md with every generated part made anew."""
    parts = _parts()
    return _PART.sub(lambda found: f"{found[1]}{parts[found[2]]()}\n{found[3]}", readme)


def _parts() -> dict[str, Callable[[], str]]:
    helps = {f"help-{name}": lambda name=name: _help(name) for name in COMMANDS}
    return {"exit-codes": _exit_codes, "settings": _settings, **helps}


def _help(command: str) -> str:
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    shown = subprocess.run(
        [sys.executable, "-m", "plantops_cli", command, "--help"],
        env=environment,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    return "```text\n" + "\n".join(line.rstrip() for line in shown.strip().splitlines()) + "\n```"


def _exit_codes() -> str:
    rows = [f"| {code.value} | {meaning} |" for code, meaning in MEANINGS.items()]
    return "\n".join(["| exit | meaning |", "|---|---|", *rows])


def _settings() -> str:
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.default if isinstance(field.default, str) else ""
        secret = " (secret)" if SecretStr in getattr(field.annotation, "__args__", ()) else ""
        rows.append(f"| `{name.upper()}` | {field.description}{secret} | {f'`{default}`' if default else ''} |")
    return "\n".join(["| variable | what it is | default |", "|---|---|---|", *rows])


if __name__ == "__main__":
    README.write_text(generate(README.read_text()))
