"""Enrolling verifiers of proofs: the database learns their keys, and takes verdicts from nobody else."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tallystick.errors import Invalid, NotFound, NotMigrated
from tallystick.privacy import tenant_key
from tallystick.schema.roles import Roles

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_PUT = (
    "INSERT INTO tally_sec.proof_verifier (name, inner_pad, outer_pad) VALUES ($1, $2, $3) "
    "ON CONFLICT (name) DO UPDATE SET inner_pad = excluded.inner_pad, outer_pad = excluded.outer_pad"
)
_GONE = "DELETE FROM tally_sec.proof_verifier WHERE name = $1 RETURNING name"


async def enroll(admin_url: str, name: str, key: bytes, *, roles: Roles | None = None) -> None:
    """Let the verifier of this name reach verdicts, attested with this key of 32 random bytes; as often as you like.

    Another key than before takes its place. The key belongs where the check runs and nowhere else: whoever has it can
    mark proofs verified. Raises ``Invalid``, ``NotMigrated`` without the proofs domain, ``NotProvisioned``,
    ``Unavailable``.
    """
    pads = tenant_key.pads(key)
    async with _owner(admin_url, name, roles) as conn:
        await conn.execute(_PUT, name, *pads)


async def dismiss(admin_url: str, name: str, *, roles: Roles | None = None) -> None:
    """Take no more verdicts of a verifier; those it reached stand. Raises ``NotFound`` and what ``enroll`` does."""
    async with _owner(admin_url, name, roles) as conn:
        gone = await conn.fetchval(_GONE, name)
    if gone is None:
        raise NotFound("No verifier of that name is enrolled.", entity="Verifier", remedy="See how it was enrolled.")


@asynccontextmanager
async def _owner(admin_url: str, name: str, roles: Roles | None) -> AsyncIterator[asyncpg.Connection]:
    """A connection that acts as the owner of the schema, with the verifiers' table there."""
    from tallystick.schema.connect import acting_as_owner, connect
    from tallystick.settings import connect_args

    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Invalid(
            "A verifier's name is 1 to 64 lower-case letters, digits, dots, dashes and underscores.", field="name"
        )
    conn = await connect(connect_args(admin_url, name="TALLYSTICK_ADMIN_URL"))
    try:
        async with acting_as_owner(conn, roles or Roles()):
            if not await conn.fetchval("SELECT pg_catalog.to_regclass('tally_sec.proof_verifier') IS NOT NULL"):
                raise NotMigrated("The database has no proofs domain.")
            yield conn
    finally:
        await conn.close()
