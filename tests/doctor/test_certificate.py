"""What is said of a certificate."""

import ssl

import pytest

from plantops_cli.doctor.certificate import EXPIRES_SOON_DAYS, accept_any_name_and_time, cure_of, describe, renewal

DAY_SECONDS = 86_400
ENDS_AT = 1_800_000_000  # 2027-01-15 08:00 UTC
CERTIFICATE = {
    "subjectAltName": (("IP Address", "127.0.0.1"), ("DNS", "localhost")),
    "issuer": ((("organizationName", "Plants"),), (("commonName", "plants ca"),)),
    "notAfter": "Jan 15 08:00:00 2027 GMT",
}
NO_SUCH_CERTIFICATE, SELF_SIGNED, UNKNOWN_AUTHORITY = 2, 18, 20


def test_it_is_said_for_whom_it_is_by_whom_and_for_how_long() -> None:
    assert describe(CERTIFICATE, now=ENDS_AT - 3 * DAY_SECONDS) == [
        "for 127.0.0.1, localhost",
        "signed by plants ca",
        "valid until 2027-01-15 08:00 UTC, 3 days",
    ]


def test_of_one_that_has_ended_no_days_are_counted() -> None:
    assert describe(CERTIFICATE, now=ENDS_AT + 1)[-1] == "valid until 2027-01-15 08:00 UTC"


def test_of_one_that_was_not_checked_nothing_is_known() -> None:
    assert describe({}, now=ENDS_AT) == []
    assert renewal({}, now=ENDS_AT) is None


@pytest.mark.parametrize(
    ("certificate", "said"),
    [
        ({"issuer": ((("organizationName", "Plants"),),)}, ["for no name at all", "signed by Plants"]),
        ({"issuer": ((("countryName", "AT"),),)}, ["for no name at all", "signed by nobody named"]),
        ({"serialNumber": "01"}, ["for no name at all"]),
    ],
    ids=["an organization", "no name", "no issuer"],
)
def test_what_does_not_stand_in_it_is_not_said(certificate: dict[str, object], said: list[str]) -> None:
    assert describe(certificate, now=ENDS_AT) == said


def test_one_that_ends_within_two_weeks_is_to_be_renewed() -> None:
    soon = ENDS_AT - EXPIRES_SOON_DAYS * DAY_SECONDS
    assert renewal(CERTIFICATE, now=soon - 1) is None
    assert renewal(CERTIFICATE, now=soon + 1) == "renew the broker's certificate: it ends in 14 days"


@pytest.mark.parametrize(
    ("code", "cure"),
    [
        (9, "set the clock of this machine, or wait"),
        (10, "renew the broker's certificate, and let the broker read it again"),
        (62, "connect to a name that stands in it, or issue one for shed"),
        (64, "connect to a name that stands in it, or issue one for shed"),
    ],
    ids=["not valid yet", "expired", "another host", "another address"],
)
def test_each_fault_that_openssl_finds_has_its_own_cure(code: int, cure: str) -> None:
    assert cure_of(code, host="shed") == cure


@pytest.mark.parametrize("code", [NO_SUCH_CERTIFICATE, SELF_SIGNED, UNKNOWN_AUTHORITY])
def test_whatever_else_is_wrong_is_a_matter_of_trust(code: int) -> None:
    assert cure_of(code, host="shed").startswith("name the authority that signed it")


def test_to_look_at_one_that_was_refused_its_authority_is_checked_still() -> None:
    context = ssl.create_default_context()
    accept_any_name_and_time(context)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert not context.check_hostname
