"""The questions of ``remove``: what is ours, what hangs on it, who still uses it."""

from __future__ import annotations

SCHEMAS = """
SELECT n.nspname::text AS name, pg_get_userbyid(n.nspowner)::text AS owner,
  (SELECT count(*) FROM pg_class c WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p')
    AND NOT c.relispartition)::int AS tables,
  (SELECT count(*) FROM pg_proc p WHERE p.pronamespace = n.oid)::int AS functions
FROM pg_namespace n WHERE n.nspname = ANY ($1::text[]) ORDER BY array_position($1::text[], n.nspname::text)
"""

HANGING = """
WITH spaces AS (SELECT oid FROM pg_namespace WHERE nspname = ANY ($1::text[])),
ours AS (
  SELECT 'pg_namespace'::regclass::oid AS classid, oid AS objid FROM spaces
  UNION ALL SELECT 'pg_class'::regclass, c.oid FROM pg_class c JOIN spaces s ON s.oid = c.relnamespace
  UNION ALL SELECT 'pg_proc'::regclass, p.oid FROM pg_proc p JOIN spaces s ON s.oid = p.pronamespace
  UNION ALL SELECT 'pg_type'::regclass, t.oid FROM pg_type t JOIN spaces s ON s.oid = t.typnamespace
  UNION ALL SELECT 'pg_constraint'::regclass, k.oid FROM pg_constraint k JOIN spaces s ON s.oid = k.connamespace),
hanging AS (
  SELECT DISTINCT d.classid, d.objid, d.objsubid FROM pg_depend d
    JOIN ours o ON o.classid = d.refclassid AND o.objid = d.refobjid
  WHERE d.deptype IN ('n', 'a')),
told AS (
  SELECT h.classid, h.objid, h.objsubid, coalesce(
    (SELECT c.relnamespace FROM pg_class c WHERE h.classid = 'pg_class'::regclass AND c.oid = h.objid),
    (SELECT k.connamespace FROM pg_constraint k WHERE h.classid = 'pg_constraint'::regclass AND k.oid = h.objid),
    (SELECT p.pronamespace FROM pg_proc p WHERE h.classid = 'pg_proc'::regclass AND p.oid = h.objid),
    (SELECT t.typnamespace FROM pg_type t WHERE h.classid = 'pg_type'::regclass AND t.oid = h.objid),
    (SELECT s.stxnamespace FROM pg_statistic_ext s
      WHERE h.classid = 'pg_statistic_ext'::regclass AND s.oid = h.objid),
    (SELECT c.relnamespace FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
      WHERE h.classid = 'pg_rewrite'::regclass AND r.oid = h.objid),
    (SELECT c.relnamespace FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
      WHERE h.classid = 'pg_trigger'::regclass AND t.oid = h.objid),
    (SELECT c.relnamespace FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
      WHERE h.classid = 'pg_policy'::regclass AND p.oid = h.objid),
    (SELECT c.relnamespace FROM pg_attrdef a JOIN pg_class c ON c.oid = a.adrelid
      WHERE h.classid = 'pg_attrdef'::regclass AND a.oid = h.objid), 0) AS space
  FROM hanging h)
SELECT DISTINCT k.conname::text AS constraint, k.conrelid::regclass::text AS table,
  k.confrelid::regclass::text AS target, CASE WHEN r.oid IS NOT NULL
    THEN pg_describe_object('pg_class'::regclass, r.ev_class, 0)
    ELSE pg_describe_object(t.classid, t.objid, t.objsubid) END AS what
FROM told t LEFT JOIN pg_rewrite r ON t.classid = 'pg_rewrite'::regclass AND r.oid = t.objid
  LEFT JOIN pg_constraint k ON t.classid = 'pg_constraint'::regclass AND k.oid = t.objid AND k.contype = 'f'
WHERE t.space NOT IN (SELECT oid FROM spaces) AND coalesce(k.conparentid, 0) = 0
  AND t.classid NOT IN ('pg_default_acl'::regclass, 'pg_amop'::regclass, 'pg_amproc'::regclass)
  AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = t.classid AND e.objid = t.objid AND e.deptype = 'e')
ORDER BY 2, 1, 4
"""
"""Objects outside our schemas that would go with them: foreign keys of the host's first, then views and the like."""

