"""A certificate authority and certificates for the tests, made with the ``openssl`` program."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

SERVER_NAMES = "subjectAltName=IP:127.0.0.1,DNS:localhost"


@dataclass(frozen=True)
class Certificates:
    """PEM files, all unencrypted, good for two days.

    Attributes:
        ca: the authority that signed the server's and the client's certificate.
        server_cert: a certificate for 127.0.0.1 and localhost.
        server_key: its key.
        other_host_cert: a certificate of the same authority for ``elsewhere.invalid``; its key is ``server_key``.
        expired_cert: a certificate for 127.0.0.1 and localhost that has run out; its key is ``server_key``.
        wrong_ca: an authority that signed nothing here.
        client_cert: a certificate for a client.
        client_key: its key.
    """

    ca: Path
    server_cert: Path
    server_key: Path
    other_host_cert: Path
    expired_cert: Path
    wrong_ca: Path
    client_cert: Path
    client_key: Path


def make_certificates(folder: Path) -> Certificates:
    """Make all files in a folder that exists.

    Args:
        folder: where they go.
    """
    for name in ("ca", "wrong-ca"):
        _make_authority(folder, name, common_name=f"plantops test {name}")
    for name in ("server", "client"):
        _make_key(folder, name)
    _sign(folder, "server", key="server", extension=SERVER_NAMES)
    _sign(folder, "other-host", key="server", extension="subjectAltName=DNS:elsewhere.invalid")
    _sign(folder, "expired", key="server", extension=SERVER_NAMES, days=-1)
    _sign(folder, "client", key="client", extension="extendedKeyUsage=clientAuth")
    return Certificates(
        ca=folder / "ca.pem",
        server_cert=folder / "server.pem",
        server_key=folder / "server.key",
        other_host_cert=folder / "other-host.pem",
        expired_cert=folder / "expired.pem",
        wrong_ca=folder / "wrong-ca.pem",
        client_cert=folder / "client.pem",
        client_key=folder / "client.key",
    )


def make_certificate_with(folder: Path, name: str, *, host: str) -> tuple[Path, Path, Path]:
    """Make an authority and a certificate for 127.0.0.1 with names of a stranger's choice.

    Args:
        folder: where they go.
        name: the common name of both, any text.
        host: one more name that the certificate is good for, in ASCII.

    Returns:
        The authority, the certificate and its key.
    """
    _make_authority(folder, "strange-ca", common_name=name)
    _make_key(folder, "strange")
    _sign(folder, "strange", key="strange", authority="strange-ca", extension=f"{SERVER_NAMES},DNS:{host}")
    return folder / "strange-ca.pem", folder / "strange.pem", folder / "strange.key"


def make_plain_certificate(folder: Path) -> tuple[Path, Path, Path]:
    """Make an authority and a certificate for 127.0.0.1 as many a recipe does: without what RFC 5280 asks for.

    The authority does not say what its key is for (4.2.1.3), the certificate not whose key signed it (4.2.1.1).

    Args:
        folder: where they go.

    Returns:
        The authority, the certificate and its key.
    """
    _make_authority(folder, "plain-ca", common_name="plain ca", usage=None)
    _make_key(folder, "plain")
    _sign(folder, "plain", key="plain", authority="plain-ca", extension=SERVER_NAMES, names_its_authority=False)
    return folder / "plain-ca.pem", folder / "plain.pem", folder / "plain.key"


def _make_authority(
    folder: Path, name: str, *, common_name: str, usage: str | None = "critical,keyCertSign,cRLSign"
) -> None:
    _make_key(folder, name)
    _openssl(
        *("req", "-x509", "-new", "-utf8", "-key", folder / f"{name}.key", "-subj", f"/CN={common_name}"),
        *(("-addext", f"keyUsage={usage}") if usage else ()),
        *("-days", "2", "-out", folder / f"{name}.pem"),
    )


def _make_key(folder: Path, name: str) -> None:
    _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", folder / f"{name}.key")


def _sign(
    folder: Path,
    name: str,
    *,
    key: str,
    extension: str,
    authority: str = "ca",
    days: int = 2,
    names_its_authority: bool = True,
) -> None:
    request, extensions = folder / f"{name}.csr", folder / f"{name}.ext"
    issuer = "authorityKeyIdentifier=keyid" if names_its_authority else "authorityKeyIdentifier=none"
    extensions.write_text(f"{extension}\n{issuer}\n")
    _openssl("req", "-new", "-key", folder / f"{key}.key", "-subj", f"/CN={name}", "-out", request)
    _openssl(
        *(
            "x509",
            "-req",
            "-in",
            request,
            "-CA",
            folder / f"{authority}.pem",
            "-CAkey",
            folder / f"{authority}.key",
            "-CAcreateserial",
        ),
        *("-days", str(days), "-extfile", extensions, "-out", folder / f"{name}.pem"),
    )


def _openssl(*arguments: str | Path) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
