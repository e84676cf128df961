"""prices that all tenants share, partitioned by year

Revision vaults_0001, the first of its branch.
"""

from __future__ import annotations

from alembic import op

from tallystick.schema.operations import Sql, role

revision = "vaults_0001"
down_revision = None
branch_labels = ("vaults",)
depends_on = "identity_0001"
accepted: dict[str, str] = {}

TEXT = 'text COLLATE "C"'
DEFINER = "SECURITY DEFINER SET search_path = pg_catalog, pg_temp"

MARKET_DATA = f"""
CREATE TABLE tally_ref.market_data (
  asset {TEXT} NOT NULL CONSTRAINT ck_market_data_asset CHECK (char_length(asset) BETWEEN 1 AND 32),
  quote {TEXT} NOT NULL CONSTRAINT ck_market_data_quote CHECK (char_length(quote) BETWEEN 1 AND 32),
  source {TEXT} NOT NULL CONSTRAINT ck_market_data_source CHECK (char_length(source) BETWEEN 1 AND 80),
  observed_at timestamp with time zone NOT NULL,
  price numeric(38,18) NOT NULL CONSTRAINT ck_market_data_price CHECK (price > 0),
  round numeric(78,0) CONSTRAINT ck_market_data_round CHECK (round >= 0),
  nth numeric(78,0) NOT NULL GENERATED ALWAYS AS (coalesce(round, -1)) STORED,
  block bigint CONSTRAINT ck_market_data_block CHECK (block >= 0),
  open numeric(38,18),
  high numeric(38,18),
  low numeric(38,18),
  volume numeric(38,18) CONSTRAINT ck_market_data_volume CHECK (volume >= 0),
  recorded_at timestamp with time zone NOT NULL DEFAULT now(),
  recorded_by {TEXT} NOT NULL DEFAULT current_setting('tally.actor'),
  CONSTRAINT pk_market_data PRIMARY KEY (asset, quote, source, observed_at, nth),
  CONSTRAINT ck_market_data_range CHECK (low > 0 AND low <= least(open, price) AND high >= greatest(open, price))
) PARTITION BY RANGE (observed_at)"""

ASSET_PRICE = f"""
CREATE TABLE tally_ref.asset_price (
  asset {TEXT} NOT NULL,
  quote {TEXT} NOT NULL,
  source {TEXT} NOT NULL,
  observed_at timestamp with time zone NOT NULL,
  price numeric(38,18) NOT NULL CONSTRAINT ck_asset_price_price CHECK (price > 0),
  round numeric(78,0),
  block bigint,
  CONSTRAINT pk_asset_price PRIMARY KEY (asset, quote)
) WITH (fillfactor = 50)"""

# Of one moment a source that counts rounds may have several, which are told apart by ``nth``; one that does not, one.
# A year is a partition: prices are dropped by the year, and a history of decades stays cheap to plan. A table is made
# and then attached, which lets readers go on.
PARTITION = f"""
CREATE FUNCTION tally_ref.market_partition(wanted integer) RETURNS boolean LANGUAGE plpgsql {DEFINER} AS $f$
DECLARE
  named text := 'market_data_' || wanted;
BEGIN
  IF wanted NOT BETWEEN 1900 AND 2200 THEN
    RAISE EXCEPTION 'no prices of this year' USING ERRCODE = '22023', COLUMN = 'observed_at';
  END IF;
  IF to_regclass('tally_ref.' || named) IS NOT NULL THEN
    RETURN false;
  END IF;
  -- One at a time; a lock of the table and no advisory one, because it brings the catalogue up to date.
  LOCK TABLE tally_ref.market_data IN SHARE UPDATE EXCLUSIVE MODE;
  IF to_regclass('tally_ref.' || named) IS NOT NULL THEN
    RETURN false;
  END IF;
  EXECUTE format('CREATE TABLE tally_ref.%I (LIKE tally_ref.market_data INCLUDING ALL)', named);
  EXECUTE format('ALTER TABLE tally_ref.market_data ATTACH PARTITION tally_ref.%I FOR VALUES FROM (%L) TO (%L)',
    named, make_timestamptz(wanted, 1, 1, 0, 0, 0, 'UTC'), make_timestamptz(wanted + 1, 1, 1, 0, 0, 0, 'UTC'));
  RETURN true;
END $f$"""