INSIDE = """
WITH spaces AS (SELECT oid FROM pg_namespace
  WHERE nspname = ANY ($1::text[]) AND pg_get_userbyid(nspowner) = ANY ($2::text[])),
found AS (
  SELECT 'pg_class'::regclass::oid AS classid, c.oid AS objid, c.relowner AS owner,
    CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
      WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'c' THEN 'TYPE' ELSE 'TABLE' END AS kind
    FROM pg_class c JOIN spaces s ON s.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c')
  UNION ALL SELECT 'pg_proc'::regclass, p.oid, p.proowner, 'ROUTINE'
    FROM pg_proc p JOIN spaces s ON s.oid = p.pronamespace
  UNION ALL SELECT 'pg_type'::regclass, t.oid, t.typowner, 'TYPE'
    FROM pg_type t JOIN spaces s ON s.oid = t.typnamespace WHERE t.typtype IN ('d', 'e', 'r'))
SELECT pg_describe_object(f.classid, f.objid, 0) || ' of ' || pg_get_userbyid(f.owner)::text AS what,
  format('ALTER %s %s SET SCHEMA public;', f.kind, i.identity) AS sql
FROM found f, LATERAL pg_identify_object(f.classid, f.objid, 0) i
WHERE pg_get_userbyid(f.owner) <> ALL ($2::text[]) AND NOT EXISTS (SELECT FROM pg_depend d
  WHERE d.classid = f.classid AND d.objid = f.objid AND d.objsubid = 0 AND d.deptype IN ('e', 'a', 'i'))
UNION ALL
SELECT pg_describe_object('pg_trigger'::regclass, t.oid, 0),
  format('DROP TRIGGER %I ON %s;', t.tgname, i.identity)
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN spaces s ON s.oid = c.relnamespace
  JOIN pg_proc p ON p.oid = t.tgfoid, LATERAL pg_identify_object('pg_class'::regclass, c.oid, 0) i
WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND p.pronamespace NOT IN (SELECT oid FROM spaces)
ORDER BY 1
"""
"""What somebody else made in our schemas, or put on our tables: it would go with them as well."""

JOINED = """
SELECT pg_get_userbyid(m.member)::text AS role, pg_get_userbyid(m.grantor)::text AS grantor
FROM pg_auth_members m WHERE pg_get_userbyid(m.roleid) = $1 AND pg_get_userbyid(m.member) <> ALL ($2::text[])
  AND NOT m.admin_option ORDER BY 1, 2
"""
"""The host's roles that may act as ours."""

DATA = """
SELECT n.nspname::text AS schema, coalesce(t.relname, c.relname)::text AS table,
  sum(pg_relation_size(c.oid))::bigint AS bytes,
  sum(greatest(c.reltuples, pg_stat_get_live_tuples(c.oid), 0))::bigint AS rows
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN pg_class t ON t.oid = i.inhparent
WHERE c.relkind = 'r' AND n.nspname IN ('tally', 'tally_audit') AND pg_relation_size(c.oid) > 0
GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2
"""
"""Tables that hold anything: their sizes are facts, their numbers of rows what the server's statistics say."""

TENANTS = "SELECT count(*)::int FROM tally_ref.tenant"
REGISTERED = """
SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = 'tally_ref' AND c.relname = 'tenant')
"""

