"""One table from SQLSTATE to the error tree.

Server messages are never passed on: their DETAIL holds the very values that must not reach a log. What is kept
is the constraint's name, from which the declared rule and its fields are found.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec

from tallystick import errors as e
from tallystick.stores.postgres.pooler import hidden_pooler, pooler_without_transactions
from tallystick.stores.postgres.raised import RAISED
from tallystick.tls import tls_failure

if TYPE_CHECKING:
    from tallystick.spec import EntitySpec

FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""What the driver raises for a server or a connection that fails; an internal error is a server's dying word."""

_SHARD = re.compile(r"_\d{5,}$")
_PROVED_ROLLED_BACK = ("23", "40", "53", "55", "58030", "57P03", "TS", "P0", "22", "42")
_FLOOR = "ck_account_floor"
_OVERFUNDED = "ck_loan_funded"


def translate(problem: BaseException, spec: EntitySpec | None = None, verb: str = "") -> e.TallystickError:
    """The library's error for a driver's or server's. The caller raises it outside its ``except`` block."""
    entity = spec.name if spec else ""
    if not isinstance(problem, asyncpg.PostgresError):
        return _connection(problem)
    state = _told(problem, "sqlstate")
    constraint = _SHARD.sub("", _told(problem, "constraint_name"))
    if state == "23505":
        return _duplicate(spec, constraint)
    if state in ("23503", "23001"):
        return _reference(spec, constraint, verb, _told(problem, "table_name"))
    if state == "23514":
        if constraint == _FLOOR:
            return e.InsufficientFunds("An account of the journal would go below its floor.")
        if constraint == _OVERFUNDED:
            return e.Conflict(
                "The loan takes no more than it asks for.", entity=entity, remedy="Offer at most what is left to fund."
            )
        return _check(spec, constraint)
    if state == "23502":
        field = _told(problem, "column_name")
        if field in ("created_by", "updated_by"):
            return _actorless()
        return e.Invalid(
            f"{entity}.{field} has no value and needs one.",
            entity=entity,
            field=field,
            remedy="Give it a value or declare it optional.",
        )
    if state == "TS300":
        before, _, after = _told(problem, "detail").partition(" -> ")
        return e.InvalidTransition(
            f"{entity or _told(problem, 'table_name')}: {before or 'new'} cannot become {after}.",
            entity=entity,
            before=before,
            after=after,
        )
    if state == "TS100":
        return e.NotFound("The tenant does not exist.", entity="Tenant")
    if state == "TS201":
        return e.StaleVersion("The tenant was changed by somebody else since it was read.", entity="Tenant")
    if state == "22023":
        field = _told(problem, "column_name")
        return e.Invalid(
            f"The setting {field} is not known or has a bad value." if field else "A parameter is invalid.", field=field
        )
    if state == "TS301":
        return e.Denied(
            f"{entity or _told(problem, 'table_name')} is append-only.",
            remedy="Add a row that corrects or reverses the earlier one.",
        )
    if state == "TS310":
        return e.Erased(
            f"{entity or _told(problem, 'table_name')}: the person was erased, or the value's key is not there.",
            remedy="Nothing more can be written about an erased person; after a rollback, seal the values again.",
        )
    if state in RAISED:
        kind, said, remedy = RAISED[state]
        return kind(said, remedy=remedy)
    if state == "TS701":
        return _quota(problem)
    if state == "42501":
        return _privilege(entity, problem)
    if (state in ("42704", "22P02") and "tally.tenant" in str(problem)) or (
        state == "22P02" and "uuid" in str(problem)
    ):
        return e.TenantMissing("A statement reached a tenant table without a tenant.")
    if state == "42704" and "tally.actor" in str(problem):
        return _actorless()
    if state in ("42P01", "3F000", "42703", "42883"):
        return e.NotMigrated(f"The database lacks what {entity or 'this statement'} needs.")
    if state in ("40001", "40P01"):
        return e.Serialization("Concurrent transactions could not be ordered; this one was rolled back.", entity=entity)
    if state == "53100":
        return e.StorageFull("The database server's disk is full.")
    if state in ("53300", "57P03", "57P01", "57P02", "08006", "08001", "08003", "08004", "53200", "58030"):
        if "statement pooling mode" in str(problem):
            return pooler_without_transactions()
        return _unavailable(state)
    if state == "55P03":
        return e.Conflict(
            f"A row of {entity or 'the table'} is locked by another transaction.",
            entity=entity,
            remedy="Try again shortly, or lock with wait=True.",
        )
    if state == "57014":
        return e.Unavailable(
            "The statement ran into the server's statement timeout or was cancelled.",
            remedy="Narrow the query, stream it, or raise statement_timeout for this job.",
        )
    if state == "25006":
        return e.Unsupported(
            "A write was tried in a read-only transaction or on a replica.",
            remedy="Write in a transaction that is not read_only, on the primary.",
        )
    if state == "25P02":
        return e.Conflict(
            "The transaction had failed already; the server ignores what follows.",
            entity=entity,
            remedy="Catch errors around a nested db.transaction() (a savepoint), not inside the outer one.",
        )
    if state.startswith("22"):
        return e.Invalid(
            f"A value for {entity or 'the statement'} does not fit its column: its range, its form or its characters.",
            entity=entity,
            remedy="Check ranges, lengths, promoted JSON keys and NUL characters.",
        )
    if state.startswith("54"):
        return e.Invalid(
            f"A value for {entity or 'the statement'} is larger or deeper than the server can take or index.",
            entity=entity,
            remedy="Give indexed text a Length(...) of at most 500, and split what is larger.",
        )
    if state in ("28P01", "28000", "3D000"):
        return login(problem)
    if isinstance(problem, asyncpg.InvalidCachedStatementError):
        return e.Serialization("The tables were changed since the statement was prepared.", entity=entity)
    if state in ("26000", "42P05"):
        # Prepared statements that vanish or are there already: another server answers than the one that prepared.
        return hidden_pooler()
    return e.Unavailable(
        f"The database refused the statement (SQLSTATE {state}).",
        remedy="Look the SQLSTATE up in PostgreSQL's Appendix A; the server log has the statement.",
    )


