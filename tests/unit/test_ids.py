"""Ids: order, uniqueness, time, text."""

from __future__ import annotations

import os
import threading
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tallystick.errors import Invalid
from tallystick.ids import NIL, is_uuid7, parse_id, timestamp_of, uuid7


def test_an_id_is_a_standard_uuid_of_version_7() -> None:
    made = uuid7()
    assert type(made) is uuid.UUID
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert is_uuid7(made)
    assert uuid.UUID(str(made)) == made
    assert hash(uuid.UUID(str(made))) == hash(made)
    assert uuid.UUID(bytes=made.bytes) == made
    assert repr(made).startswith("UUID('")
    assert made.is_safe is uuid.SafeUUID.unknown


def test_ids_grow_within_a_process() -> None:
    made = [uuid7() for _ in range(100_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_ids_grow_in_every_thread_and_never_repeat() -> None:
    found: list[list[uuid.UUID]] = []

    def make() -> None:
        found.append([uuid7() for _ in range(10_000)])

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(part == sorted(part) for part in found)
    assert len({made for part in found for made in part}) == 40_000


def test_a_forked_child_makes_other_ids() -> None:
    uuid7()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, b"".join(uuid7().bytes for _ in range(100)))
        os._exit(0)
    mine = {uuid7() for _ in range(100)}
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    theirs = {uuid.UUID(bytes=data[at : at + 16]) for at in range(0, len(data), 16)}
    assert len(theirs) == 100
    assert not mine & theirs


def test_the_time_is_in_the_id() -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=2)
    at = timestamp_of(uuid7())
    assert before <= at <= datetime.now(UTC) + timedelta(seconds=1)
    assert at.tzinfo is UTC


def test_the_time_of_the_example_of_the_rfc() -> None:
    # RFC 9562 appendix A.6: 2022-02-22 14:22:22.000 at UTC-5.
    assert timestamp_of(uuid.UUID("017F22E2-79B0-7CC3-98C4-DC0C0C07398F")) == datetime(
        2022, 2, 22, 19, 22, 22, tzinfo=UTC
    )


@pytest.mark.parametrize(
    "other", [NIL, uuid.uuid4(), uuid.uuid5(NIL, "a"), uuid.UUID("017F22E2-79B0-7CC3-18C4-DC0C0C07398F")]
)
def test_other_versions_hold_no_time(other: uuid.UUID) -> None:
    assert not is_uuid7(other)
    with pytest.raises(Invalid):
        timestamp_of(other)


def test_a_time_past_the_calendar() -> None:
    with pytest.raises(Invalid):
        timestamp_of(uuid.UUID("ffffffff-ffff-7fff-bfff-ffffffffffff"))


def test_nil() -> None:
    assert NIL.int == 0


class TestParsing:
    def test_round_trip(self) -> None:
        made = uuid7()
        assert parse_id(str(made)) == parse_id(str(made).upper()) == parse_id(made) == made

    @pytest.mark.parametrize(
        "value",
        ["", "x", "017f22e279b07cc398c4dc0c0c07398f", "{017f22e2-79b0-7cc3-98c4-dc0c0c07398f}",
         "urn:uuid:017f22e2-79b0-7cc3-98c4-dc0c0c07398f", "017f22e2-79b0-7cc3-98c4-dc0c0c07398g",
         "017f22e2-79b0-7cc3-98c4-dc0c0c07398f\n", " 017f22e2-79b0-7cc3-98c4-dc0c0c07398f",
         "017f22e2-79b0-7cc3-98c4-dc0c0c0739\uff18f",
         None, 5, b"017f22e2-79b0-7cc3-98c4-dc0c0c07398f"],
    )  # fmt: skip
    def test_refused(self, value: Any) -> None:
        with pytest.raises(Invalid) as caught:
            parse_id(value, "borrower")
        assert caught.value.field == "borrower"
        assert "017f" not in str(caught.value)
