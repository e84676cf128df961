"""The library's own rules for migrations: what blocks writers, loses rows, or opens the tenant wall.

Each rule looks at one statement, knowing which tables the same revision makes (those are empty, so nothing blocks).
Names that squawk uses for the same hazard are used here too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tallystick.schema.safety import Hazard

_NAME = r'(?:"?(?P<schema>\w+)"?\.)?"?(?P<table>[\w~]+)"?'
_I = re.IGNORECASE | re.DOTALL


@dataclass(frozen=True, slots=True)
class Scene:
    """What the rules know about the revision around a statement."""

    statements: tuple[str, ...]
    made: frozenset[str]

    def about(self, table: str, pattern: str) -> bool:
        """Whether some statement names the table and matches."""
        name = re.compile(rf'(?<![\w"]){re.escape(table)}(?!\w)|"{re.escape(table)}"', _I)
        return any(name.search(s) and re.search(pattern, s, _I) for s in self.statements)


Rule = Callable[[str, Scene], Iterator[Hazard]]


def hazards(statements: Sequence[str]) -> list[Hazard]:
    """Every hazard of a revision's statements, each said once."""
    inside, outside = _split(statements)
    made = frozenset(
        m["table"] for s in statements if (m := re.match(rf"CREATE TABLE (?:IF NOT EXISTS )?{_NAME}", s, _I))
    )
    scene = Scene(tuple(statements), made)
    found = [h for s in statements for rule in _RULES for h in rule(s, scene)]
    if inside and outside:
        found.append(
            Hazard(
                "mixed-transaction",
                "operations that run outside a transaction share the revision with others, so a run that was stopped "
                "cannot be resumed",
                f"a revision that holds nothing but: {_short(outside[0])}",
            )
        )
    return list(dict.fromkeys(found))


def _split(statements: Sequence[str]) -> tuple[list[str], list[str]]:
    """What runs in the revision's transaction and what runs outside it."""
    parts: tuple[list[str], list[str]] = ([], [])
    outside = False
    for statement in statements:
        word = statement.upper()
        if word in ("BEGIN", "COMMIT"):
            outside = word == "COMMIT"
        else:
            parts[outside].append(statement)
    return parts


def _short(statement: str) -> str:
    flat = " ".join(statement.split())
    return flat if len(flat) <= 160 else f"{flat[:157]}..."


def _alter(statement: str) -> re.Match[str] | None:
    return re.match(rf"ALTER TABLE (?:IF EXISTS )?(?:ONLY )?{_NAME}\s+(?P<change>.*)", statement, _I)


def _tenant_table(statement: str, scene: Scene) -> Iterator[Hazard]:
    made = re.match(rf"CREATE TABLE (?:IF NOT EXISTS )?{_NAME}\s*\((?P<body>.*)\)", statement, _I)
    if not made or made["schema"] != "tally":
        return
    table = made["table"]
    if not re.search(r'"?tenant_id"?\s+uuid\s+NOT NULL', made["body"], _I):
        yield Hazard(
            "tenant-column",
            f"{table} has no required tenant_id",
            f'op.invoke(CreateTables({table.upper()}))  # with Column("tenant_id", "uuid") in its columns',
        )
    key = re.search(r"PRIMARY KEY\s*\(\s*\"?(\w+)", made["body"], _I)
    if not key or key[1] != "tenant_id":
        yield Hazard(
            "tenant-key",
            f"the primary key of {table} does not start with tenant_id",
            f'Table("{table}", ..., primary_key=("tenant_id", "id"))',
        )
    walled = scene.about(table, r"ENABLE ROW LEVEL SECURITY") and scene.about(table, r"AS RESTRICTIVE FOR ALL")
    if not walled or not scene.about(table, r"AS PERMISSIVE FOR ALL"):
        yield Hazard(
            "row-level-security",
            f"{table} is made without the tenant wall",
            f"ALTER TABLE tally.{table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;  and both policies: "
            f'Table("{table}", ..., policies=policies())',
        )
    if not scene.about(table, r"BEFORE TRUNCATE"):
        yield Hazard(
            "no-truncate-guard",
            f"{table} is made without the guard against TRUNCATE",
            f'Table("{table}", ..., triggers=(Trigger("tally_no_truncate", "BEFORE TRUNCATE", '
            '"tally.refuse_truncate()", each="STATEMENT"),))',
        )


