"""Every change of every audited row is in the log, in the transaction that made it, in exact words."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from tests.audit.ground import SealedGround
from tests.entities import ALL, Visit
from tests.ledger.support import DAY, books

from tallystick import (
    Account,
    Declaration,
    Entity,
    Guard,
    Invalid,
    Rules,
    Session,
    Tallystick,
    User,
    secret,
    transfer,
    usd,
)
from tallystick.domains.catalog import DOMAINS, entities_of
from tallystick.entity import spec_of
from tallystick.schema.model import model_of
from tallystick.testing.conformance.entities import Shelf

LOGINS = {"authenticator", "login_throttle", "login_token", "recovery_code"}
"""Counters and one-time codes of logins, whose use is an event of the log."""
OUTBOX = {"outbox_lane", "outbox_message"}
"""Messages, which repeat what the rows of their transactions say, and the counters that order them."""
UNAUDITED = {"command_key", "account_stripe", "loan_number"} | LOGINS | OUTBOX
"""Docs/decisions/0021-audit-capture.md and 0028-outbox.md say why."""
MEMBERS = ["tenant", "seq", "xid", "at", "table", "op", "key", "actor", "reason", "request", "role", "old", "new"]


async def bodies(db: Session, key: UUID | None = None, op: str = "") -> list[dict[str, Any]]:
    """The entries of the session's tenant, oldest first, each checked against its columns."""
    rows = await db.unit.call(
        'SELECT tenant_id, seq, xid::text, at, "table", op, key, octet_length(salt), body FROM tally_audit.entry '
        "WHERE tenant_id = $1 ORDER BY seq",
        (db.tenant_id,),
    )
    found = []
    for row in rows:
        assert "\n" not in row[8]
        body = json.loads(row[8], parse_float=Decimal)
        at = row[3].strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        columns = [str(row[0]), row[1], int(row[2]), at, row[4], row[5], row[6]]
        assert [body[n] for n in MEMBERS[:7]] == columns
        assert row[7] == 32
        if (key is None or body["key"] == str(key)) and (not op or body["op"] == op):
            found.append(body)
    return found


async def test_each_change_is_one_entry(tally: Tallystick, tenant: str) -> None:
    async with tally.session(tenant, actor="user:1", permissions=("*",)) as db:
        shelf = await db[Shelf].add(Shelf(name="one", stock=3))
        changed = await db[Shelf].update(shelf, stock=4)
        await db[Shelf].purge(changed, reason="test data")
        added, updated, removed = await bodies(db, shelf.id)
        assert all(list(b) == MEMBERS for b in (added, updated, removed))
        assert [(b["op"], b["table"], b["actor"]) for b in (added, updated, removed)] == [
            ("I", "kit_shelf", "user:1"), ("U", "kit_shelf", "user:1"), ("D", "kit_shelf", "user:1"),
        ]  # fmt: skip
        assert (added["old"], added["new"]["stock"], added["new"]["version"]) == (None, 3, 1)
        assert updated["old"] == added["new"]
        assert (updated["new"]["stock"], updated["new"]["version"]) == (4, 2)
        assert (removed["old"], removed["new"], removed["reason"]) == (updated["new"], None, "test data")
        assert added["role"] == tally.settings.roles.app


async def test_what_was_rolled_back_is_not_there(tally: Tallystick, tenant: str) -> None:
    async with tally.session(tenant, actor="a", permissions=("*",)) as db:
        with pytest.raises(ZeroDivisionError):
            async with db.transaction():
                await db[Shelf].add(Shelf(name="one"))
                raise ZeroDivisionError
        with pytest.raises(Invalid):
            await db[Shelf].add_many([Shelf(name="two"), Shelf(name="x" * 10_000_000, stock=-1)])
        assert [b for b in await bodies(db) if b["table"] == "kit_shelf"] == []


