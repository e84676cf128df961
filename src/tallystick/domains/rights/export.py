"""Exports: everything that is held about a person, or of a tenant, in a folder that can be checked without us.

``<table>.jsonl`` has a row a line, ``schema.json`` says what the fields mean, ``access.jsonl`` who looked at the data
and when, ``manifest.json`` lists every file with its SHA-256 and ``manifest.sig`` is the Ed25519 signature over it, in
hex. The folder appears whole or not at all, readable by this user alone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import UTC, datetime, time, timedelta
from hashlib import file_digest, sha256
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec

from tallystick.audit.entries import AuditEvent
from tallystick.domains.identity.access import acting_user
from tallystick.domains.identity.disclosures import Disclosure
from tallystick.domains.rights.gather import WITHHELD, actor_shown, documents, rows_of_person, schema_of
from tallystick.domains.rights.places import all_declared, specs_of
from tallystick.errors import Invalid, QuotaExceeded, Tampered, Unavailable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from tallystick.session import Session

FORMAT: Final = "tallystick-export/1"
EXPORTS_A_DAY: Final = 3
"""How often one person's data is exported on a day (UTC), unless an operator lifts it."""
_MANIFEST, _SIGNATURE = "manifest.json", "manifest.sig"
_PAGE: Final = 2_000


class ExportedFile(msgspec.Struct, frozen=True):
    """A file of an export: its name, how many rows it has, and its SHA-256 in hex."""

    name: str
    rows: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What an export holds.

    ``person`` is None for a tenant's whole export; ``public_key`` (32 bytes in hex) checks the signature.
    """

    format: str
    tenant: UUID
    slug: str
    person: UUID | None
    made_at: datetime
    reason: str
    public_key: str
    files: tuple[ExportedFile, ...]

    @property
    def rows(self) -> int:
        """How many rows there are in all files."""
        return sum(f.rows for f in self.files)


async def export_person(
    db: Session,
    person: UUID,
    path: str | PathLike[str],
    reason: str,
    key: Ed25519PrivateKey,
    *,
    over_limit: bool = False,
) -> Manifest:
    """Write what is held about a person to a new folder (GDPR Art. 15 and 20); see ``Privacy.export``."""
    said = _reason(reason)
    await acting_user(db, person, "privacy.export")
    await all_declared(db)
    user = await db.users.get(person)
    _new(path)
    if over_limit:
        # Whoever may have everybody's data may have one person's as often as it takes.
        await db.require("privacy.export_tenant")
    else:
        await _count(db, user.id)

    async def fill(folder: _Folder) -> None:
        specs = specs_of(db.entities)
        found = await rows_of_person(db, specs, user.id)
        opened: list[tuple[str, UUID, str]] = []
        for spec in specs:
            if spec.table in found:
                rows, secrets = await documents(db, spec, found[spec.table], user.id)
                folder.lines(f"{spec.table}.jsonl", rows)
                opened += [(spec.table, row, field) for row, field in secrets]
        ids = [str(id) for rows_ in found.values() for id in rows_]
        folder.lines("disclosure.jsonl", await _disclosures(db, ids, user.id))
        folder.lines("access.jsonl", [line async for line in _accesses(db, ids, user.id)])
        await _disclose(db, opened, said)
        folder.document("schema.json", dict(schema_of([s for s in specs if s.table in found])))

    return await _export(db, path, fill, reason=said, key=key, person=user.id, over_limit=over_limit)


async def export_tenant(db: Session, path: str | PathLike[str], reason: str, key: Ed25519PrivateKey) -> Manifest:
    """Write everything a tenant has to a new folder, opened, without credentials; needs "privacy.export_tenant"."""
    said = _reason(reason)
    await db.require("privacy.export_tenant")
    await all_declared(db)

    async def fill(folder: _Folder) -> None:
        specs = [s for s in specs_of(db.entities) if s.schema == "tally" and s.table not in WITHHELD]
        for spec in specs:
            after: UUID | None = None
            while True:
                ids = await db.unit.call(_IDS.format(table=spec.table), (db.tenant_id, after, _PAGE))
                if not ids and after is not None:
                    break
                rows, _ = await documents(db, spec, [row[0] for row in ids], None)
                folder.lines(f"{spec.table}.jsonl", rows)
                if len(ids) < _PAGE:
                    break
                after = ids[-1][0]
        folder.document("schema.json", dict(schema_of(specs)))

    return await _export(db, path, fill, reason=said, key=key, person=None)


def check_export(path: str | PathLike[str], public_key: bytes | None = None) -> Manifest:
    """Check an export: the signature of its manifest, and that every file is as it was written and none is more.

    ``public_key`` (32 bytes) is whom it should be signed by; without it the key of the manifest itself is taken, which
    shows that nothing was changed since and not who wrote it. Raises ``Tampered``, ``Invalid``.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    folder, found = Path(path), None
    try:
        body = (folder / _MANIFEST).read_bytes()
        signature = bytes.fromhex((folder / _SIGNATURE).read_text("ascii").strip())
        found = msgspec.json.decode(body, type=Manifest)
        signer = public_key if public_key is not None else bytes.fromhex(found.public_key)
        Ed25519PublicKey.from_public_bytes(signer).verify(signature, body)
    except OSError:
        found = None
    except (InvalidSignature, ValueError, msgspec.MsgspecError):
        raise Tampered("The manifest of the export is not what was signed.") from None
    if found is None:
        raise Invalid("There is no export in this folder.", field="path", remedy="Name the folder that was written.")
    there = {p.name for p in folder.iterdir()} - {_MANIFEST, _SIGNATURE}
    if there != {f.name for f in found.files}:
        raise Tampered("The export has files that its manifest does not name, or lacks some.")
    for file in found.files:
        if _digest(folder / file.name) != file.sha256:
            raise Tampered(f"{file.name} of the export was changed.")
    return found