def _quota(problem: BaseException) -> e.TallystickError:
    """What limit was reached, as the database's function told."""
    try:
        told = msgspec.json.decode(_told(problem, "detail"), type=dict[str, Any])
        metric, limit = str(told["metric"]), int(told["limit"])
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        return e.QuotaExceeded("The tenant's quota for this period is used up.")
    return e.QuotaExceeded(f"The tenant's limit of {limit} {metric} is used up.", metric=metric, limit=limit)


def login(problem: BaseException) -> e.TallystickError:
    """Why a connection could not be opened."""
    if (failure := tls_failure(problem)) is not None:
        return failure
    state = _told(problem, "sqlstate")
    if state in ("28P01", "28000"):
        return e.NotProvisioned(
            "The server refused the login of the configured role.",
            remedy="Check the password, or run `tallystick provision` with TALLYSTICK_ADMIN_URL set.",
        )
    if state == "42501":
        return e.NotProvisioned("The configured role may not connect to the database.")
    if state == "08P01" and "startup parameter" in str(problem):
        return hidden_pooler()
    if state == "3D000":
        return e.NotProvisioned(
            "The database of the configured URL does not exist.",
            remedy="Create it, then run `tallystick init` with TALLYSTICK_ADMIN_URL set.",
        )
    return translate(problem) if isinstance(problem, asyncpg.PostgresError) else _connection(problem)


def commit_outcome_unknown(problem: BaseException) -> bool:
    """Whether a failed COMMIT may still have landed: only when the server did not prove a rollback."""
    state = getattr(problem, "sqlstate", None)
    return state is None or not str(state).startswith(_PROVED_ROLLED_BACK)


def cut_off(problem: BaseException) -> bool:
    """Whether the connection died under a statement that was sent, so that nobody knows how it ended."""
    state = _told(problem, "sqlstate")
    return isinstance(problem, OSError) or state[:2] == "08" or state in ("57P01", "57P02", "57P05")