async def test_many_rows_are_many_entries(tally: Tallystick, tenant: str) -> None:
    async with tally.session(tenant, actor="a", permissions=("*",)) as db:
        shelves = await db[Shelf].add_many([Shelf(name=f"shelf {n}") for n in range(300)])
        assert await db[Shelf].update_where(Shelf.stock == 0, stock=7) == 300
        found = [b for b in await bodies(db) if b["table"] == "kit_shelf"]
        assert [b["key"] for b in found if b["op"] == "I"] == [str(s.id) for s in shelves]
        assert sorted(b["key"] for b in found if b["op"] == "U") == sorted(str(s.id) for s in shelves)
        assert len({b["xid"] for b in found}) == 2


async def test_reason_and_request_come_along(tally: Tallystick, tenant: str) -> None:
    words = {"reason": "it's 'quoted'; \\ and ✂", "request_id": "req-1"}
    async with tally.session(tenant, actor='user "1"', **words) as db:
        shelf = await db[Shelf].add(Shelf(name="one"))
        changed = await db[Shelf].update(shelf, stock=1)
        await db[Shelf].add_many([Shelf(name="two")])
        async with db.transaction():
            await db[Shelf].purge(changed, reason="asked for")
            await db[Shelf].add(Shelf(name="three"))
        await db[Shelf].update_where(Shelf.name == "two", stock=9)
        found = [b for b in await bodies(db) if b["table"] == "kit_shelf"]
    why = words["reason"]
    assert [b["reason"] for b in found] == [why, why, why, "asked for", why, why]
    assert {b["request"] for b in found} == {"req-1"}
    assert {b["actor"] for b in found} == {'user "1"'}
    async with tally.session(tenant, actor="b") as db:
        other = await db[Shelf].add(Shelf(name="four"))
        ((body,)) = await bodies(db, other.id)
    assert (body["actor"], body["reason"], body["request"]) == ("b", None, None)


@pytest.mark.parametrize("words", [{"reason": ""}, {"reason": "x" * 501}, {"request_id": "\0"}, {"request_id": 7}])
async def test_unusable_words_are_refused(tally: Tallystick, tenant: str, words: Any) -> None:
    with pytest.raises(Invalid) as caught:
        tally.session(tenant, actor="a", **words)
    assert caught.value.field in ("reason", "request_id")


async def test_system_sessions_say_why(tally: Tallystick, tenant: str) -> None:
    async for db in tally.system(actor="job:nightly", reason="nightly run", request_id="run-9"):
        if db.tenant.slug == tenant:
            shelf = await db[Shelf].add(Shelf(name="one"))
            ((body,)) = await bodies(db, shelf.id)
            assert (body["actor"], body["reason"], body["request"]) == ("job:nightly", "nightly run", "run-9")


async def test_ciphertext_is_ciphertext_and_blind_indexes_stay_out(tally: Tallystick, tenant: str) -> None:
    async with tally.session(tenant, actor="a", permissions=("*",)) as db:
        user = await db[User].add(User(email="ada.secret@example.org"))
        visit = await db[Visit].add(Visit(borrower=user.ref, national_id=secret("123-45-6789"), fee=usd("12.50")))
        ((index,),) = await db.unit.call("SELECT encode(email_bidx, 'hex') FROM tally.user_account", ())
        sealed = await db.unit.call("SELECT national_id, national_id_bidx, national_id_mask FROM tally.visit", ())
        text = json.dumps(await bodies(db), default=str)
        for hidden in ("ada.secret", "123-45", index, sealed[0][1].hex()):
            assert hidden not in text
        (body,) = await bodies(db, visit.id)
        assert body["new"]["national_id"] == "\\x" + sealed[0][0].hex()
        assert body["new"]["national_id_mask"] == "\\x" + sealed[0][2].hex()
        assert body["new"]["fee"] == 1250


def every() -> list[type[Entity]]:
    return [*entities_of(DOMAINS), *ALL]


def test_only_machinery_is_left_out() -> None:
    assert {spec_of(e).table for e in every() if not spec_of(e).audit} == UNAUDITED
    for entity in every():
        spec = spec_of(entity)
        hidden = set(spec.index_columns)
        assert hidden <= set(spec.unaudited)
        worked_out = {f.columns[0].name for f in spec.fields.values() if f.maintained}
        assert set(spec.unaudited) <= hidden | worked_out
        named = [t for t in model_of(spec).triggers if t.name.startswith("tally_0_audit")]
        assert bool(named) == spec.audit
        assert all(f"'{c}'" in t.calls for c in spec.unaudited for t in named)