# A late price is kept as a fact and does not become the latest: neither an older time nor, of the same source, an older
# round goes over a newer one.
RECORD = f"""
CREATE FUNCTION tally_ref.market_record(assets text[], quotes text[], sources text[], times timestamptz[],
  prices numeric[], rounds numeric[], blocks bigint[], opens numeric[], highs numeric[], lows numeric[],
  volumes numeric[], OUT added bigint, OUT latest bigint) LANGUAGE plpgsql {DEFINER} AS $f$
BEGIN
  PERFORM tally_ref.market_partition(y.year)
    FROM (SELECT DISTINCT date_part('year', t AT TIME ZONE 'UTC')::integer AS year FROM unnest(times) t ORDER BY 1) y;
  INSERT INTO tally_ref.market_data AS m
    (asset, quote, source, observed_at, price, round, block, open, high, low, volume)
  SELECT n.* FROM unnest(assets, quotes, sources, times, prices, rounds, blocks, opens, highs, lows, volumes)
    AS n (asset, quote, source, observed_at, price, round, block, open, high, low, volume)
  ORDER BY 1, 2, 3, 4 ON CONFLICT (asset, quote, source, observed_at, nth) DO NOTHING;
  GET DIAGNOSTICS added = ROW_COUNT;
  -- Out of what is kept, not of what came: a second price of the same moment was not kept. Of a source that counts
  -- rounds only its highest can be the latest, so that one that is late does not hide another of the same batch.
  INSERT INTO tally_ref.asset_price AS p (asset, quote, source, observed_at, price, round, block)
  SELECT DISTINCT ON (k.asset, k.quote) k.asset, k.quote, k.source, k.observed_at, k.price, k.round, k.block
    FROM (SELECT m.*, max(m.round) OVER (PARTITION BY m.asset, m.quote, m.source) AS highest
      FROM unnest(assets, quotes, sources, times, rounds) AS n (asset, quote, source, observed_at, round)
      JOIN tally_ref.market_data m ON m.asset = n.asset AND m.quote = n.quote AND m.source = n.source
        AND m.observed_at = n.observed_at AND m.nth = coalesce(n.round, -1)) k
    LEFT JOIN tally_ref.asset_price l USING (asset, quote)
    WHERE (k.round < k.highest) IS NOT TRUE AND (l.source = k.source AND k.round < l.round) IS NOT TRUE
    ORDER BY k.asset, k.quote, k.observed_at DESC, k.round DESC NULLS LAST, k.source
  ON CONFLICT (asset, quote) DO UPDATE SET source = excluded.source, observed_at = excluded.observed_at,
    price = excluded.price, round = excluded.round, block = excluded.block
  WHERE (excluded.observed_at, coalesce(excluded.round, -1)) > (p.observed_at, coalesce(p.round, -1))
    AND (excluded.source = p.source AND excluded.round < p.round) IS NOT TRUE;
  GET DIAGNOSTICS latest = ROW_COUNT;
END $f$"""

FUNCTIONS = {
    PARTITION: "tally_ref.market_partition(integer)",
    RECORD: "tally_ref.market_record(text[], text[], text[], timestamptz[], numeric[], numeric[], bigint[], numeric[], "
    "numeric[], numeric[], numeric[])",
}


def upgrade() -> None:
    """Make the shared tables, the functions that write them, and partitions for this year and the next."""
    app = role("app")
    op.invoke(
        Sql(
            [
                MARKET_DATA,
                "COMMENT ON TABLE tally_ref.market_data IS "
                "'Prices as they were observed, of all sources and for all tenants; only functions write it.'",
                ASSET_PRICE,
                "COMMENT ON TABLE tally_ref.asset_price IS 'The latest price of each asset; only functions write it.'",
                f"GRANT SELECT ON TABLE tally_ref.market_data, tally_ref.asset_price TO {app}",
            ]
        )
    )
    for create, name in FUNCTIONS.items():
        op.invoke(Sql([create, f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC"]))
    op.invoke(Sql([f"GRANT EXECUTE ON FUNCTION {FUNCTIONS[RECORD]} TO {app}"]))
    op.invoke(
        Sql(
            [
                "SELECT tally_ref.market_partition(date_part('year', now() AT TIME ZONE 'UTC')::integer + n) "
                "FROM generate_series(0, 1) n"
            ]
        )
    )


def downgrade() -> None:
    """Take it back, prices included."""
    op.invoke(Sql([f"DROP FUNCTION {name}" for name in reversed(FUNCTIONS.values())]))
    op.invoke(Sql(["DROP TABLE tally_ref.asset_price", "DROP TABLE tally_ref.market_data"]))
