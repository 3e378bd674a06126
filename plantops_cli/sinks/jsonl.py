"""JSON lines for programs: mosquitto_sub's names and ours, one message a line, the payload as it was sent."""

from base64 import b64encode

import orjson

from plantops_cli.messages import Message

# Between the tokens of valid JSON these are white space; inside its strings they cannot stand unescaped
_ON_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")


def encode(message: Message) -> bytes:
    """Return the message as one line of JSON in UTF-8, newline included; any payload has its line.

    Args:
        message: a message as it arrived.
    """
    device_id, kind = message.device or (None, None)
    line: dict[str, object] = {
        "tst": message.received_at.isoformat(timespec="microseconds"),
        "topic": message.topic,
        "device_id": device_id,
        "kind": kind,
        "qos": message.qos,
        "retain": message.retain,
    }
    if message.dup:
        line |= {"dup": True, "mid": message.mid}
    line |= _payload_fields(message)
    if message.properties:
        line["properties"] = dict(message.properties)
    return orjson.dumps(line, default=_base64, option=orjson.OPT_APPEND_NEWLINE)


def _payload_fields(message: Message) -> dict[str, object]:
    form, value, error = message.decode()
    if form == "json":
        return {"payload": orjson.Fragment(message.payload.translate(_ON_ONE_LINE))}
    if form == "text":
        return {"payload": value, "valid": False, "error": error}
    return {"payload_b64": _base64(message.payload), "valid": False, "error": error}


def _base64(value: object) -> str:
    """Show bytes, such as a payload or correlation-data, which MQTT does not promise to be text (3.3.2.3.6)."""
    if isinstance(value, bytes):
        return b64encode(value).decode("ascii")
    raise TypeError(f"a property of type {type(value).__name__} has no JSON form")