def _digest(path: Path) -> str | None:
    """The SHA-256 of a file in hex, read in parts; None for what is no file that can be read."""
    try:
        with open(path, "rb") as file:
            return file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


class _Folder:
    """The folder being written, under another name until it is whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.draft = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
        self._files: dict[str, list[Any]] = {}
        self.draft.mkdir(mode=0o700, parents=True)

    def lines(self, name: str, rows: Iterable[Any]) -> None:
        """Add rows to a file, which is made even when there are none."""
        held = self._files.setdefault(name, [0, sha256()])
        with open(self.draft / name, "ab", opener=_private) as file:
            for row in rows:
                line = msgspec.json.encode(row) + b"\n"
                file.write(line)
                held[0] += 1
                held[1].update(line)

    def document(self, name: str, content: Any) -> None:
        """Write one JSON document."""
        body = msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"
        self.put(name, body)
        self._files[name] = [0, sha256(body)]

    def put(self, name: str, body: bytes) -> None:
        """Write a file that the manifest does not list."""
        with open(self.draft / name, "wb", opener=_private) as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())

    @property
    def files(self) -> tuple[ExportedFile, ...]:
        """What was written."""
        return tuple(ExportedFile(n, rows, d.hexdigest()) for n, (rows, d) in sorted(self._files.items()))


async def _export(
    db: Session,
    path: Any,
    fill: Callable[[_Folder], Awaitable[None]],
    *,
    reason: str,
    key: Ed25519PrivateKey,
    person: UUID | None,
    over_limit: bool = False,
) -> Manifest:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    target = _new(path)
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    folder, manifest, full = None, None, False
    try:
        folder = _Folder(target)
        # One snapshot, so that the files agree with each other.
        async with db.transaction("repeatable read"):
            await fill(folder)
            manifest = Manifest(
                format=FORMAT,
                tenant=db.tenant_id,
                slug=db.tenant.slug,
                person=person,
                made_at=db.now(),
                reason=reason,
                public_key=public.hex(),
                files=folder.files,
            )
            body = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
            folder.put(_MANIFEST, body)
            folder.put(_SIGNATURE, key.sign(body).hex().encode() + b"\n")
            await db.audit.record(_event(manifest, person, over_limit=over_limit))
        folder.draft.rename(target)
    except OSError:
        full = True
    finally:
        if folder is not None and folder.draft.exists():
            shutil.rmtree(folder.draft)
    if full or manifest is None:
        raise Unavailable("The export could not be written.", remedy="Check the folder's place, rights and space.")
    return manifest


async def _count(db: Session, person: UUID) -> None:
    """Count an export of a person's data before anything is read for it: what fails later was work all the same."""
    day = db.now().date()
    try:
        await db.unit.call("SELECT tally.consume($1, $2, 1, $3)", (f"export:{person}", day, EXPORTS_A_DAY))
    except QuotaExceeded:
        pass
    else:
        return
    until = datetime.combine(day + timedelta(days=1), time(0), UTC)
    raise QuotaExceeded(
        f"This person's data was exported {EXPORTS_A_DAY} times today, which is the most a day.",
        metric="exports",
        limit=EXPORTS_A_DAY,
        until=until,
        remedy=f'Try again from {until:%Y-%m-%d %H:%M} UTC on; "privacy.export_tenant" may pass over_limit=True.',
    )


