"""The certificate of a broker: for whom it is, who signed it, how long it is good, and why it was not accepted.

The time comes in from outside; what stands in a certificate is what ``SSLSocket.getpeercert`` returns.
"""

import ssl
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

EXPIRES_SOON_DAYS = 14
"""A certificate that is good for less is to be renewed now, for somebody has to find the time to do it."""

_DAY_SECONDS = 86_400
# X509_V_FLAG_NO_CHECK_TIME of OpenSSL (x509_vfy.h), which Python does not name
_ANY_TIME = 0x20_0000
# X509_V_ERR_... of OpenSSL, likewise
_NOT_YET, _EXPIRED, _OTHER_HOST, _OTHER_ADDRESS = 9, 10, 62, 64


def describe(certificate: Mapping[str, object], *, now: float) -> list[str]:
    """Say for whom a certificate is, who signed it, and how long it is good.

    Args:
        certificate: what stands in it; nothing when it was not checked.
        now: in seconds since 1970.
    """
    if not certificate:
        return []
    names = [str(value) for _, value in _pairs(certificate.get("subjectAltName"))]
    issuer = {str(key): str(value) for rdn in _pairs(certificate.get("issuer")) for key, value in _pairs(rdn)}
    said = [f"for {', '.join(names) or 'no name at all'}"]
    if issuer:
        said.append(f"signed by {issuer.get('commonName') or issuer.get('organizationName') or 'nobody named'}")
    ends_at = _ends_at(certificate)
    if ends_at:
        days = (ends_at.timestamp() - now) / _DAY_SECONDS
        said.append(f"valid until {ends_at:%Y-%m-%d %H:%M} UTC" + (f", {days:.0f} days" if days > 0 else ""))
    return said


def renewal(certificate: Mapping[str, object], *, now: float) -> str | None:
    """Say that a certificate ends soon, or nothing.

    Args:
        certificate: what stands in it.
        now: in seconds since 1970.
    """
    ends_at = _ends_at(certificate)
    if ends_at is None:
        return None
    days = (ends_at.timestamp() - now) / _DAY_SECONDS
    return f"renew the broker's certificate: it ends in {days:.0f} days" if days < EXPIRES_SOON_DAYS else None


def cure_of(verify_code: int, *, host: str) -> str:
    """Say how to mend what OpenSSL found wrong with a certificate.

    Args:
        verify_code: of ``ssl.SSLCertVerificationError``.
        host: to whom the connection was made.
    """
    if verify_code == _EXPIRED:
        return "renew the broker's certificate, and let the broker read it again"
    if verify_code == _NOT_YET:
        return "set the clock of this machine, or wait"
    if verify_code in (_OTHER_HOST, _OTHER_ADDRESS):
        return f"connect to a name that stands in it, or issue one for {host}"
    return "name the authority that signed it: TLSOptions(cafile=FILE), or MQTT_CAFILE"


def accept_any_name_and_time(context: ssl.SSLContext) -> None:
    """Let a certificate through that was refused, to look at it; who signed it is checked still.

    Args:
        context: for one connection, over which nothing is to be sent.
    """
    # of a certificate that is not checked at all, Python shows nothing
    context.check_hostname = False
    context.verify_flags |= _ANY_TIME


def _pairs(value: object) -> Sequence[tuple[object, object]]:
    return value if isinstance(value, tuple) else ()


def _ends_at(certificate: Mapping[str, object]) -> datetime | None:
    text = certificate.get("notAfter")
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(text), UTC) if isinstance(text, str) else None