ROLES = """
SELECT r.rolname::text AS role,
  ARRAY(SELECT DISTINCT coalesce(d.datname::text, 'another database') FROM pg_shdepend s LEFT JOIN pg_database d
      ON d.oid = CASE WHEN s.dbid <> 0 THEN s.dbid ELSE s.objid END
    WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = r.oid
      AND (s.dbid <> 0 OR s.classid = 'pg_database'::regclass) AND d.datname IS DISTINCT FROM current_database()
    ) AS databases,
  ARRAY(SELECT pg_describe_object(s.classid, s.objid, s.objsubid)
    FROM pg_shdepend s, LATERAL pg_identify_object(s.classid, s.objid, s.objsubid) i
    WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = r.oid
      AND s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND NOT coalesce(i.schema = ANY ($2::text[]), false)
      AND NOT (s.classid = 'pg_namespace'::regclass AND i.name = ANY ($2::text[]))
      AND NOT (s.classid = 'pg_policy'::regclass AND EXISTS (SELECT FROM pg_policy p
        JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE p.oid = s.objid AND n.nspname = ANY ($2::text[])))) AS here,
  ARRAY(SELECT pg_get_userbyid(m.roleid)::text FROM pg_auth_members m WHERE m.member = r.oid) AS groups,
  r.rolsuper OR r.rolbypassrls OR r.rolreplication OR r.rolcreaterole OR r.rolcreatedb AS mighty
FROM pg_roles r WHERE r.rolname = ANY ($1::text[]) ORDER BY array_position($1::text[], r.rolname::text)
"""
"""Our roles, and what lives by them besides our schemas: other databases, objects of the host's.

That others are members of one is no reason to stay: without our schemas there is nothing left that it gives. What is a
member itself, or mighty, was never fit to be ours (``provision`` refuses it)."""

USERS = """
SELECT r.rolname::text AS role, count(*)::int AS sessions FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid
WHERE a.datname = current_database() AND r.rolname = ANY ($1::text[]) AND a.pid <> pg_backend_pid() GROUP BY 1
"""

CONNECTS = """
SELECT r.rolname::text FROM pg_database d, aclexplode(d.datacl) a JOIN pg_roles r ON r.oid = a.grantee
WHERE d.datname = current_database() AND r.rolname = ANY ($1::text[])
"""

REST = """
WITH host AS (SELECT oid FROM pg_namespace WHERE nspname <> ALL ($1::text[])
  AND nspname <> 'information_schema' AND nspname NOT LIKE 'pg\\_%')
SELECT md5(coalesce(string_agg(line, E'\\n' ORDER BY line COLLATE "C"), '')) FROM (
  SELECT concat_ws(' ', 'class', c.oid, c.relname, c.relkind, c.relowner, c.relacl, c.relrowsecurity, c.relnatts,
    CASE WHEN c.relkind IN ('v', 'm') THEN md5(pg_get_viewdef(c.oid)) END) AS line
    FROM pg_class c WHERE c.relnamespace IN (SELECT oid FROM host)
  UNION ALL SELECT concat_ws(' ', 'column', a.attrelid, a.attnum, a.attname, a.atttypid, a.attnotnull, a.attisdropped,
    a.attacl, pg_get_expr(d.adbin, d.adrelid))
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE c.relnamespace IN (SELECT oid FROM host) AND a.attnum > 0
  UNION ALL SELECT concat_ws(' ', 'constraint', oid, conname, convalidated, pg_get_constraintdef(oid))
    FROM pg_constraint WHERE connamespace IN (SELECT oid FROM host)
  UNION ALL SELECT concat_ws(' ', 'trigger', pg_get_triggerdef(t.oid), t.tgenabled)
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    WHERE c.relnamespace IN (SELECT oid FROM host) AND NOT t.tgisinternal
  UNION ALL SELECT concat_ws(' ', 'policy', p.oid, p.polname, p.polcmd, p.polroles, pg_get_expr(p.polqual, p.polrelid),
    pg_get_expr(p.polwithcheck, p.polrelid)) FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
    WHERE c.relnamespace IN (SELECT oid FROM host)
  UNION ALL SELECT concat_ws(' ', 'function', p.oid, p.proname, p.proowner, p.proacl, md5(p.prosrc))
    FROM pg_proc p WHERE p.pronamespace IN (SELECT oid FROM host)
  UNION ALL SELECT concat_ws(' ', 'type', t.oid, t.typname, t.typowner) FROM pg_type t
    WHERE t.typnamespace IN (SELECT oid FROM host)
  UNION ALL SELECT concat_ws(' ', 'schema', n.oid, n.nspname, n.nspowner, n.nspacl) FROM pg_namespace n
    WHERE n.oid IN (SELECT oid FROM host)) AS rest
"""
"""One fingerprint of everything in the database that is not ours."""
