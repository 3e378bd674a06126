"""The roster: which devices should be there. Pure: text in, ids out."""

import csv
import json
from collections.abc import Iterable

from plantops_cli.errors import ConfigError
from plantops_cli.topics import device_topic

_COLUMNS = ("device_id", "id", "device")


def parse_roster(text: str, *, name: str) -> tuple[str, ...]:
    """Read a roster, each id once, in its order.

    Args:
        text: an id a line (``#`` begins a comment), CSV whose first line names a column ``device_id``, or JSON: a
            list of ids or of objects with a ``device_id``, or an object that has such a list as ``devices``.
        name: what to call it in an error.

    Raises:
        ConfigError: it holds no id, or something that is none; the message says where.
    """
    text = text.removeprefix("\ufeff")
    found = _in_json(text, name) if text.lstrip()[:1] in ("[", "{") else _in_lines(text, name)
    ids = tuple(dict.fromkeys(_checked(device_id, where) for device_id, where in found))
    if not ids:
        raise ConfigError(f"{name}: no device id in it", hint="an id a line, CSV with a column device_id, or JSON")
    return ids


def parse_ids(text: str, *, name: str) -> tuple[str, ...]:
    """Read ids with commas between them, each once.

    Raises:
        ConfigError: one of them is no device id.
    """
    return tuple(dict.fromkeys(_checked(device_id.strip(), name) for device_id in text.split(",")))


def write_roster(ids: Iterable[str]) -> str:
    """Return the text of a roster, an id a line, sorted."""
    return "".join(f"{device_id}\n" for device_id in sorted(ids))


def _in_lines(text: str, name: str) -> list[tuple[object, str]]:
    lines = [(line, number) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    lines = [(line, number) for line, number in lines if not line.lstrip().startswith("#")]
    if not lines:
        return []
    head = lines[0][0]
    separator = ";" if ";" in head else ","
    columns = [column.strip().lower() for column in next(csv.reader([head], delimiter=separator))]
    column = next((columns.index(known) for known in _COLUMNS if known in columns), None)
    if column is None:
        return [(line.strip(), f"{name}, line {number}") for line, number in lines]
    found: list[tuple[object, str]] = []
    for line, number in lines[1:]:
        cells = next(csv.reader([line], delimiter=separator))
        found.append((cells[column].strip() if column < len(cells) else "", f"{name}, line {number}"))
    return found


def _in_json(text: str, name: str) -> list[tuple[object, str]]:
    try:
        document = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as exc:
        raise ConfigError(f"{name}: {exc if isinstance(exc, ValueError) else 'nested too deeply'}") from exc
    entries = document.get("devices") if isinstance(document, dict) else document
    if not isinstance(entries, list):
        raise ConfigError(f"{name}: JSON without a list of devices", hint='["a", "b"], or {"devices": [...]}')
    return [
        (entry.get("device_id", entry.get("id")) if isinstance(entry, dict) else entry, f"{name}, entry {number}")
        for number, entry in enumerate(entries, start=1)
    ]


def _checked(device_id: object, where: str) -> str:
    if isinstance(device_id, str) and device_topic(f"devices/{device_id}/heartbeat"):
        return device_id
    raise ConfigError(
        f"{where}: {device_id!r:.80} is no device id", hint="one topic level: text without / + # and NUL"
    )
