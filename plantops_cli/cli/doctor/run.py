"""The run of ``doctor``: settings first, then one finding after the other."""

import sys
import textwrap
import time
from collections.abc import AsyncIterator, Mapping

import orjson
from rich.console import Console
from rich.style import Style
from rich.text import Text

from plantops_cli.cli.shared.connection import given_by, options, resolve
from plantops_cli.cli.shared.exits import Exit, exit_code
from plantops_cli.cli.shared.flags.connect import ConnectionFlags
from plantops_cli.cli.shared.selection import Selection
from plantops_cli.cli.shared.stopping import unwinding
from plantops_cli.config import Settings, origins
from plantops_cli.credentials import shown_username
from plantops_cli.doctor.diagnosis import Diagnosis, Finding, Status
from plantops_cli.errors import ConfigError, TopicError
from plantops_cli.formats.terminal import encodable, escape, json_escape
from plantops_cli.stream.options import ConnectOptions

_MARKS = {
    Status.OK: ("✓", "ok", Style(color="color(28)", bold=True)),
    Status.WARNING: ("!", "warn", Style(color="color(136)", bold=True)),
    Status.FAILED: ("✗", "FAIL", Style(color="color(160)", bold=True)),
    Status.SKIPPED: ("-", "skip", Style(dim=True)),
}
_NAME_CELLS = 9
_LEAST_CELLS = 20
_PASSWORDS = ("mqtt_backend_password", "mqtt_backend_password_file")
_SHOWN = (
    "mqtt_host",
    "mqtt_port",
    "mqtt_backend_username",
    "mqtt_tls",
    "mqtt_cafile",
    "mqtt_certfile",
    "mqtt_client_id",
)


async def examine(
    flags: ConnectionFlags,
    filters: tuple[str, ...],
    *,
    qos: int,
    wait_seconds: float,
    is_canary: bool,
    is_json: bool,
) -> Exit:
    """Examine the way to the broker, say what is found, and return the exit code of what is broken.

    Args:
        flags: the connection flags.
        filters: topic filters to subscribe to; none: both device topics.
        qos: the QoS to ask for.
        wait_seconds: how long to wait for a message.
        is_canary: whether to publish one.
        is_json: one JSON document instead of lines.
    """
    found = list[Finding]()
    with unwinding():
        async for finding in _findings(flags, filters, qos=qos, wait_seconds=wait_seconds, is_canary=is_canary):
            found.append(finding)
            if not is_json:
                sys.stdout.write(_lines(finding))
                sys.stdout.flush()
    code = _code(found)
    if is_json:
        document = {"ok": code is Exit.OK, "exit_code": int(code), "steps": [_row(finding) for finding in found]}
        text = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        sys.stdout.write((json_escape(text) if sys.stdout.isatty() else text).decode())
    return code


async def _findings(
    flags: ConnectionFlags, filters: tuple[str, ...], *, qos: int, wait_seconds: float, is_canary: bool
) -> AsyncIterator[Finding]:
    began = time.monotonic()
    try:
        given = given_by(flags)
        settings = resolve(flags, given)
        made = options(flags, settings)
        wanted = Selection(filters=filters).topic_filters
        if qos not in (0, 1, 2):
            raise ConfigError(f"QoS {qos} does not exist", hint="0, 1 or 2")
    except (ConfigError, TopicError) as exc:
        yield Finding("settings", Status.FAILED, time.monotonic() - began, (str(exc),), exc.hint, exc)
        return
    said = tuple(_settings(flags, given, settings, made))
    yield Finding("settings", Status.OK, time.monotonic() - began, said)
    diagnosis = Diagnosis(made, wanted, qos=qos, wait_seconds=wait_seconds, is_canary=is_canary)
    async for finding in diagnosis.findings():
        yield finding


def _settings(
    flags: ConnectionFlags, given: Mapping[str, object], settings: Settings, made: ConnectOptions
) -> list[str]:
    """What was decided, and who decided it; of a password only that there is one."""
    sources = origins(settings, **given)
    if flags.url is not None:
        sources |= {name: "--url" for name in given if given[name] is not None and sources[name].startswith("--")}
    said = [f"{made.endpoint}{' with TLS' if made.tls else ''}"]
    for name in _SHOWN:
        value = settings.port if name == "mqtt_port" else getattr(settings, name)
        if name == "mqtt_backend_username":
            value = shown_username(str(value))
        if value is not None:
            said.append(f"{name.upper()}={value} ({sources[name]})")
    if made.password is not None:
        kept = [
            name for name in ("mqtt_backend_password", "mqtt_backend_password_file") if sources[name] != "default"
        ]
        where = "--secret-file" if flags.secret_file else "asked for" if flags.ask_password else ""
        said.append(f"password: given ({where or ', '.join(f'{name.upper()}, {sources[name]}' for name in kept)})")
    else:
        said.append("no login: --anonymous")
    return said


def _code(found: list[Finding]) -> Exit:
    """The exit code of the first thing that is broken; 27 when all is well but for the silence."""
    for finding in found:
        if finding.error is not None:
            return exit_code(finding.error)
    last = found[-1]
    return Exit.TIMEOUT if last.name == "message" and last.status is Status.WARNING else Exit.OK


def _lines(finding: Finding) -> str:
    console = Console(soft_wrap=True)
    is_drawn = _can_say("✓✗", console.encoding)
    mark, word, style = _MARKS[finding.status]
    head = Text.assemble(
        (mark if is_drawn else word.ljust(4), style),
        " ",
        (escape(finding.name).ljust(_NAME_CELLS), "bold"),
        "  ",
        (f"{finding.seconds * 1000:7.1f} ms" if finding.status is not Status.SKIPPED else "   skipped", "dim"),
        "  ",
    )
    margin = " " * head.cell_len
    room = max(_LEAST_CELLS, console.width - len(margin)) if console.is_terminal else None
    said = [line for detail in finding.details for line in _wrapped(escape(detail), room)] or [""]
    text = head.append(f"\n{margin}".join(said))
    if finding.cure:
        arrow = "→ " if is_drawn else "-> "
        indent = f"\n{margin}{' ' * len(arrow)}"
        cure = _wrapped(escape(finding.cure), room and room - len(arrow))
        text.append(f"\n{margin}").append(arrow + indent.join(cure), style)
    with console.capture() as capture:
        console.print(text)
    return capture.get()


def _wrapped(text: str, room: int | None) -> list[str]:
    """Break a text into lines that fit, at spaces; without a limit it is one line."""
    if room is None:
        return [text]
    return textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]


def _can_say(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _row(finding: Finding) -> dict[str, object]:
    return {
        "name": finding.name,
        "status": finding.status.value,
        "milliseconds": round(finding.seconds * 1000, 1),
        "details": list(map(encodable, finding.details)),
        "cure": finding.cure and encodable(finding.cure),
        "error": type(finding.error).__name__ if finding.error else None,
    }
