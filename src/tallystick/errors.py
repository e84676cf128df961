"""Every error this library raises, in one tree.

    TallystickError
    ├── NotFound                    no such row for this tenant
    ├── Conflict
    │   ├── StaleVersion            somebody else changed the row first
    │   ├── Duplicate               a unique rule says it exists already
    │   ├── StillReferenced         other rows point at it
    │   ├── KeyReused               one idempotency key, two different requests
    │   ├── LeaseLost               a claimed work item went to another worker
    │   └── Serialization           concurrent transactions could not be ordered; replay
    ├── InvalidTransition           the state machine has no such step
    ├── Denied
    │   ├── WrongTenant             the client itself can see the tenant is not its own
    │   ├── TenantMissing           no tenant is set where one must be
    │   ├── ConsentMissing          the person did not agree, or no longer does
    │   ├── RoleMissing             the actor lacks a role or permission
    │   ├── LoginRefused            a login failed; never says why
    │   └── OnHold                  a legal hold or restriction forbids it
    ├── Erased                      the subject's keys were destroyed
    ├── Invalid                     a value, filter, cursor or declaration is wrong
    │   ├── UnknownReference        a reference points at nothing this tenant has
    │   └── Declaration             an entity, index or rule is declared wrongly
    ├── InsufficientFunds           an account would go below its floor
    ├── QuotaExceeded               the tenant's limit for this period is used up
    ├── CommitUnknown               the connection died while committing
    ├── MigrationUnsafe             the migration would block or lose something
    ├── NotMigrated                 the schema is older than the code
    ├── NotProvisioned              roles or rights are missing
    ├── Tampered                    stored bytes are not what was written
    ├── Unavailable                 the server, a file or a service cannot be reached
    │   ├── StorageFull             the server ran out of disk
    │   └── TlsFailed               the server is there, and TLS with it failed
    └── Unsupported                 this engine or store cannot do it

Each class has a stable ``code``, typed attributes and a remedy that is part of the message. Messages name
tables, fields, rules and limits; they never hold a stored value, because a log is not a place for a person.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar
from uuid import UUID


class TallystickError(Exception):
    """The root of every error of this library.

    Catch it to handle anything Tallystick can raise. ``code`` is stable across releases and is what a
    program should compare; ``remedy`` says what to do next and is the second sentence of the message.
    """

    code: ClassVar[str] = "TS-1000"
    default_remedy: ClassVar[str] = ""

    def __init__(self, problem: str, *, remedy: str = "") -> None:
        self.problem = problem
        self.remedy = remedy or self.default_remedy
        super().__init__(problem)

    def __str__(self) -> str:
        text = f"[{self.code}] {self.problem}"
        return f"{text} {self.remedy}" if self.remedy else text


class NotFound(TallystickError):
    """No row with that id exists for this tenant."""

    code = "TS-1100"
    default_remedy = "Check the id, or use get_or_none() when absence is normal."

    def __init__(self, problem: str, *, entity: str = "", id: UUID | None = None, remedy: str = "") -> None:
        self.entity = entity
        self.id = id
        super().__init__(problem, remedy=remedy)


class Conflict(TallystickError):
    """The write contradicts what is already stored."""

    code = "TS-1200"
    default_remedy = "Read what is stored now and decide again."

    def __init__(self, problem: str, *, entity: str = "", rule: str = "", remedy: str = "") -> None:
        self.entity = entity
        self.rule = rule
        super().__init__(problem, remedy=remedy)


class StaleVersion(Conflict):
    """The row was changed by somebody else since it was read."""

    code = "TS-1201"
    default_remedy = "Read it again, apply the change to what is there now, and update that."


class Duplicate(Conflict):
    """A unique rule of the entity is already taken within this tenant."""

    code = "TS-1202"
    default_remedy = "Use upsert() when the row may exist, or change the fields the rule names."


class StillReferenced(Conflict):
    """Other rows refer to the row, so it cannot go."""

    code = "TS-1203"
    default_remedy = "Remove or re-point the rows that refer to it first; nothing cascades."


class KeyReused(Conflict):
    """One idempotency key was used for two different requests."""

    code = "TS-1204"
    default_remedy = "Make a new key for a new request; repeat a key only with the same arguments."


class LeaseLost(Conflict):
    """The lease on a claimed work item ran out and the item is no longer this worker's."""

    code = "TS-1205"
    default_remedy = "Claim with a longer lease, or do less per item; the work will be claimed again."


class Serialization(Conflict):
    """The database refused to order concurrent transactions (SQLSTATE 40001 or 40P01); nothing was kept."""

    code = "TS-1206"
    default_remedy = "Run the whole unit again; db.atomic(fn) does that for you."


class InvalidTransition(TallystickError):
    """The declared state machine has no step from the present state to the wanted one."""

    code = "TS-1300"
    default_remedy = "Follow the transitions the entity declares."

    def __init__(self, problem: str, *, entity: str = "", before: str = "", after: str = "", remedy: str = "") -> None:
        self.entity = entity
        self.before = before
        self.after = after
        super().__init__(problem, remedy=remedy)


class Denied(TallystickError):
    """The caller may not do this."""

    code = "TS-1400"
    default_remedy = "Use an actor, role or session that may do it."