def _event(manifest: Manifest, person: UUID | None, *, over_limit: bool) -> AuditEvent:
    return AuditEvent(
        type="privacy.exported",
        category="privacy",
        service="tallystick",
        description=manifest.reason,
        table="user_account" if person else "tenant",
        key=str(person or manifest.tenant),
        regulation="GDPR",
        requirement="Art. 15, 20" if person else None,
        data={"files": len(manifest.files), "rows": manifest.rows} | ({"over_limit": True} if over_limit else {}),
    )


async def _disclose(db: Session, opened: list[tuple[str, UUID, str]], reason: str) -> None:
    """Secrets that were opened are disclosed as by anybody who reveals them."""
    rows = [
        Disclosure(entity=table, row_id=row, field=field, reason=f"export: {reason}") for table, row, field in opened
    ]
    await db[Disclosure].add_many(rows)


async def _disclosures(db: Session, ids: list[str], person: UUID) -> list[dict[str, Any]]:
    # A statement of its own, because there is no most of them.
    found = await db.unit.call(_DISCLOSURES, (db.tenant_id, ids))
    return [
        {
            "at": at.isoformat(),
            "entity": entity,
            "row": str(row),
            "field": field,
            "by": actor_shown(actor, person),
            "reason": reason,
        }
        for at, entity, row, field, actor, reason in found
    ]


async def _accesses(db: Session, ids: list[str], person: UUID) -> AsyncIterator[dict[str, Any]]:
    """Reads that were written down, of any of the person's rows."""
    wanted = set(ids)
    rows = await db.unit.call(_READS, (db.tenant_id, ids))
    for at, table, key, actor, why, verb, keys in rows:
        named = [k for k in msgspec.json.decode(keys) if k in wanted] if keys else []
        yield {
            "at": at.isoformat(),
            "table": table,
            "rows": named or [key],
            "verb": verb,
            "by": actor_shown(actor, person),
            "reason": why,
        }


def _reason(reason: Any) -> str:
    if not isinstance(reason, str) or not 3 <= len(reason.strip()) <= 400:
        raise Invalid(
            "An export is made for a reason.", field="reason", remedy='Say it: reason="request of 3 May, ticket 91".'
        )
    return reason.strip()


def _new(path: Any) -> Path:
    target = Path(path).absolute()
    if target.exists():
        raise Invalid("The folder of the export is there already.", field="path", remedy="Name a new one.")
    return target


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


# Reads of several rows list them in their event.
_READS = (
    "SELECT e.at, e.\"table\", e.key, e.body::jsonb ->> 'actor', e.body::jsonb ->> 'reason', "
    "e.body::jsonb #>> '{event,verb}', e.body::jsonb #>> '{event,keys}' FROM tally_audit.entry e "
    "WHERE e.tenant_id = $1 AND e.op = 'R' AND (e.key = ANY ($2::text[]) "
    "OR (e.key = '*' AND e.body::jsonb #> '{event,keys}' ?| $2::text[])) ORDER BY e.seq"
)
_DISCLOSURES = (
    "SELECT d.created_at, d.entity, d.row_id, d.field, d.created_by, d.reason FROM tally.disclosure d "
    "WHERE d.tenant_id = $1 AND d.row_id = ANY ($2::text[]::uuid[]) ORDER BY d.created_at, d.id"
)
_IDS = (
    "SELECT t.id FROM tally.{table} t WHERE t.tenant_id = $1 AND ($2::uuid IS NULL OR t.id > $2) ORDER BY t.id LIMIT $3"
)