_TRIGGERS = """
SELECT c.relname AS table, t.tgname AS name, p.oid::regprocedure::text AS calls, t.tgenabled AS enabled,
  t.tgtype & 2 = 0 AND t.tgtype & 1 = 1 AS follows
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid
WHERE c.relnamespace = 'tally'::regnamespace AND NOT t.tgisinternal
"""


async def test_capture_comes_first_on_every_table(tally: Tallystick) -> None:
    """Triggers fire by name: what a later one changes elsewhere must be logged after the change that caused it."""
    rows = await tally.store.system_rows(_TRIGGERS)
    tables = {r["table"] for r in rows}
    capturing = {r["table"] for r in rows if r["calls"] == "tally_audit.capture()"}
    assert tables - capturing == UNAUDITED | {"key_state", "usage"}
    for table in capturing:
        order = sorted((r for r in rows if r["table"] == table and r["follows"]), key=lambda r: str(r["name"]))
        first = [r["calls"] == "tally_audit.capture()" for r in order]
        assert first == sorted(first, reverse=True), table
        assert all(r["enabled"] == b"A" for r in order)


def test_a_guard_may_not_come_before_capture() -> None:
    class Early(Entity):
        name: str
        rules = Rules(Guard("a_first", "AFTER INSERT", "tally.refuse_change('early')"))

    class Late(Entity):
        name: str
        rules = Rules(Guard("tally_x", "AFTER INSERT", "tally.refuse_change('late')"))

    class Hiding(Entity):
        name: str
        rules = Rules(unaudited=("name",))

    with pytest.raises(Declaration, match="before the row's change"):
        spec_of(Early)
    assert spec_of(Late).guards
    with pytest.raises(Declaration, match="left out"):
        spec_of(Hiding)


async def test_balances_stay_out_and_everything_else_of_an_account_is_in(tally: Tallystick, tenant: str) -> None:
    async with tally.session(tenant, actor="a", permissions=("*",)) as db:
        cash, wallet = await books(db)
        opened = len(await bodies(db, cash.id))
        await db.ledger.post([transfer(cash, wallet, usd("5"))], op="deposit", key="one", on=DAY)
        transfers = [b for b in await bodies(db) if b["table"] == "transfer"]
        assert [b["new"]["amount"] for b in transfers] == [500]
        assert opened == len(await bodies(db, cash.id)) == 1
        (body,) = await bodies(db, cash.id)
        assert {"debits", "credits", "debits_pending", "credits_pending"}.isdisjoint(body["new"])
        await db[Account].update(await db[Account].get(cash.id), name="Till")
        assert [b["op"] for b in await bodies(db, cash.id)] == ["I", "U"]


async def test_the_registry_of_tenants_is_audited(tally: Tallystick, tenant: str) -> None:
    async with tally.session(tenant, actor="admin", permissions=("*",)) as db:
        found = [b for b in await bodies(db) if b["table"] == "tenant"]
        assert found[0]["op"] == "I"
        assert {"billing_email", "billing_address"}.isdisjoint(found[-1]["new"])
        assert found[-1]["key"] == str(db.tenant_id)


async def test_an_entry_is_written_once(sealed: SealedGround) -> None:
    await sealed.shelves(await sealed.tenant())
    for role in ("app", "seal", "owner", "audit", "superuser"):
        async with sealed.connected(role) as conn:
            if role == "app":
                await conn.fetchval("SELECT set_config('tally.tenant', $1, false)", str(UUID(int=1)))
            for statement in (
                "UPDATE tally_audit.entry SET body = '{}'",
                "DELETE FROM tally_audit.entry",
                "TRUNCATE tally_audit.entry",
                "TRUNCATE tally_audit.leaf",
            ):
                if role in ("audit",) and not statement.startswith("TRUNCATE"):
                    # Under its own wall the audit role sees rows to read and none to change.
                    assert (await conn.execute(statement)).endswith(" 0")
                    continue
                with pytest.raises(asyncpg.PostgresError):
                    await conn.execute(statement)
