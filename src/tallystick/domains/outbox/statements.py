"""The SQL of claiming and settling. Every statement names its tenant first and touches that tenant's rows only.

``due_at`` is both when a message is due and how long a lease holds, so what others hold is passed over by the same
condition as what waits for its time.
"""

from __future__ import annotations

from typing import Final

_M = "tally.outbox_message"
_OPEN = "m.key IS NOT NULL AND m.state IN ('pending', 'stuck')"
_FREE = "m.state = 'pending' AND m.due_at <= now()"
# The actor comes with the statement, which is then one round trip and a transaction by itself.
_WHO = "who AS MATERIALIZED (SELECT set_config('tally.actor', ${n}, true) AS actor)"
_KNOWN = "(SELECT w.actor FROM who w) IS NOT NULL"
_LEASE = "token = $3, due_at = now() + make_interval(secs => $4), tries = m.tries + 1"


IN_ORDER: Final = "SELECT set_config('enable_sort', 'off', true)"
"""Before a claim. A queue is often empty when statistics are taken, and a planner that expects one row would rather
sort all there are than follow the index that has them in order: seconds for a claim instead of a millisecond."""


def heads(columns: str) -> str:
    """Lease messages of keys: $1 tenant, $2 topic, $3 token, $4 seconds, $5 how many, $6 actor, $7 key to begin after.

    It steps from key to key in the index, so a long backlog of one key costs nothing, and takes the first message of
    each that is free. That message's lock is the key's: nobody else leases what follows it. Few keys give several
    messages each; one that may have been delivered before comes alone, so that poison takes nothing with it.
    """
    first = f"SELECT m.id, m.key FROM {_M} m WHERE m.tenant_id = $1 AND m.topic = $2 AND {_OPEN}"
    order = "ORDER BY m.key, m.position LIMIT 1"

    def keys(name: str, begin: str, end: str) -> str:
        return f"""{name} AS (
  ({first} AND m.key > {begin}{end} {order})
  UNION ALL
  SELECT n.id, n.key FROM {name} l CROSS JOIN LATERAL ({first} AND m.key > l.key{end} {order}) n
)"""

    return f"""
WITH RECURSIVE {keys("after", "$7", "")}, {keys("before", "''", " AND m.key <= $7")}, head AS MATERIALIZED (
  SELECT h.* FROM (SELECT a.id FROM after a UNION ALL SELECT b.id FROM before b) l CROSS JOIN LATERAL (
    SELECT m.id, m.key, m.position, m.tries FROM {_M} m
    WHERE m.tenant_id = $1 AND m.id = l.id AND {_FREE} FOR NO KEY UPDATE SKIP LOCKED
  ) h LIMIT $5
), taken AS MATERIALIZED (
  SELECT f.id FROM head h CROSS JOIN LATERAL (
    SELECT w.id, w.nth, bool_and(w.free) OVER (ORDER BY w.nth) AS free FROM (
      SELECT m.id, row_number() OVER (ORDER BY m.position) AS nth,
        {_FREE} AND (m.id = h.id OR (m.tries = 0 AND h.tries = 0)) AS free
      FROM (
        SELECT * FROM {_M} m WHERE m.tenant_id = $1 AND m.topic = $2 AND m.key = h.key
          AND m.position >= h.position AND {_OPEN}
        ORDER BY m.key, m.position LIMIT greatest(1, $5 / greatest(1, (SELECT count(*) FROM head)))
      ) m
    ) w
  ) f WHERE f.free
), {_WHO.format(n=6)}
UPDATE {_M} m SET {_LEASE} WHERE {_KNOWN} AND m.tenant_id = $1 AND m.id = ANY (ARRAY(SELECT t.id FROM taken t))
  AND {_FREE}
RETURNING {columns}"""


def loose(columns: str) -> str:
    """Lease messages without a key: $1 tenant, $2 topic, $3 token, $4 seconds, $5 how many, $6 actor."""
    return f"""
WITH taken AS MATERIALIZED (
  SELECT m.id FROM {_M} m WHERE m.tenant_id = $1 AND m.topic = $2 AND m.key IS NULL AND {_FREE}
  ORDER BY m.due_at, m.id LIMIT $5 FOR NO KEY UPDATE SKIP LOCKED
), {_WHO.format(n=6)}
UPDATE {_M} m SET {_LEASE} WHERE {_KNOWN} AND m.tenant_id = $1 AND m.id = ANY (ARRAY(SELECT t.id FROM taken t))
RETURNING {columns}"""