def _actorless() -> e.Denied:
    return e.Denied(
        "A write reached the database without an actor.", remedy="Go through tally.session(tenant, actor=...)."
    )


def _told(problem: BaseException, attribute: str) -> str:
    """A field of the server's message; the driver sets them on instances, so type checkers do not know them."""
    return str(getattr(problem, attribute, None) or "")


def _unavailable(state: str) -> e.TallystickError:
    if state == "53300":
        return e.Unavailable(
            "The server has no connection left.",
            remedy="Lower pool_max times worker processes below the server's max_connections.",
        )
    return e.Unavailable(
        "The database server is shutting down, starting up or dropped the connection.",
        remedy="Try again; a transaction that was not committed is rolled back.",
    )


def _connection(problem: BaseException) -> e.TallystickError:
    if isinstance(problem, asyncpg.InterfaceError) and "another operation" in str(problem):
        return e.Invalid(
            "Two tasks used one transaction at once.",
            remedy="Open a session per task, or await the statements one after another.",
        )
    if (failure := tls_failure(problem)) is not None:
        return failure
    closed = isinstance(problem, asyncpg.InterfaceError) and "closed" in str(problem)
    if isinstance(problem, (asyncpg.InterfaceError, ValueError, TypeError, OverflowError)) and not closed:
        return e.Invalid("A value does not fit its column's type.", remedy="Check the types of the values given.")
    return e.Unavailable(
        "The database server cannot be reached or the connection was lost.",
        remedy="Check that it runs and that the URL's host and port are right, then try again.",
    )


def _duplicate(spec: EntitySpec | None, constraint: str) -> e.Duplicate:
    if spec is None:
        return e.Duplicate("A unique rule is violated.", rule=constraint)
    rule = next((i for i in spec.indexes if i.unique and i.name == constraint), None)
    fields = ", ".join(rule.fields) if rule else "id"
    # A blind index has two columns and its rule an index on each; they are one rule to whoever declared it.
    same = [i.name for i in spec.indexes if rule and i.unique and (i.fields, i.where) == (rule.fields, rule.where)]
    said = same[0] if same else constraint
    return e.Duplicate(f"{spec.name} with this {fields} exists already.", entity=spec.name, rule=said)


def _reference(spec: EntitySpec | None, constraint: str, verb: str, table: str) -> e.TallystickError:
    entity = spec.name if spec else ""
    own = next((f for f in spec.foreign_keys if f.name == constraint), None) if spec else None
    if own is not None and own.table == "tenant" and verb != "delete":
        return e.TenantMissing(
            "The tenant of this session does not exist.", remedy="Create it with tally.tenants.create(slug, name=...)."
        )
    if own is not None and verb != "delete":
        field = own.columns[1].removesuffix("_id")
        return e.UnknownReference(
            f"{entity}.{field} refers to a {own.table} that does not exist.", entity=entity, field=field
        )
    if spec is not None and own is None and verb != "delete" and table == spec.table:
        # A key that the application's own migrations put on our table, to one of theirs.
        return e.UnknownReference(
            f"{entity} refers by {constraint} to a row that does not exist.",
            entity=entity,
            remedy="Add the row of the application's own table first, and use its key.",
        )
    return e.StillReferenced(f"Other rows still refer to this {entity or 'row'}.", entity=entity, rule=constraint)


def _check(spec: EntitySpec | None, constraint: str) -> e.Invalid:
    entity = spec.name if spec else ""
    rule = next((c for c in spec.checks if c.name == constraint), None) if spec else None
    if rule is None:
        return e.Invalid(f"The check {constraint} of {entity or 'the table'} is violated.", entity=entity)
    return e.Invalid(f"{entity} violates {rule.name}: {rule.sql}.", entity=entity, remedy="Change the fields it names.")


def _privilege(entity: str, problem: asyncpg.PostgresError) -> e.TallystickError:
    if "row-level security" in str(problem):
        return e.WrongTenant(f"A row of {entity or 'the table'} belongs to another tenant than the session.")
    return e.Denied(
        f"The application role may not do this to {entity or 'the object'}.",
        remedy="If the schema is older than the code run `tallystick migrate`; else it is denied on purpose.",
    )
