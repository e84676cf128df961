"""The statements by which rows are held against the log, batch by batch, each by one index and in one snapshot.

They stand apart from the reconciliation because they are read as SQL: with their plans, not with the code that asks.
"""

from __future__ import annotations

# The planner takes a month without statistics for an empty one; what is left to it is the index by key.
PINNED = """
SELECT set_config('timezone', 'UTC', true), set_config('datestyle', 'ISO, YMD', true),
  set_config('bytea_output', 'hex', true), set_config('intervalstyle', 'iso_8601', true),
  set_config('extra_float_digits', '1', true),
  set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
  set_config('enable_sort', 'off', true), set_config('enable_hashjoin', 'off', true),
  set_config('enable_mergejoin', 'off', true), set_config('jit', 'off', true)
"""
# A hot account may have tens of millions of transfers, and there is no way but to add them up.
PLAIN = "SELECT set_config('jit', 'off', true), set_config('statement_timeout', '600000', true)"
REGISTRY = "(SELECT r.id AS tenant_id, r.* FROM tally_ref.tenant_self() r)"
CAPTURED = """
SELECT DISTINCT c.relname::text FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'tally_audit' AND p.proname = 'capture' AND c.relname::text <> ALL ($1::text[]) ORDER BY 1
"""
COLUMNS = """
SELECT a.attname::text, a.attgenerated <> '', (to_jsonb(a.attmissingval) -> 0)::text,
  pg_catalog.pg_get_expr(d.adbin, d.adrelid)
FROM pg_catalog.pg_attribute a
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped
"""
# The leaf tells whether the image is the one that was sealed; one that is not sealed yet has none. A key is asked for
# as a range, so that only the index by key gives the order.
ROWS = """
WITH page AS MATERIALIZED (
  SELECT t.id, to_jsonb(t) - $3::text[] AS now FROM {rows} t
  WHERE t.tenant_id = $1 AND t.id > $2 ORDER BY t.id LIMIT {batch}
), found AS (
  SELECT p.id, p.now, e.seq, e.op, e.body::jsonb -> 'new' AS image,
    (SELECT l.hash FROM tally_audit.leaf l WHERE l.tenant_id = $1 AND l.seq = e.seq)
      = sha256('\\x00'::bytea || e.salt || convert_to(e.body, 'UTF8')) AS bound
  FROM page p LEFT JOIN LATERAL (
    SELECT i.seq, i.op, i.salt, i.body FROM tally_audit.entry i
    WHERE i.tenant_id = $1 AND i."table" = $4 AND i.key BETWEEN p.id::text AND p.id::text
      AND i.op IN ('I', 'U', 'D', 'B') ORDER BY i.key DESC, i.seq DESC LIMIT 1
  ) e ON true
), dropped AS MATERIALIZED (
  SELECT to_date(max(d.key), 'YYYY-MM') + interval '1 month' AS until FROM tally_audit.entry d
  WHERE d.tenant_id = $1 AND d."table" = 'tally_audit.entry' AND d.op = 'P'
)
SELECT s.rows, s.last, f.id, f.now::text, f.seq, f.op, f.image::text, f.bound,
  coalesce(f.now ->> 'updated_at', f.now ->> 'created_at')::timestamptz < (SELECT until FROM dropped)
FROM (SELECT count(*) AS rows, (array_agg(p.id ORDER BY p.id DESC))[1] AS last FROM page p) s
LEFT JOIN found f ON f.image IS DISTINCT FROM f.now OR f.bound IS FALSE
"""
# From the last key to the first, so that one step down the index finds a key's last entry.
LOG = """
WITH RECURSIVE walk (n, key, op, seq) AS (
  (SELECT 1, e.key, e.op, e.seq FROM tally_audit.entry e
    WHERE e.tenant_id = $1 AND e."table" = $2 AND e.key < $3 AND e.op IN ('I', 'U', 'D', 'B')
    ORDER BY e.key DESC, e.seq DESC LIMIT 1)
  UNION ALL
  SELECT w.n + 1, f.key, f.op, f.seq FROM walk w CROSS JOIN LATERAL (
    SELECT e.key, e.op, e.seq FROM tally_audit.entry e
    WHERE e.tenant_id = $1 AND e."table" = $2 AND e.key < w.key AND e.op IN ('I', 'U', 'D', 'B')
    ORDER BY e.key DESC, e.seq DESC LIMIT 1
  ) f WHERE w.n < {batch}
), gone AS (
  SELECT w.key, w.seq FROM (
    SELECT k.*, CASE WHEN k.key ~ '^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$' THEN k.key::uuid END AS id
    FROM walk k WHERE k.op <> 'D'
  ) w LEFT JOIN LATERAL (
    SELECT true AS there FROM {rows} t
    WHERE t.tenant_id = $1 AND t.id BETWEEN w.id AND w.id ORDER BY t.id LIMIT 1
  ) r ON true WHERE r.there IS NULL
)
SELECT s.keys, s.last, g.key, g.seq
FROM (SELECT count(*) AS keys, min(w.key) AS last FROM walk w) s LEFT JOIN gone g ON true
"""
ENTRIES = """
SELECT f.key, f.seq, CASE WHEN f.differs THEN f.old::text END, f.before::text FROM (
  SELECT p.key, p.seq, p.old, p.before, p.op IN ('U', 'D') AND p.old <> p.before AS differs FROM (
    SELECT e.key, e.seq, e.op, e.body::jsonb -> 'old' AS old,
      lead(e.body::jsonb -> 'new') OVER (PARTITION BY e.key ORDER BY e.seq DESC) AS before
    FROM (
      SELECT i.key, i.seq, i.op, i.body FROM tally_audit.entry i
      WHERE i.tenant_id = $1 AND i."table" = $2 AND (i.key, i.seq) < ($3, $4) AND i.op IN ('I', 'U', 'D', 'B')
      ORDER BY i.key DESC, i.seq DESC LIMIT {batch}
    ) e
  ) p
) f ORDER BY f.key DESC, f.seq DESC
"""
PAGE = "SELECT t.id FROM {rows} t WHERE t.tenant_id = $1 AND t.id > $2 ORDER BY t.id LIMIT {batch}"
# A row that the function leaves out has nothing to be compared with.
DERIVED = """
SELECT f.id, f.columns FROM (
  SELECT d.id, (SELECT array_agg(w.key ORDER BY w.key) FROM jsonb_each(to_jsonb(d) - 'id') w
    WHERE to_jsonb(t) -> w.key IS DISTINCT FROM w.value) AS columns
  FROM {function}($1::uuid, $2::uuid[]) d
  JOIN (SELECT i.* FROM {rows} i WHERE i.tenant_id = $1 AND i.id = ANY ($2)) t ON t.id = d.id
) f WHERE f.columns IS NOT NULL ORDER BY f.id
"""