class WrongTenant(Denied):
    """The entity or cursor in hand belongs to another tenant than the session."""

    code = "TS-1401"
    default_remedy = "Open the session for the tenant the data belongs to."


class TenantMissing(Denied):
    """A statement reached a tenant table without a tenant."""

    code = "TS-1402"
    default_remedy = "Go through tally.session(tenant, ...); migrations that touch data use for_each_tenant."


class ConsentMissing(Denied):
    """The data subject has not agreed to this purpose, or withdrew."""

    code = "TS-1403"
    default_remedy = "Ask for consent and record it before processing."


class RoleMissing(Denied):
    """The actor lacks the role or permission that the operation needs."""

    code = "TS-1404"
    default_remedy = "Use an actor that holds it, or grant the permission to the user."


class LoginRefused(Denied):
    """The login failed."""

    code = "TS-1405"
    default_remedy = "Check the credentials or wait before the next attempt."


class OnHold(Denied):
    """A legal hold or a restriction of processing forbids the operation."""

    code = "TS-1406"
    default_remedy = "Release the hold first, with its reason."


class Erased(TallystickError):
    """The value's subject was erased: its keys no longer exist."""

    code = "TS-1500"
    default_remedy = "Nothing can bring it back; treat the field as absent."


class Invalid(TallystickError):
    """An argument, value, filter, sort key, cursor or setting is wrong; nothing was written."""

    code = "TS-1600"
    default_remedy = "Correct what is named and call again; nothing was written."

    def __init__(self, problem: str, *, entity: str = "", field: str = "", remedy: str = "") -> None:
        self.entity = entity
        self.field = field
        super().__init__(problem, remedy=remedy)


class UnknownReference(Invalid):
    """A reference names a row that this tenant does not have."""

    code = "TS-1601"
    default_remedy = "Add the referenced row first, in the same tenant, and use its id."


class Declaration(Invalid):
    """An entity is declared in a way that cannot be stored safely."""

    code = "TS-1602"
    default_remedy = "Correct the declaration; nothing was installed."


class InsufficientFunds(TallystickError):
    """The transfer would take an account below its floor."""

    code = "TS-1700"
    default_remedy = "Move less, or fund the account first."


class QuotaExceeded(TallystickError):
    """The tenant's limit for the period is used up.

    ``until`` is when it may be tried again, None where that is not a matter of time alone.
    """

    code = "TS-1701"
    default_remedy = "Raise the tenant's limit or wait for the next period."

    def __init__(
        self, problem: str, *, metric: str = "", limit: int = 0, until: datetime | None = None, remedy: str = ""
    ) -> None:
        self.metric = metric
        self.limit = limit
        self.until = until
        super().__init__(problem, remedy=remedy)


class CommitUnknown(TallystickError):
    """The connection was lost during COMMIT: the transaction may or may not stand."""

    code = "TS-1800"
    default_remedy = "Do not blindly repeat; look for the result by its idempotency key or id."


class MigrationUnsafe(TallystickError):
    """A migration would block writers, lose data or weaken isolation; the remedy is the corrected migration."""

    code = "TS-1900"
    default_remedy = "Apply the change in the steps that the documentation of online migrations describes."


class NotMigrated(TallystickError):
    """The database schema is not at the revision this code needs."""

    code = "TS-1901"
    default_remedy = "Run `tallystick migrate` with TALLYSTICK_ADMIN_URL set."


class NotProvisioned(TallystickError):
    """Roles, rights or schemas that Tallystick needs are missing."""

    code = "TS-1902"
    default_remedy = (
        "Run `tallystick provision` with TALLYSTICK_ADMIN_URL set, or apply the SQL of `tallystick provision --sql`."
    )


class Tampered(TallystickError):
    """Stored bytes fail their authentication or proof.

    Where the audit trail found it, ``kind`` says what is wrong in the offline verifier's word ("column", "past",
    "rewritten", "missing", ...), and the rest names where: the tenant, an entry's number, a table and the row's key.
    """

    code = "TS-2000"
    default_remedy = "Do not trust the row; compare it with the audit trail and a backup."

    def __init__(
        self,
        problem: str,
        *,
        kind: str = "",
        tenant: UUID | None = None,
        seq: int | None = None,
        table: str = "",
        key: str = "",
        remedy: str = "",
    ) -> None:
        self.kind = kind
        self.tenant = tenant
        self.seq = seq
        self.table = table
        self.key = key
        super().__init__(problem, remedy=remedy)


class Unavailable(TallystickError):
    """A server, file or service cannot be reached or used now."""

    code = "TS-2100"
    default_remedy = "Check that the server or file is there, then try again."


class StorageFull(Unavailable):
    """The database server has no space left; the statement was rolled back."""

    code = "TS-2101"
    default_remedy = "Free space on the server's disk; the write can then be repeated as it was."


class TlsFailed(Unavailable):
    """The server is there, and no connection with it can be trusted or agreed; trying again changes nothing."""

    code = "TS-2102"
    default_remedy = "Correct the certificate, its authority or the URL's sslmode; verification is never switched off."


class Unsupported(TallystickError):
    """The engine, store or setting in use cannot do this."""

    code = "TS-2200"
    default_remedy = "Use what this engine, store or setting offers; docs/parity.md lists it."
