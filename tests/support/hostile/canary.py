"""A password that is easy to find again, in whatever form it gets out."""

import base64
from urllib.parse import quote, quote_plus

CANARY = "kanari/ü 7f3e9c21d4b8+x"
# that part of it which is the same in a URL, in JSON and in Python's notation
_CORE = b"7f3e9c21d4b8"


def _base64_forms(data: bytes) -> set[bytes]:
    """The bytes as they look in base64 behind none, one or two others, without what depends on those beside."""
    forms = {base64.b64encode(b"?" * before + data)[(8 * before + 5) // 6 : -4] for before in range(3)}
    return forms | {form.replace(b"+", b"-").replace(b"/", b"_") for form in forms}


_FORMS = {
    _CORE,
    _CORE.upper(),
    _CORE[::-1],
    _CORE.hex().encode(),
    _CORE.hex().upper().encode(),
    _CORE.hex(" ").encode(),
    str(list(_CORE))[1:-1].encode(),
    _CORE.decode().encode("utf-16-le"),
    quote(CANARY).encode(),
    quote_plus(CANARY).encode(),
    *_base64_forms(_CORE),
    *_base64_forms(CANARY.encode()),
}


def sightings(data: bytes) -> list[str]:
    """Return where the password is to be seen in some bytes, in whatever form; empty when nowhere."""
    return [f"{form!r} in {data[max(0, at - 100) : at + 60]!r}" for form in _FORMS if (at := data.find(form)) >= 0]
