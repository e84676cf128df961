"""The rules of the schema lint, each a query that answers the objects it condemns.

``:owner``, ``:audit``, ``:app`` and ``:seal`` stand for the roles, ``:wall`` for the policy expression of the
database's mode, ``:verifier`` for what checks a signed tenant. ``tally_ref`` holds no tenants' rows and is judged for
rights and functions only; ``tally_audit`` has policies of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from tallystick.schema.harden import READERS

OURS = "('tally', 'tally_ref', 'tally_sec', 'tally_audit', 'tally_bi')"
_TABLES = "pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
_TENANT = f"{_TABLES} WHERE n.nspname = 'tally' AND c.relkind IN ('r', 'p')"
_NAME = "format('%I.%I', n.nspname, c.relname) AS object"
WALLS = {
    False: "(tenant_id = ANY (ARRAY[(current_setting('tally.tenant'::text))::uuid]))",
    True: "(tenant_id = ANY (ARRAY[( SELECT tally_sec.current_tenant() AS current_tenant)]))",
}
"""The policy expression of a plain and of a hardened database, as every supported PostgreSQL prints it."""
STAMPS = "('tenant_id', 'id', 'version', 'created_at', 'created_by', 'updated_at', 'updated_by')"


@dataclass(frozen=True, slots=True)
class Rule:
    """A code, what is wrong, what mends it, and the query that finds it (``object``, and ``more`` for the texts)."""

    code: str
    problem: str
    remedy: str
    sql: str
    plain_only: bool = False


RULES = (
    Rule(
        "tenant-column",
        "has no required tenant_id column",
        "Move its rows to a table with tenant_id uuid NOT NULL, or the table to another schema.",
        f"SELECT {_NAME} FROM {_TENANT} AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid "
        "AND a.attname = 'tenant_id' AND a.attnotnull AND a.atttypid = 'uuid'::regtype)",
    ),
    Rule(
        "row-level-security",
        "row-level security is not enabled",
        "ALTER TABLE {object} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;",
        f"SELECT {_NAME} FROM {_TENANT} AND NOT c.relrowsecurity",
    ),
    Rule(
        "row-level-security-forced",
        "row-level security does not bind the owner",
        "ALTER TABLE {object} FORCE ROW LEVEL SECURITY;",
        f"SELECT {_NAME} FROM {_TENANT} AND NOT c.relforcerowsecurity",
        plain_only=True,
    ),
    Rule(
        "no-wall",
        "has no restrictive policy, so any later permissive one opens it",
        "CREATE POLICY tenant_wall ON {object} AS RESTRICTIVE FOR ALL TO PUBLIC USING {wall};",
        f"SELECT {_NAME} FROM {_TENANT} AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid "
        "AND NOT p.polpermissive AND p.polcmd = '*')",
    ),
    Rule(
        "no-policy",
        "has no permissive policy, so nobody can use it",
        "CREATE POLICY tenant_rw ON {object} AS PERMISSIVE FOR ALL TO PUBLIC USING {wall};",
        f"SELECT {_NAME} FROM {_TENANT} AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid "
        "AND p.polpermissive AND p.polcmd = '*')",
    ),
    Rule(
        "policy-text",
        "policy {more} is not the tenant's",
        "ALTER POLICY {more} ON {object} USING {wall} WITH CHECK {wall}; or DROP POLICY {more} ON {object};",
        f"SELECT {_NAME}, quote_ident(p.polname) AS more FROM {_TABLES} JOIN pg_policy p ON p.polrelid = c.oid "
        "WHERE n.nspname = 'tally' AND (p.polcmd <> '*' OR pg_get_expr(p.polqual, c.oid) IS DISTINCT FROM :wall "
        "OR coalesce(pg_get_expr(p.polwithcheck, c.oid), pg_get_expr(p.polqual, c.oid)) IS DISTINCT FROM :wall)",
    ),
    Rule(
        "policy-roles",
        "policy {more} is not for everybody, the owner included",
        "ALTER POLICY {more} ON {object} TO PUBLIC;",
        f"SELECT {_NAME}, quote_ident(p.polname) AS more FROM {_TABLES} JOIN pg_policy p ON p.polrelid = c.oid "
        "WHERE n.nspname = 'tally' AND p.polroles <> '{0}'::oid[]",
    ),
    Rule(
        "tenant-function",
        "does not judge the setting as the database's mode asks",
        "Run `tallystick harden` again, or `tallystick harden --undo`.",
        "SELECT p.oid::regprocedure::text AS object FROM pg_proc p "
        "WHERE p.oid = to_regprocedure('tally_sec.current_tenant()') "
        "AND (CASE WHEN to_regclass('tally_sec.tenant_key') IS NULL THEN p.prosecdef OR pg_get_function_sqlbody(p.oid) "
        "IS DISTINCT FROM 'RETURN (current_setting(''tally.tenant''::text))::uuid' "
        "ELSE NOT p.prosecdef OR p.prosrc <> :verifier END)",
    ),
    Rule(
        "tenant-setting",
        "reads the setting of the tenant itself, which is signed here",
        "Call tally_sec.current_tenant() in it instead.",
        f"SELECT object FROM ({READERS}) r WHERE to_regclass('tally_sec.tenant_key') IS NOT NULL",
    ),
    Rule(
        "tenant-key",
        "{more} may use what signs tenants",
        "REVOKE ALL ON tally_sec.tenant_key FROM PUBLIC, {app}, {seal}, {audit}; REVOKE ALL ON FUNCTION "
        "tally_sec.token(uuid), tally_sec.fit_policies(text) FROM PUBLIC, {app}, {seal}, {audit};",
        "SELECT 'tally_sec.tenant_key' AS object, r AS more FROM unnest(ARRAY[:app, :seal, :audit]) r, "
        "to_regclass('tally_sec.tenant_key') t WHERE t IS NOT NULL "
        "AND (has_any_column_privilege(r, t, 'SELECT, INSERT, UPDATE') OR has_table_privilege(r, t, 'DELETE')) "
        "UNION ALL SELECT f::text, r FROM unnest(ARRAY[:app, :seal, :audit]) r, "
        "unnest(ARRAY[to_regprocedure('tally_sec.token(uuid)'), to_regprocedure('tally_sec.fit_policies(text)')]) f "
        "WHERE f IS NOT NULL AND has_function_privilege(r, f, 'EXECUTE')",
    ),
    Rule(
        "tenant-unique",
        "unique index {more} does not start with tenant_id, so one tenant learns what another has",
        "DROP INDEX {more}; and make it again with tenant_id first.",
        f"SELECT {_NAME}, i.indexrelid::regclass::text AS more FROM {_TABLES} JOIN pg_index i ON i.indrelid = c.oid "
        "LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0] "
        "WHERE n.nspname = 'tally' AND i.indisunique AND a.attname IS DISTINCT FROM 'tenant_id'",
    ),
    Rule(
        "foreign-key-pair",
        "foreign key {more} does not pair the tenants, so it can point at another's row",
        "ALTER TABLE {object} DROP CONSTRAINT {more}; and make it (tenant_id, x_id) REFERENCES (tenant_id, id).",
        f"SELECT {_NAME}, quote_ident(k.conname) AS more FROM {_TABLES} JOIN pg_constraint k ON k.conrelid = c.oid "
        "JOIN pg_class f ON f.oid = k.confrelid JOIN pg_namespace fn ON fn.oid = f.relnamespace "
        "WHERE n.nspname = 'tally' AND k.contype = 'f' AND fn.nspname = 'tally' AND NOT EXISTS ("
        "SELECT FROM unnest(k.conkey, k.confkey) u (l, r) "
        "JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.l "
        "JOIN pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = u.r "
        "WHERE a.attname = 'tenant_id' AND b.attname = 'tenant_id')",
    ),
    Rule(
        "cascade",
        "foreign key {more} cascades",
        "ALTER TABLE {object} DROP CONSTRAINT {more}; and make it again without ON DELETE or ON UPDATE.",
        f"SELECT {_NAME}, quote_ident(k.conname) AS more FROM {_TABLES} JOIN pg_constraint k ON k.conrelid = c.oid "
        f"WHERE n.nspname IN {OURS} AND k.contype = 'f' "
        "AND (k.confdeltype IN ('c', 'n', 'd') OR k.confupdtype IN ('c', 'n', 'd'))",
    ),
    Rule(
        "view",
        "the view reads with its owner's rights",
        "ALTER VIEW {object} SET (security_invoker = true);",
        f"SELECT {_NAME} FROM {_TABLES} WHERE c.relkind = 'v' AND n.nspname IN {OURS} AND NOT "
        "coalesce(c.reloptions, '{}') && ARRAY['security_invoker=true', 'security_invoker=on', 'security_invoker=1']",
    ),
    Rule(
        "materialized-view",
        "the materialized view holds rows outside the wall",
        "DROP MATERIALIZED VIEW {object}; or, outside our schemas, REVOKE ALL ON {object} FROM PUBLIC, {app};",
        f"SELECT {_NAME} FROM {_TABLES} WHERE c.relkind = 'm' "
        f"AND (n.nspname IN {OURS} OR has_table_privilege(:app, c.oid, 'SELECT'))",
    ),
    Rule(
        "partition",
        "a partition can be reached past its parent's policies",
        "REVOKE ALL ON {object} FROM PUBLIC, {app};",
        f"SELECT {_NAME} FROM {_TABLES} WHERE c.relispartition AND n.nspname IN {OURS} "
        "AND has_table_privilege(:app, c.oid, 'SELECT, INSERT, UPDATE, DELETE')",
    ),
    Rule(
        "definer",
        "a SECURITY DEFINER function has no pinned search_path, or belongs to a role no wall binds",
        "ALTER FUNCTION {object} SET search_path = pg_catalog, pg_temp; ALTER FUNCTION {object} OWNER TO {owner};",
        "SELECT p.oid::regprocedure::text AS object FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner "
        "JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.prosecdef AND n.nspname <> 'information_schema' "
        f"AND n.nspname !~ '^pg_' AND (n.nspname IN {OURS} OR (has_function_privilege(:app, p.oid, 'EXECUTE') "
        "AND has_schema_privilege(:app, n.oid, 'USAGE'))) AND (r.rolsuper OR r.rolbypassrls "
        "OR NOT EXISTS (SELECT FROM unnest(p.proconfig) x WHERE x LIKE 'search_path=%'))",
    ),
    Rule(
        "search-path",
        "a function of ours has no pinned search_path",
        "ALTER FUNCTION {object} SET search_path = pg_catalog, pg_temp;",
        "SELECT p.oid::regprocedure::text AS object FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace "
        f"WHERE n.nspname IN {OURS} AND NOT p.prosecdef AND p.prosqlbody IS NULL "
        "AND NOT EXISTS (SELECT FROM unnest(p.proconfig) x WHERE x LIKE 'search_path=%')",
    ),
    Rule(
        "role-power",
        "the role has rights that go past the wall",
        "ALTER ROLE {object} NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOCREATEDB NOREPLICATION;",
        "SELECT quote_ident(rolname) AS object FROM pg_roles WHERE rolname IN (:owner, :audit, :app, :seal) "
        "AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication)",
    ),
    Rule(
        "role-member",
        "the role is a member of {more} and could act as it",
        "REVOKE {more} FROM {object};",
        "SELECT m.member::regrole::text AS object, m.roleid::regrole::text AS more FROM pg_auth_members m "
        "WHERE m.member IN (SELECT oid FROM pg_roles WHERE rolname IN (:app, :seal))",
    ),
    Rule(
        "bi-role",
        "reads masked views and has rights that go past them ({more})",
        "Revoke them, or `tallystick bi revoke {object}`.",
        "SELECT quote_ident(r.rolname) AS object, CASE WHEN r.rolsuper THEN 'SUPERUSER' WHEN r.rolbypassrls "
        "THEN 'BYPASSRLS' ELSE 'a member of a role of ours' END AS more FROM pg_namespace n, aclexplode(n.nspacl) x "
        "JOIN pg_roles r ON r.oid = x.grantee WHERE n.nspname = 'tally_bi' AND r.rolname <> :owner "
        "AND (r.rolsuper OR r.rolbypassrls OR EXISTS (SELECT FROM pg_roles o WHERE o.rolname IN (:owner, :audit, :app, "
        ":seal) AND pg_has_role(r.oid, o.oid, 'MEMBER')))",
    ),
    Rule(
        "role-parameter",
        "the role may set {more}, which switches guards off",
        "REVOKE SET ON PARAMETER {more} FROM {object};",
        "SELECT quote_ident(r) AS object, p AS more FROM unnest(ARRAY[:app, :seal]) r, "
        "unnest(ARRAY['session_replication_role']) p WHERE has_parameter_privilege(r, p, 'SET')",
    ),
    Rule(
        "table-rights",
        "{app} holds {more} on it",
        "REVOKE {more} ON {object} FROM PUBLIC, {app}, {seal};",
        f"SELECT {_NAME}, r AS more FROM {_TABLES}, unnest(ARRAY['TRUNCATE', 'REFERENCES', 'TRIGGER']) r "
        f"WHERE c.relkind IN ('r', 'p', 'v', 'm') AND n.nspname IN {OURS} "
        "AND (has_table_privilege(:app, c.oid, r) OR has_table_privilege(:seal, c.oid, r) "
        "OR (r = 'REFERENCES' AND has_any_column_privilege(:app, c.oid, r)))",
    ),
    Rule(
        "stamp-rights",
        "{app} may write {more}, which the database keeps",
        "REVOKE INSERT, UPDATE ON {object} FROM PUBLIC, {app}; and grant the declared columns again.",
        f"SELECT {_NAME}, string_agg(a.attname, ', ' ORDER BY a.attnum) AS more FROM {_TABLES} "
        "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
        f"WHERE n.nspname = 'tally' AND c.relkind IN ('r', 'p') AND a.attname IN {STAMPS} AND ("
        "has_column_privilege(:app, c.oid, a.attnum, 'UPDATE') OR (a.attname NOT IN ('tenant_id', 'id') "
        "AND has_column_privilege(:app, c.oid, a.attnum, 'INSERT'))) GROUP BY n.nspname, c.relname",
    ),
    Rule(
        "append-only-rights",
        "rows are written once and {app} may change or remove them",
        "REVOKE UPDATE, DELETE ON {object} FROM PUBLIC, {app};",
        f"SELECT {_NAME} FROM {_TENANT} AND EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid "
        "AND t.tgname = 'tally_append_only') AND (has_table_privilege(:app, c.oid, 'DELETE') "
        "OR has_any_column_privilege(:app, c.oid, 'UPDATE'))",
    ),
    Rule(
        "function-only",
        "{app} holds {more} on it, which only functions should use",
        "REVOKE {more} ON {object} FROM PUBLIC, {app};",
        "SELECT t AS object, r AS more FROM (VALUES ('tally.usage', 'INSERT'), ('tally.usage', 'UPDATE'), "
        "('tally.usage', 'DELETE'), ('tally_ref.tenant', 'SELECT'), ('tally_ref.tenant', 'INSERT'), "
        "('tally_ref.tenant', 'UPDATE'), ('tally_ref.tenant', 'DELETE'), ('tally_ref.asset', 'INSERT'), "
        "('tally_ref.asset', 'UPDATE'), ('tally_ref.asset', 'DELETE'), ('tally_ref.schema_version', 'INSERT'), "
        "('tally_ref.schema_version', 'UPDATE'), ('tally_ref.schema_version', 'DELETE')) v (t, r) "
        "WHERE to_regclass(t) IS NOT NULL AND CASE WHEN r = 'DELETE' THEN has_table_privilege(:app, t, r) "
        "ELSE has_any_column_privilege(:app, t, r) END",
    ),
    Rule(
        "create",
        "{app} may create objects in the schema",
        "REVOKE CREATE ON SCHEMA {object} FROM PUBLIC, {app};",
        "SELECT quote_ident(nspname) AS object FROM pg_namespace "
        "WHERE nspname !~ '^pg_' AND has_schema_privilege(:app, oid, 'CREATE')",
    ),
    Rule(
        "create-schema",
        "{app} may create schemas in the database",
        "REVOKE CREATE ON DATABASE {object} FROM PUBLIC, {app};",
        "SELECT quote_ident(current_database()) AS object "
        "WHERE has_database_privilege(:app, current_database(), 'CREATE')",
    ),
    Rule(
        "public-table",
        "everybody holds {more} on it",
        "REVOKE {more} ON {object} FROM PUBLIC;",
        f"SELECT {_NAME}, string_agg(DISTINCT x.privilege_type, ', ') AS more FROM {_TABLES}, LATERAL ("
        "SELECT * FROM aclexplode(c.relacl) UNION ALL SELECT e.* FROM pg_attribute a, aclexplode(a.attacl) e "
        "WHERE a.attrelid = c.oid) x "
        f"WHERE n.nspname IN {OURS} AND c.relkind <> 'S' AND x.grantee = 0 GROUP BY n.nspname, c.relname",
    ),
    Rule(
        "public-function",
        "everybody may call it",
        "REVOKE EXECUTE ON FUNCTION {object} FROM PUBLIC;",
        "SELECT p.oid::regprocedure::text AS object FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace "
        f"WHERE n.nspname IN {OURS} AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, "
        "acldefault('f', p.proowner))) x WHERE x.grantee = 0)",
    ),
    Rule(
        "public-schema",
        "everybody may use or fill the schema",
        "REVOKE ALL ON SCHEMA {object} FROM PUBLIC;",
        f"SELECT quote_ident(nspname) AS object FROM pg_namespace WHERE nspname IN {OURS} "
        "AND EXISTS (SELECT FROM aclexplode(nspacl) x WHERE x.grantee = 0)",
    ),
    Rule(
        "sequence",
        "{app} may read a counter that all tenants share",
        "REVOKE ALL ON SEQUENCE {object} FROM PUBLIC, {app};",
        f"SELECT {_NAME} FROM {_TABLES} WHERE c.relkind = 'S' AND n.nspname IN {OURS} "
        "AND CASE c.relkind WHEN 'S' THEN has_sequence_privilege(:app, c.oid, 'USAGE, SELECT, UPDATE') END",
    ),
    Rule(
        "owner",
        "belongs to {more}",
        "ALTER TABLE {object} OWNER TO {owner};",
        f"SELECT {_NAME}, c.relowner::regrole::text AS more FROM {_TABLES} "
        f"WHERE n.nspname IN {OURS} AND c.relkind IN ('r', 'p', 'v', 'm') AND pg_get_userbyid(c.relowner) "
        "<> CASE n.nspname WHEN 'tally_audit' THEN :audit ELSE :owner END",
    ),
    Rule(
        "function-owner",
        "belongs to {more}",
        "ALTER FUNCTION {object} OWNER TO {owner};",
        "SELECT p.oid::regprocedure::text AS object, p.proowner::regrole::text AS more FROM pg_proc p "
        f"JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname IN {OURS} "
        "AND pg_get_userbyid(p.proowner) NOT IN (:owner, :audit)",
    ),
    Rule(
        "guard-missing",
        "has no guard {more}",
        "Run `tallystick schema lint` with its entity for the statement, or write CREATE TRIGGER {more} as its "
        "revision has it.",
        f"SELECT {_NAME}, g.name AS more FROM {_TABLES}, LATERAL (VALUES ('tally_no_truncate', true), "
        "('tally_touch', EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'updated_by' "
        "AND NOT a.attisdropped) AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid "
        "AND t.tgname = 'tally_append_only'))) g (name, needed) "
        "WHERE n.nspname = 'tally' AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND g.needed "
        "AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = g.name "
        "AND t.tgfoid = to_regproc(CASE g.name WHEN 'tally_touch' THEN 'tally.touch' "
        "ELSE 'tally.refuse_truncate' END))",
    ),
    Rule(
        "guard-off",
        "guard {more} does not fire always",
        "ALTER TABLE {object} ENABLE ALWAYS TRIGGER {more};",
        f"SELECT {_NAME}, quote_ident(t.tgname) AS more FROM {_TABLES} JOIN pg_trigger t ON t.tgrelid = c.oid "
        f"WHERE n.nspname IN {OURS} AND NOT t.tgisinternal AND t.tgname LIKE 'tally\\_%' AND t.tgenabled <> 'A'",
    ),
    Rule(
        "capture-order",
        "trigger {more} fires before the change is in the audit log, so what it does itself is logged first",
        "ALTER TRIGGER {more} ON {object} RENAME TO tally_after_it;",
        f"SELECT {_NAME}, quote_ident(t.tgname) AS more FROM {_TABLES} JOIN pg_trigger t ON t.tgrelid = c.oid "
        "WHERE n.nspname = 'tally' AND NOT t.tgisinternal AND t.tgtype & 1 = 1 AND t.tgtype & 66 = 0 "
        "AND t.tgfoid <> to_regproc('tally_audit.capture') AND t.tgname COLLATE \"C\" < (SELECT max(a.tgname) "
        "FROM pg_trigger a WHERE a.tgrelid = c.oid AND a.tgfoid = to_regproc('tally_audit.capture')) COLLATE \"C\"",
    ),
    Rule(
        "foreign-keys-off",
        "the checks of its foreign keys are switched off",
        "ALTER TABLE {object} ENABLE TRIGGER ALL; and then every guard ENABLE ALWAYS again.",
        f"SELECT DISTINCT {_NAME} FROM {_TABLES} JOIN pg_trigger t ON t.tgrelid = c.oid "
        f"WHERE n.nspname IN {OURS} AND t.tgisinternal AND t.tgenabled = 'D'",
    ),
    Rule(
        "rewrite-rule",
        "rule {more} rewrites statements on it",
        "DROP RULE {more} ON {object};",
        f"SELECT {_NAME}, quote_ident(w.rulename) AS more FROM {_TABLES} JOIN pg_rewrite w ON w.ev_class = c.oid "
        f"WHERE n.nspname IN {OURS} AND c.relkind IN ('r', 'p')",
    ),
    Rule(
        "invalid-index",
        "an interrupted build left the index unusable",
        "DROP INDEX CONCURRENTLY {object}; and run `tallystick migrate` again.",
        f"SELECT {_NAME} FROM {_TABLES} JOIN pg_index i ON i.indexrelid = c.oid "
        f"WHERE n.nspname IN {OURS} AND NOT (i.indisvalid AND i.indisready)",
    ),
    Rule(
        "unvalidated",
        "constraint {more} was never checked against the rows that exist",
        "ALTER TABLE {object} VALIDATE CONSTRAINT {more};",
        f"SELECT {_NAME}, quote_ident(k.conname) AS more FROM {_TABLES} JOIN pg_constraint k ON k.conrelid = c.oid "
        f"WHERE n.nspname IN {OURS} AND NOT k.convalidated",
    ),
)