def one(columns: str) -> str:
    """A message: $1 tenant, $2 its id."""
    return f"SELECT {columns} FROM {_M} m WHERE m.tenant_id = $1 AND m.id = $2"


def given_up(columns: str) -> str:
    """Dead letters, oldest first: $1 tenant, $2 topic or null, $3 how many."""
    return (
        f"SELECT {columns} FROM {_M} m WHERE m.tenant_id = $1 AND m.state IN ('dead', 'stuck') "
        "AND ($2::text IS NULL OR m.topic = $2) ORDER BY m.created_at, m.id LIMIT $3"
    )


_MINE = f"{_KNOWN} AND tenant_id = $1 AND id = $2 AND token = $3 AND state = 'pending'"
FINISH: Final = (
    f"WITH {_WHO.format(n=4)} UPDATE {_M} SET state = 'done', finished_at = now(), token = NULL WHERE {_MINE} "
    "RETURNING id"
)
EXTEND: Final = (
    f"WITH {_WHO.format(n=4)} UPDATE {_M} SET due_at = now() + make_interval(secs => $5) WHERE {_KNOWN} "
    "AND tenant_id = $1 AND id = ANY ($2) AND token = $3 AND state = 'pending' RETURNING id"
)
# What follows a message that goes back was never handed out, so it does not count as delivered.
_REST = (
    f"UPDATE {_M} m SET due_at = now(), token = NULL, tries = m.tries - 1 "
    "WHERE m.tenant_id = $1 AND m.id = ANY ($8) AND m.token = $3 AND m.state = 'pending' AND EXISTS (SELECT FROM gone)"
)
FAIL: Final = (
    f"WITH {_WHO.format(n=4)}, gone AS (UPDATE {_M} SET state = $5, due_at = now() + make_interval(secs => $6), "
    f"token = NULL, error = coalesce($7, error) WHERE {_MINE} RETURNING id), rest AS ({_REST}) SELECT 1 FROM gone"
)
"""Give a message back or up: $5 its state, $6 seconds until it is due, $7 the error's name, $8 what goes with it."""
UNREAD: Final = (
    f"WITH {_WHO.format(n=4)} UPDATE {_M} SET due_at = now(), token = NULL, tries = tries - 1 WHERE {_KNOWN} "
    "AND tenant_id = $1 AND id = ANY ($2) AND token = $3 AND state = 'pending'"
)
AGAIN: Final = (
    f"UPDATE {_M} SET state = 'pending', due_at = now(), tries = 0, error = NULL "
    "WHERE tenant_id = $1 AND id = $2 AND state IN ('dead', 'stuck') RETURNING id"
)
DISCARD: Final = (
    f"UPDATE {_M} SET state = 'discarded', finished_at = now(), token = NULL "
    "WHERE tenant_id = $1 AND id = $2 AND state IN ('pending', 'dead', 'stuck') RETURNING id"
)
PURGE: Final = (
    f"DELETE FROM {_M} WHERE tenant_id = $1 AND id = ANY (ARRAY(SELECT m.id FROM {_M} m WHERE m.tenant_id = $1 "
    "AND m.finished_at < now() - make_interval(secs => $2) ORDER BY m.finished_at LIMIT $3 FOR UPDATE SKIP LOCKED)) "
    "RETURNING id"
)
# Each part is what one of the partial indexes holds: messages that are over are many, and are not looked at.
_UNFINISHED = " UNION ALL ".join(
    f"SELECT m.topic, m.state, m.token, m.due_at, m.created_at FROM {_M} m WHERE m.tenant_id = $1 AND {part}"
    for part in (_OPEN, "m.key IS NULL AND m.state = 'pending'", "m.state IN ('dead', 'stuck') AND m.state = 'dead'")
)
STATUS: Final = (
    "SELECT m.topic, count(*) FILTER (WHERE m.state = 'pending' AND m.due_at <= now()), "
    "count(*) FILTER (WHERE m.state = 'pending' AND m.token IS NULL AND m.due_at > now()), "
    "count(*) FILTER (WHERE m.token IS NOT NULL AND m.due_at > now()), count(*) FILTER (WHERE m.state = 'dead'), "
    "count(*) FILTER (WHERE m.state = 'stuck'), "
    "coalesce(extract(epoch FROM now() - min(m.created_at) FILTER (WHERE m.state = 'pending')), 0)::bigint "
    f"FROM ({_UNFINISHED}) m GROUP BY m.topic ORDER BY m.topic"
)
