"""The questions that ``adopt`` asks a live database; every one of them reads the catalogs and nothing else."""

from __future__ import annotations

SERVER = """
SELECT current_setting('server_version') AS server, current_setting('server_version_num')::int AS version,
  current_database()::text AS database, current_user::text AS "user", me.rolsuper AS super,
  me.rolcreaterole AS create_role, has_database_privilege(current_database(), 'CREATE') AS create_schema,
  pg_backend_pid() AS process, pg_is_in_recovery() AS standby,
  current_setting('default_transaction_read_only')::bool OR coalesce((
    SELECT c ~* '=(on|t|true|y|yes|1)$' FROM pg_db_role_setting s, unnest(s.setconfig) c
    WHERE c LIKE 'default_transaction_read_only=%' AND s.setdatabase IN (0, d.oid)
      AND s.setrole IN (0, coalesce(to_regrole($1)::oid, 0))
    ORDER BY s.setrole = 0, s.setdatabase = 0 LIMIT 1), false) AS read_only,
  pg_encoding_to_char(d.encoding) AS encoding, d.datcollate::text AS locale, current_setting('TimeZone') AS time_zone,
  current_setting('max_connections')::int AS max_connections,
  current_setting('password_encryption') AS password_encryption,
  coalesce((SELECT s.version FROM pg_stat_ssl s WHERE s.pid = pg_backend_pid() AND s.ssl), '') AS tls,
  inet_client_addr() IS NULL AS socket, coalesce(inet_server_addr() <<= ANY ('{127.0.0.0/8,::1/128}'), true) AS local,
  ARRAY(SELECT extname::text FROM pg_extension ORDER BY 1) AS extensions
FROM pg_database d, pg_roles me WHERE d.datname = current_database() AND me.rolname = current_user
"""

PATHS = """
SELECT coalesce(r.rolname::text, '') AS role, coalesce(d.datname::text, '') AS database, c AS setting
FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase,
  unnest(s.setconfig) c
WHERE c LIKE 'search_path=%' AND (s.setdatabase = 0 OR d.datname = current_database())
  AND coalesce(r.rolname, '') <> ALL ($1::text[]) AND NOT (coalesce(r.rolname, '') ~ '_(app|seal)$'
    AND 4 = (SELECT count(*) FROM pg_roles o, unnest('{owner,audit,app,seal}'::text[]) k
      WHERE o.rolname = regexp_replace(r.rolname, '(app|seal)$', k)))
"""
"""The search paths that roles and the database are given, those of any installation of ours apart."""

PUBLIC_CREATES = """
SELECT EXISTS (SELECT FROM pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
  WHERE n.nspname = 'public' AND a.grantee = 0 AND a.privilege_type = 'CREATE')
"""

WATCHERS = """
SELECT evtname::text AS name, evtevent::text AS event, evtfoid::regproc::text AS function
FROM pg_event_trigger WHERE evtenabled <> 'D' ORDER BY 1
"""

PUBLICATIONS = """
SELECT p.pubname::text AS name FROM pg_publication p
WHERE p.puballtables OR EXISTS (SELECT FROM pg_publication_namespace s JOIN pg_namespace n ON n.oid = s.pnnspid
  WHERE s.pnpubid = p.oid AND n.nspname = ANY ($1::text[])) ORDER BY 1
"""

SCHEMAS = """
SELECT n.nspname::text AS name, pg_get_userbyid(n.nspowner)::text AS owner,
  (SELECT count(*) FROM pg_class c WHERE c.relnamespace = n.oid
    AND c.relkind IN ('r', 'p', 'v', 'm', 'f'))::int AS things
FROM pg_namespace n WHERE n.nspname = ANY ($1::text[])
"""

OURS = """
SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'tally' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
UNION ALL
SELECT c.relname || '.' || a.attname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE n.nspname = 'tally' AND c.relname || '.' || a.attname = ANY ($1::text[])
"""
"""Our tables, and of some columns those that are there."""

HOST = """
SELECT n.nspname::text AS schema, c.relname::text AS name, pg_get_userbyid(c.relowner)::text AS owner,
  CASE WHEN c.relname = 'django_migrations' THEN 'Django'
    WHEN (SELECT array_agg(a.attname::text) FROM pg_attribute a
      WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) = '{version_num}' THEN 'Alembic' END AS tool,
  EXISTS (SELECT FROM pg_constraint k JOIN pg_class f ON f.oid = k.confrelid
    JOIN pg_namespace fn ON fn.oid = f.relnamespace
    WHERE k.contype = 'f' AND k.conrelid = c.oid AND fn.nspname = ANY ($1::text[])) AS refers
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f') AND NOT c.relispartition AND n.nspname <> ALL ($1::text[])
  AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
  AND NOT EXISTS (SELECT FROM pg_depend d
    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1, 2
"""
"""Tables that are neither ours, nor the server's, nor an extension's."""