def _wall_down(statement: str, scene: Scene) -> Iterator[Hazard]:
    alter = _alter(statement)
    if alter and re.search(r"(DISABLE|NO FORCE) ROW LEVEL SECURITY", alter["change"], _I):
        yield Hazard(
            "disable-row-level-security",
            f"the tenant wall of {alter['table']} is taken down",
            f'Backfill("{alter["table"]}", change, rows), which changes rows tenant by tenant with the wall up',
        )
    if alter and re.search(r"DISABLE TRIGGER|ENABLE (REPLICA )?TRIGGER", alter["change"], _I):
        yield Hazard(
            "disable-trigger",
            f"a guard of {alter['table']} is switched off",
            f"ALTER TABLE tally.{alter['table']} ENABLE ALWAYS TRIGGER ...;",
        )
    if re.search(r"session_replication_role|SET (SESSION |LOCAL )?row_security|BYPASSRLS", statement, _I):
        yield Hazard("bypass", "guards or policies are switched off for the session", "ForEachTenant(name, work)")
    policy = re.match(rf"CREATE POLICY \S+ ON {_NAME}(?P<rest>.*)", statement, _I)
    if (
        policy
        and policy["schema"] == "tally"
        and ("tally.tenant" not in statement or not re.search(r"TO PUBLIC\b", statement, _I))
    ):
        yield Hazard(
            "policy",
            f"a policy of {policy['table']} is not the tenant's, or not for everybody",
            f'AddPolicy("{policy["table"]}", Policy("tenant_rw", WALL))',
        )


def _foreign_key(statement: str, scene: Scene) -> Iterator[Hazard]:
    alter = _alter(statement)
    table = alter["table"] if alter else "the table"
    for key in re.finditer(
        rf"FOREIGN KEY\s*\((?P<own>[^)]*)\)\s*REFERENCES {_NAME}\s*\((?P<theirs>[^)]*)\)(?P<rest>[^,]*)", statement, _I
    ):
        first = [re.split(r"\s*,\s*", side.strip())[0].strip('"') for side in (key["own"], key["theirs"])]
        own = key["own"].replace('"', "")
        if key["schema"] == "tally" and first != ["tenant_id", "tenant_id"]:
            yield Hazard(
                "foreign-key-pair",
                f"a foreign key of {table} could point at another tenant's row",
                f"FOREIGN KEY (tenant_id, {own}) REFERENCES tally.{key['table']} (tenant_id, id)",
            )
        if re.search(r"ON (DELETE|UPDATE) (CASCADE|SET)", key["rest"], _I):
            yield Hazard(
                "cascade",
                f"a foreign key of {table} cascades",
                f"FOREIGN KEY ({own}) REFERENCES tally.{key['table']} (tenant_id, id)  -- and delete explicitly",
            )


def _index(statement: str, scene: Scene) -> Iterator[Hazard]:
    index = re.match(
        r"CREATE (?P<unique>UNIQUE )?INDEX (?P<way>CONCURRENTLY )?(?:IF NOT EXISTS )?(?P<index>\S+) "
        rf"ON (?:ONLY )?{_NAME}"
        r"\s*(?:USING \w+\s*)?\((?P<columns>.*?)\)",
        statement,
        _I,
    )
    if not index:
        return
    name, table = index["index"].strip('"'), index["table"]
    columns = tuple(c.strip().strip('"') for c in index["columns"].split(","))
    if not index["way"] and table not in scene.made:
        yield Hazard(
            "require-concurrent-index-creation",
            f"building {name} blocks every write to {table}",
            f'op.invoke(AddIndex("{table}", Index("{name}", {columns!r}'
            f"{', unique=True' if index['unique'] else ''})))  # in a revision of its own",
        )
    if index["unique"] and index["schema"] == "tally" and columns[0] != "tenant_id":
        yield Hazard(
            "tenant-unique",
            f"{name} is unique across tenants, so one learns what another has",
            f'op.invoke(AddIndex("{table}", Index("{name}", {("tenant_id", *columns)!r}, unique=True)))',
        )


