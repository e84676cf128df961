"""The database roles that Tallystick works with, and the schemas they own."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tallystick.errors import Invalid

_PREFIX = re.compile(r"[a-z][a-z0-9_]{0,31}")

#: Schemas of a provisioned database, in the order they are made: tenant tables, shared reference tables,
#: security functions, the audit trail.
SCHEMAS = ("tally", "tally_ref", "tally_sec", "tally_audit")
#: Made when somebody is granted the masked views, and not before.
BI_SCHEMA = "tally_bi"
#: Whatever is in these is ours.
ALL_SCHEMAS = (*SCHEMAS, BI_SCHEMA)


@dataclass(frozen=True, slots=True)
class Roles:
    """The four roles of one installation, named after a common prefix.

    Roles belong to the whole PostgreSQL server, so two installations on one server need two prefixes.
    Raises ``Invalid`` for a prefix that PostgreSQL would fold, quote, truncate or reserve.
    """

    prefix: str = "tally"

    def __post_init__(self) -> None:
        reserved = self.prefix == "pg" or self.prefix.startswith("pg_")
        if reserved or not _PREFIX.fullmatch(self.prefix):
            raise Invalid(
                "The role prefix is not a plain lower-case name.",
                field="role_prefix",
                remedy="Use 1 to 32 letters, digits and underscores, starting with a letter and not with pg_.",
            )

    @property
    def owner(self) -> str:
        """Owns tables, policies and functions; nobody logs in as it."""
        return f"{self.prefix}_owner"

    @property
    def audit(self) -> str:
        """Owns the audit trail, so that the owner of the data cannot rewrite it; nobody logs in as it."""
        return f"{self.prefix}_audit"

    @property
    def app(self) -> str:
        """The application logs in as this role; it owns nothing and every policy binds it."""
        return f"{self.prefix}_app"

    @property
    def seal(self) -> str:
        """The sealer logs in as this role; it reads audit entries of all tenants and nothing else."""
        return f"{self.prefix}_seal"

    @property
    def all(self) -> tuple[str, str, str, str]:
        """Every role, owners before logins."""
        return (self.owner, self.audit, self.app, self.seal)


def quoted(name: str) -> str:
    """A name as SQL takes it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'
