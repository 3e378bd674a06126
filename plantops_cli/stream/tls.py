"""What to trust and what to show in a TLS handshake."""

import os
import ssl
from dataclasses import dataclass
from errno import EMFILE, ENFILE
from pathlib import Path
from typing import TYPE_CHECKING, Self

from plantops_cli.errors import ConfigError

if TYPE_CHECKING:
    from plantops_cli.config import Settings


@dataclass(frozen=True, slots=True)
class TLSOptions:
    """How to speak TLS; without arguments: the certificate authorities of the system, host name checked.

    Args:
        cafile: PEM file of the only certificate authorities to trust.
        certfile: PEM file of the client certificate, for brokers that ask for one.
        keyfile: PEM file of the client's private key, unencrypted; default: it is in ``certfile``.
        insecure: do not check the name in the broker's certificate. With ``cafile``, one of its authorities must
            still have signed it, as with ``mosquitto_sub``. Without, nothing is checked: the authorities of the
            system sign for anybody, so that without the name it would prove nothing.
    """

    cafile: Path | None = None
    certfile: Path | None = None
    keyfile: Path | None = None
    insecure: bool = False

    @property
    def danger(self) -> str | None:
        """What is not checked of a certificate, and who profits from it; None when all is checked."""
        if not self.insecure:
            return None
        if self.cafile is None:
            return "is not checked: anybody in between can read all"
        return f"may bear any name: whoever has one that {self.cafile} vouches for can read all"

    @classmethod
    def from_settings(cls, settings: "Settings", *, insecure: bool = False) -> Self | None:
        """Make what the settings ask for, or None for a plain connection.

        Args:
            settings: resolved settings.
            insecure: as in the constructor.

        Raises:
            ConfigError: a file is missing or unusable; found now, before anything is connected.
        """
        if not settings.is_tls:
            return None
        options = cls(settings.mqtt_cafile, settings.mqtt_certfile, settings.mqtt_keyfile, insecure)
        options.context()
        return options

    def context(self) -> ssl.SSLContext:
        """Read the files and build the context of a connection.

        Raises:
            ConfigError: a file is missing, unreadable or not what it should be.
            OSError: no more files can be opened.
        """
        context = _trusting(self.cafile)
        context.sslsocket_class = _TidySocket
        if self.keyfile and not self.certfile:
            raise ConfigError(
                "a client key was given without its certificate",
                hint="give TLSOptions(certfile=...) / MQTT_CERTFILE too",
            )
        if self.certfile:
            _load_client_certificate(context, self.certfile, self.keyfile)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE if self.cafile is None else ssl.CERT_REQUIRED
        return context


class _TidySocket(ssl.SSLSocket):
    """Closes itself when its handshake fails; paho would leave that to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def _trusting(cafile: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=cafile)
    except ssl.SSLError as exc:
        raise ConfigError(
            f"CA file {cafile}: no certificate in PEM form in it",
            hint="it begins with -----BEGIN CERTIFICATE-----",
        ) from exc
    except OSError as exc:
        _pass_on_if_out_of_room(exc)
        raise ConfigError(
            f"CA file {cafile}: {exc.strerror}", hint="check TLSOptions(cafile=...) / MQTT_CAFILE"
        ) from exc
    # Python 3.13 sets it: authorities that openssl makes by default lack what it asks for (RFC 5280, 4.2.1)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _load_client_certificate(context: ssl.SSLContext, certfile: Path, keyfile: Path | None) -> None:
    try:
        # a callback, because OpenSSL would otherwise ask for a pass phrase on the terminal
        context.load_cert_chain(certfile, keyfile, password=lambda: "")
    except ssl.SSLError as exc:
        raise ConfigError(
            f"client certificate {certfile} with key {keyfile or certfile}: {_reason(exc)}",
            hint="both in PEM form, belonging together, the key unencrypted",
        ) from exc
    except OSError as exc:
        _pass_on_if_out_of_room(exc)
        # load_cert_chain does not say which of the two it could not read
        missing = certfile if keyfile is None or not os.access(certfile, os.R_OK) else keyfile
        raise ConfigError(
            f"client certificate file {missing}: {exc.strerror}",
            hint="check TLSOptions(certfile=..., keyfile=...)",
        ) from exc


def _pass_on_if_out_of_room(exc: OSError) -> None:
    """Let an error be that is not the file's: the next attempt to connect may find room for one more open file."""
    if exc.errno in (EMFILE, ENFILE):
        raise exc


def _reason(exc: ssl.SSLError) -> str:
    return (exc.reason or "not usable").replace("_", " ").lower()
