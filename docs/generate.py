"""Write what is generated of README.md and architecture.md. Run it with: python -m docs.generate

In README.md help texts, exit codes and settings, in architecture.md the tree. A part stands between
``<!-- generated: NAME -->`` and ``<!-- end -->``; tests hold the files to it.
"""

import ast
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import SecretBytes

from plantops_cli.cli.app import COMMANDS
from plantops_cli.cli.shared.exits import MEANINGS
from plantops_cli.config import Settings

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
PACKAGE = ROOT / "plantops_cli"
_WIDTH = 118
_PART = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def generate(text: str) -> str:
    """Return the text of a page with every generated part made anew.

    Args:
        text: the page as it is.
    """
    parts = _parts()
    return _PART.sub(lambda found: f"{found[1]}{parts[found[2]]()}\n{found[3]}", text)


def _parts() -> dict[str, Callable[[], str]]:
    helps = {f"help-{name}": lambda name=name: _help(name) for name in COMMANDS}
    return {"exit-codes": _exit_codes, "settings": _settings, "tree": _tree, **helps}


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
        secret = " (secret)" if SecretBytes in getattr(field.annotation, "__args__", ()) else ""
        rows.append(f"| `{name.upper()}` | {field.description}{secret} | {f'`{default}`' if default else ''} |")
    return "\n".join(["| variable | what it is | default |", "|---|---|---|", *rows])


def _tree() -> str:
    return "```text\n" + "\n".join(_rooms(PACKAGE, depth=0)) + "\n```"


def _rooms(folder: Path, *, depth: int) -> Iterator[str]:
    """The lines of a package: what it is, its modules, then the packages in it."""
    margin = "  " * depth
    said = (ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or "").partition("\n")[0]
    yield f"{margin}{folder.name}/".ljust(22) + f" {said.replace('``', '')}"
    modules = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    inner = f"{margin}    "
    yield from textwrap.wrap(" ".join(modules), _WIDTH, initial_indent=inner, subsequent_indent=inner)
    for room in sorted(path for path in folder.iterdir() if (path / "__init__.py").exists()):
        yield from _rooms(room, depth=depth + 1)


if __name__ == "__main__":
    for page in (README, ARCHITECTURE):
        page.write_text(generate(page.read_text()))
