"""Redaction: what is personal by name or by looks is not in a line, and everything else still is."""

from __future__ import annotations

import io
import logging

import pytest

from tallystick import User, secret
from tallystick.privacy.redact import REDACTED, RedactingFilter, Redactor, redacting_processor


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("mail ada@example.org now", f"mail {REDACTED} now"),
        ("ssn 078-05-1120.", f"ssn {REDACTED}."),
        ("call +49 30 1234567 or (030) 123 456 78", f"call {REDACTED} or ({REDACTED}"),
        ("call +1 (212) 555-0100", f"call {REDACTED}"),
        ("postgresql://u:p@host/db", f"postgresql://{REDACTED}@host/db"),
        ("loan 01a1f9f8-5189-7461-a73e-c1ed0f7b1821 paid 1200.50", None),
        ("took 12345678 ns", None),
    ],
)
def test_texts(text: str, kept: str | None):
    found = Redactor().text(text)
    if kept is None:
        assert found == text
    else:
        assert "1120" not in found
        assert "ada@" not in found
        assert ":p@" not in found
        assert "555" not in found
        assert REDACTED in found


def test_a_logger_writes_nothing_personal():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s %(first_name)s"))
    handler.addFilter(RedactingFilter([User]))
    logger = logging.getLogger("tests.redact")
    logger.propagate, logger.handlers = False, [handler]
    user = User(email="ada@example.org", first_name="Ada")
    logger.warning("user %s of %s in %d ms", user, "ada@example.org", 12, extra={"first_name": "Ada"})
    try:
        raise ValueError("no such person: ada@example.org")
    except ValueError:
        logger.exception("failed with %(email)s", {"email": "ada@example.org"}, extra={"first_name": None})
    found = stream.getvalue()
    assert "Ada" not in found
    assert "ada@" not in found
    assert "in 12 ms" in found
    assert "ValueError" in found


def test_what_does_not_fit_its_message_is_written_all_the_same():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(RedactingFilter([User]))
    logger = logging.getLogger("tests.redact.unfit")
    # The first writes exceptions out in full, and keeps what it wrote.
    logger.propagate, logger.handlers = False, [logging.StreamHandler(io.StringIO()), handler]
    logger.warning("at %(phone)d", {"phone": 491234567})
    logger.warning("at %s and %s", *["ada@example.org"])
    logger.warning({"first_name": "Ada", "ada@example.org": 1})
    mute = type("Mute", (), {"__str__": lambda _: exec("raise AttributeError('gone')")})()
    logger.warning("at %s", mute)
    logger.warning(mute)
    try:
        raise ValueError("no such person: ada@example.org")
    except ValueError:
        logger.exception("it failed")
    found = stream.getvalue()
    assert found.count("at ") == 3
    assert "it failed" in found
    for gone in ("Ada", "ada@", "4912"):
        assert gone not in found


def test_a_processor_keeps_what_is_not_personal():
    process = redacting_processor([User])
    event = {"event": "login", "email": "ada@example.org", "count": 3, "nested": {"phone": "1", "id": 7}, "raw": b"x"}
    assert process(None, "info", event) == {
        "event": "login",
        "email": REDACTED,
        "count": 3,
        "nested": {"phone": REDACTED, "id": 7},
        "raw": REDACTED,
    }
    assert "Ada" not in str(process(None, "info", {"user": User(first_name="Ada"), "held": secret("Ada"), "l": ["x"]}))


def test_nothing_that_holds_a_personal_value_prints_it():
    from rich.pretty import pretty_repr

    from tallystick.domains.identity.external_identities import ExternalSubject
    from tallystick.domains.identity.mfa import Enrolment

    ada = User(email="ada@example.org", first_name="Ada", password_hash=secret("ada"))
    held = (
        ada,
        ada.ref,
        User.New.parse({"email": "ada@example.org", "first_name": "Ada"}),
        User.New.only("email").parse({"email": "ada@example.org"}),
        User.Change.parse({"phone": "ada"}),
        User.Filter.parse({"email": "ada@example.org", "phone_last4": "ada"}),
        ExternalSubject("https://ada.example", "ada"),
        Enrolment("ada", "otpauth://ada"),
    )
    for one in held:
        for shown in (repr(one), str(one), f"{one}", repr([one]), pretty_repr(one), pretty_repr({"a": one})):
            assert "ada" not in shown.lower()
    assert repr(held[3]) == "UserNewEmail(email=…)"
    assert repr(User.Change.parse({"email": None})).startswith("UserChange(email=None, first_name=UNSET")