def _column(statement: str, scene: Scene) -> Iterator[Hazard]:
    alter = _alter(statement)
    if not alter or alter["table"] in scene.made:
        return
    table, change = alter["table"], alter["change"]
    add = re.match(r'ADD (?:COLUMN )?(?:IF NOT EXISTS )?"?(?!CONSTRAINT\b)(?P<name>\w+)"? (?P<rest>.*)', change, _I)
    if add:
        rest = add["rest"]
        if re.search(r"GENERATED ALWAYS AS\s*\(.*STORED", rest, _I):
            yield Hazard(
                "adding-generated-column",
                f"computing {add['name']} rewrites {table} under an exclusive lock",
                f'op.invoke(AddColumn("{table}", Column("{add["name"]}", ..., nullable=True)))  # and a trigger '
                f'"tally.fill(...)", then Backfill("{table}", ...)',
            )
        elif re.search(r"NOT NULL", rest, _I) and not re.search(r"DEFAULT", rest, _I):
            yield Hazard(
                "adding-required-field",
                f"rows of {table} have no value for {add['name']}",
                f'op.invoke(AddColumn("{table}", Column("{add["name"]}", ...), fill="a constant"))',
            )
    retype = re.search(r'ALTER (?:COLUMN )?"?(\w+)"? (?:SET DATA )?TYPE (.*)', change, _I)
    if retype:
        yield Hazard(
            "changing-column-type",
            f"changing the type of {retype[1]} rewrites {table} under an exclusive lock",
            f'op.invoke(AddColumn("{table}", Column("{retype[1]}_new", "{retype[2].strip()}", nullable=True)))  '
            f'# then Backfill("{table}", "{retype[1]}_new = {retype[1]}", "{retype[1]}_new IS NULL")',
        )
    required = re.search(r'ALTER (?:COLUMN )?"?(\w+)"? SET NOT NULL', change, _I)
    if required and not scene.about(table, rf'CHECK\s*\("?{required[1]}"? IS NOT NULL\)'):
        yield Hazard(
            "adding-not-nullable-field",
            f"requiring {required[1]} scans {table} under an exclusive lock",
            f'op.invoke(RequireValue("{table}", "{required[1]}"))  # in a revision of its own',
        )
    constraint = re.match(r'ADD CONSTRAINT "?(\w+)"? (CHECK|FOREIGN KEY)\b', change, _I)
    if constraint and not re.search(r"NOT VALID\s*$", change, _I):
        kind = "AddCheck" if constraint[2].upper() == "CHECK" else "AddForeignKey"
        yield Hazard(
            "constraint-missing-not-valid",
            f"checking {constraint[1]} against every row blocks {table}",
            f'op.invoke({kind}("{table}", ...))  # adds NOT VALID; then, in a revision of its own:\n'
            f'op.invoke(Validate("{table}", "{constraint[1]}"))',
        )


def _grant(statement: str, scene: Scene) -> Iterator[Hazard]:
    grant = re.match(
        r"GRANT (?P<what>.*?) (?P<on>ON (?P<kind>SEQUENCE|ALL|SCHEMA|FUNCTION|DATABASE)?.*?)?TO (?P<who>.*)",
        statement,
        _I,
    )
    if not grant:
        return
    on = (grant["on"] or "").strip()
    if not on:
        yield Hazard(
            "grant-membership",
            "a role is made a member of another, past what the wall expects",
            "nothing: the application role is a member of no role",
        )
    elif re.search(r"\b(TRUNCATE|REFERENCES|TRIGGER|MAINTAIN|ALL)\b", grant["what"], _I):
        yield Hazard(
            "grant",
            f"{grant['what'].strip()} {on} lets a role past the wall or the guards",
            f"GRANT SELECT, INSERT (columns), UPDATE (columns), DELETE {on}, as AddGrant writes it",
        )
    elif re.match(r"PUBLIC\b", grant["who"], _I) and (grant["kind"] or "").upper() != "SCHEMA":
        yield Hazard(
            "grant-public", "a right is given to everybody who can connect", f"{_short(statement)[:60]} ... TO app"
        )
    if (grant["kind"] or "").upper() == "SEQUENCE":
        yield Hazard(
            "grant-sequence",
            "sequences count across tenants, and tell how much the others do",
            "ids made by the client (UUIDv7)",
        )


def _rows(statement: str, scene: Scene) -> Iterator[Hazard]:
    change = re.match(rf"(?P<verb>UPDATE|DELETE FROM|TRUNCATE(?: TABLE)?|INSERT INTO) (?:ONLY )?{_NAME}", statement, _I)
    if change and change["schema"] == "tally":
        table = change["table"]
        yield Hazard(
            "rows-without-tenant",
            f"rows of {table} are changed without a tenant",
            f'op.invoke(Backfill("{table}", "column = value", "column IS NULL"))  # or ForEachTenant(name, work)',
        )


def _objects(statement: str, scene: Scene) -> Iterator[Hazard]:
    if (
        re.match(r"CREATE (OR REPLACE )?(FUNCTION|PROCEDURE)", statement, _I)
        and re.search(r"SECURITY DEFINER", statement, _I)
        and not re.search(r"SET search_path", statement, _I)
    ):
        yield Hazard(
            "search-path",
            "a SECURITY DEFINER function runs with the caller's search_path",
            "SECURITY DEFINER SET search_path = pg_catalog, pg_temp",
        )
    view = re.match(rf"CREATE (?:OR REPLACE )?(?P<kind>MATERIALIZED )?VIEW {_NAME}", statement, _I)
    if view and view["kind"]:
        yield Hazard(
            "materialized-view",
            f"{view['table']} would hold every tenant's rows outside the wall",
            "a table of its own with a tenant_id, filled tenant by tenant",
        )
    elif view and not re.search(r"security_invoker\s*=\s*(true|on)", statement, _I):
        yield Hazard(
            "security-invoker",
            f"{view['table']} would read with its owner's rights",
            f"CREATE VIEW tally.{view['table']} WITH (security_invoker = true) AS ...",
        )


_RULES: tuple[Rule, ...] = (_tenant_table, _wall_down, _foreign_key, _index, _column, _grant, _rows, _objects)
