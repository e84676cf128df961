"""A price applied to 50,000 vaults: values, statuses, alerts and protection rules, beside statements written by hand.

Every vault holds the asset whose price moves, one in four another asset too, and owes a third. The price goes down and
up again by some percent, so that every tick raises alerts, resolves others and fires rules; ticks are two hours apart,
the cooldown is one. Both sides record the price, lock assets and then vaults in order of their ids, as ticks, borrowers
and liquidations must; between turns both kinds of tables are vacuumed.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg

from benchmarks.domains.turns import Side, in_turns, same_rows
from benchmarks.figures import Row
from benchmarks.place import SLUG, Place
from benchmarks.runner import progress
from tallystick import Session, uuid7
from tallystick.domains.vaults.agents import Agent
from tallystick.domains.vaults.assets import VaultAsset
from tallystick.domains.vaults.prices import AssetPrice

VAULTS = 50_000
START = datetime(2026, 3, 1, tzinfo=UTC)
TABLES = (
    "vault_asset", "vault", "vault_position", "risk_alert", "protection_rule", "rule_firing", "price_tick",
)  # fmt: skip
PRICES = ("tally_ref.market_data", "tally_ref.asset_price")

_ID = "('01900000-00{kind}0-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid"
_VAULT, _HELD, _OTHER, _OWED, _RULE = (_ID.format(kind=kind) for kind in range(1, 6))
# $1 tenant, $2 how many, $3 agent. Health factors lie between 1.02 and 2.02 at the first price.
_VAULTS = f"""
insert into tally.vault (tenant_id, id, agent_id, chain_id, external_id, quote, status, max_ltv, warn_health)
select $1, {_VAULT}, $3, 1, 'vault-' || n, 'USD', 'active', 0.80, 1.10 from generate_series(1, $2::int) n
"""
# $3 the asset whose price moves, $4 another one, $5 the one that is owed.
_POSITIONS = f"""
insert into tally.vault_position (tenant_id, id, vault_id, side, asset_id, quantity)
select $1::uuid, p.id, p.vault, p.side, p.asset, p.quantity from generate_series(1, $2::int) n
cross join lateral (select 5 + n % 20 as whole, case when n % 4 = 0 then 1 else 0 end as other,
  1.02 + (n::bigint * 7919 % 1000) / 1000.0 as health) x
cross join lateral (values
  ({_HELD}, {_VAULT}, 'collateral', $3::uuid, x.whole * 1000000000000000000::numeric),
  ({_OTHER}, {_VAULT}, 'collateral', $4::uuid, x.other * 10000000::numeric),
  ({_OWED}, {_VAULT}, 'debt', $5::uuid, trunc((x.whole * 2000 * 0.825 + x.other * 6000 * 0.78) / x.health * 1000000))
) p (id, vault, side, asset, quantity)
where p.quantity > 0
"""
_RULES = f"""
insert into tally.protection_rule (tenant_id, id, vault_id, kind, metric, threshold, cooldown, enabled, action)
select $1, {_RULE}, {_VAULT}, 'repay', case when n % 2 = 0 then 'ltv' else 'health' end,
  case when n % 2 = 0 then 0.72 else 1.15 end, 3600, true, '{{}}'
from generate_series(5, $2::int, 5) n
"""


async def make_vaults(place: Place, vaults: int) -> None:
    """Vaults as a set, their values by the same function that a position's own trigger calls."""
    admin, tenant = place.admin, place.tenant
    async with place.tally.session(SLUG, actor="bench", permissions=["*"]) as db:
        agent = await db[Agent].add(Agent(name="Desk"))
        assets = [
            await db.vault_assets.add(VaultAsset(code=code, decimals=decimals, ltv=ltv, threshold=threshold))
            for code, decimals, ltv, threshold in (
                ("WETH", 18, Decimal("0.80"), Decimal("0.825")),
                ("WBTC", 8, Decimal("0.73"), Decimal("0.78")),
                ("USDC", 6, Decimal(0), Decimal(0)),
            )
        ]
        for code, price in (("WETH", 2000), ("WBTC", 60000), ("USDC", 1)):
            await db.vaults.tick(AssetPrice(asset=code, price=Decimal(price), observed_at=START, source="oracle"))
    async with place.trusted("vault", "vault_position", "protection_rule", "risk_alert"):
        await admin.execute(_VAULTS, tenant, vaults, agent.id)
        await admin.execute(_POSITIONS, tenant, vaults, *(asset.id for asset in assets))
        await admin.execute(_RULES, tenant, vaults)
        await admin.execute("select tally.vault_revalue($1, array_agg(id)) from tally.vault", tenant)
        await admin.execute("select tally.vault_watch($1, array_agg(id)) from tally.vault", tenant)
    await place.copy(*TABLES, *PRICES)
    progress(f"tick: {vaults:,} vaults")


def price_of(turn: int) -> AssetPrice:
    """A price that is new every turn, low and high by turns."""
    whole = Decimal(1_900 if turn % 2 == 0 else 2_010) + turn
    return AssetPrice(
        asset="WETH", price=whole, observed_at=START + timedelta(minutes=turn + 1), source="oracle", round=turn + 1
    )


def moment_of(turn: int) -> datetime:
    return START + timedelta(hours=2 * turn)


def ours(db: Session) -> Side:
    async def tick(turn: int) -> Any:
        done = await db.vaults.tick(price_of(turn), at=moment_of(turn))
        return done.vaults, done.alerts, done.firings

    return tick


_RECORD = (
    "insert into hand.market_data (asset, quote, source, observed_at, price, round) values ($1, $2, $3, $4, $5, $6) "
    "on conflict do nothing"
)
_LATEST = (
    "insert into hand.asset_price as p (asset, quote, source, observed_at, price, round) "
    "values ($1, $2, $3, $4, $5, $6) "
    "on conflict (asset, quote) do update set source = excluded.source, observed_at = excluded.observed_at, "
    "price = excluded.price, round = excluded.round "
    "where (excluded.observed_at, excluded.round) > (p.observed_at, coalesce(p.round, -1))"
)
_PRICE = (
    "update hand.vault_asset a set price = p.price, price_round = p.round, price_source = p.source, "
    "priced_at = p.observed_at from hand.asset_price p "
    "where a.tenant_id = $1 and a.code = $2 and a.quote = $3 and p.asset = $2 and p.quote = $3 "
    "and (p.observed_at, p.round) > (a.priced_at, coalesce(a.price_round, -1)) returning a.id"
)
_LOCK = (
    "select id from hand.vault where tenant_id = $1 and id in (select vault_id from hand.vault_position "
    "where tenant_id = $1 and asset_id = $2 and quantity > 0) order by id for no key update"
)
# One statement more for everything else: what the vaults are worth now goes from the update straight into the alerts
# and rules.
_APPLY = """
with worth as (
  select s.id, s.collateral, s.borrow, s.weighted, s.debt,
    case when s.debt > 0 then case when s.collateral = 0 then 9223372036854775807
      else div(s.debt * 100000000 + s.collateral - 1, s.collateral) end end::bigint as ltv,
    case when s.debt > 0 then div(s.weighted * 100000000, s.debt) end::bigint as health
  from (
    select p.vault_id as id, coalesce(sum(h.held), 0) as collateral, coalesce(sum(trunc(h.held * a.ltv)), 0) as borrow,
      coalesce(sum(trunc(h.held * a.threshold)), 0) as weighted,
      coalesce(sum(ceil(p.quantity * a.unit)) filter (where p.side = 'debt'), 0) as debt
    from hand.vault_position p
    join (select id, ltv, threshold, price * ('1e' || (8 - decimals))::numeric as unit
      from hand.vault_asset where tenant_id = $1) a on a.id = p.asset_id
    cross join lateral (select case when p.side = 'collateral' then trunc(p.quantity * a.unit) end as held) h
    where p.tenant_id = $1 and p.quantity > 0 and p.vault_id = any ($2)
    group by p.vault_id
  ) s
), now_worth as (
  update hand.vault v set collateral_value = w.collateral, borrow_limit = w.borrow, weighted_threshold = w.weighted,
    debt_value = w.debt, ltv_scaled = w.ltv, health_scaled = w.health,
    status = case when v.status not in ('active', 'at_risk') then v.status
      when w.health < v.warn_health * 100000000 or w.ltv > v.max_ltv * 100000000 then 'at_risk' else 'active' end
  from worth w where v.tenant_id = $1 and v.id = w.id
  returning v.id, v.status, v.ltv_scaled as ltv, v.health_scaled as health, v.max_ltv, v.warn_health
), holding as (
  select v.id, v.status, k.* from now_worth v cross join lateral (values
    ('ltv_high', 'medium', 'ltv', v.ltv, v.max_ltv, v.ltv > v.max_ltv * 100000000),
    ('health_low', 'high', 'health', v.health, v.warn_health, v.health < v.warn_health * 100000000),
    ('liquidatable', 'critical', 'health', v.health, 1, v.health < 100000000)
  ) k (kind, severity, metric, observed, threshold, holds)
  where v.status = 'at_risk' and k.holds
), resolved as (
  update hand.risk_alert r set state = 'resolved', resolved_at = now(), version = version + 1, updated_at = now(),
    updated_by = $6
  where r.tenant_id = $1 and r.state <> 'resolved' and r.vault_id in (select id from now_worth)
    and not exists (select from holding h where h.id = r.vault_id and h.kind = r.kind)
), raised as (
  insert into hand.risk_alert (tenant_id, id, vault_id, kind, severity, metric, observed, threshold, state)
  select $1, gen_random_uuid(), id, kind, severity, metric, observed, threshold, 'open' from holding
  on conflict (tenant_id, vault_id, kind) where state <> 'resolved' do nothing
  returning 1
), fired as (
  update hand.protection_rule r set last_fired_at = $3
  from now_worth v
  where r.tenant_id = $1 and r.vault_id = v.id and r.enabled and v.status in ('active', 'at_risk')
    and (r.last_fired_at is null or r.last_fired_at + make_interval(secs => r.cooldown) <= $3)
    and case r.metric when 'ltv' then v.ltv >= r.threshold * 100000000 else v.health <= r.threshold * 100000000 end
    and not exists (select from hand.rule_firing f
      where f.tenant_id = $1 and f.rule_id = r.id and f.price_key = $5)
  returning r.id, r.vault_id, case r.metric when 'ltv' then v.ltv else v.health end as observed
), firings as (
  insert into hand.rule_firing (tenant_id, id, rule_id, vault_id, tick, price_key, observed, fired_at)
  select $1, gen_random_uuid(), id, vault_id, $4, $5, observed, $3 from fired returning 1
)
insert into hand.price_tick (tenant_id, id, feed, quote, applied_at, applied, price, price_round, price_source,
  priced_at, vaults, alerts, firings)
select $1, $4, p.asset, p.quote, $3, true, p.price, p.round, p.source, p.observed_at,
  (select count(*) from now_worth), (select count(*) from raised), (select count(*) from firings)
from hand.asset_price p where p.asset = $7 and p.quote = $8
returning vaults, alerts, firings
"""


def by_hand(conn: asyncpg.Connection, place: Place) -> Side:
    tenant = place.tenant

    async def tick(turn: int) -> Any:
        price, at = price_of(turn), moment_of(turn)
        given = (price.asset, price.quote, price.source, price.observed_at, price.price, price.round)
        named = f"{price.asset}/{price.quote} {price.source} round {price.round}"
        async with conn.transaction():
            await conn.execute(_RECORD, *given)
            await conn.execute(_LATEST, *given)
            asset = await conn.fetchval(_PRICE, tenant, price.asset, price.quote)
            if asset is None:
                raise LookupError(price.asset)
            held = [row[0] for row in await conn.fetch(_LOCK, tenant, asset)]
            return tuple(
                await conn.fetchrow(_APPLY, tenant, held, at, uuid7(), named, "bench", price.asset, price.quote)
            )

    return tick


_COMPARED = {
    "vault": "id, status, collateral_value, borrow_limit, weighted_threshold, debt_value, ltv_scaled, health_scaled, "
    "version",
    "vault_asset": "id, price, price_round, price_source, priced_at, version",
    "risk_alert": "vault_id, kind, severity, metric, observed, threshold, state, resolved_at is null, version, "
    "updated_by",
    "protection_rule": "id, last_fired_at, version",
    "rule_firing": "rule_id, vault_id, price_key, observed, fired_at",
    "price_tick": "feed, quote, applied_at, applied, price, price_round, price_source, priced_at, vaults, alerts, "
    "firings",
    "tally_ref.market_data": "asset, quote, source, observed_at, price, round, block, open, high, low, volume",
    "tally_ref.asset_price": "asset, quote, source, observed_at, price, round, block",
}


async def measure(place: Place, *, quick: bool, vaults: int = VAULTS, turns: int | None = None) -> list[Row]:
    """The median tick of each side, in turns of one tick."""
    await make_vaults(place, vaults)
    await place.analyze(*TABLES)
    found: dict[Side, list[Any]] = {}

    def noted(side: Side) -> Side:
        async def tick(turn: int) -> Any:
            found.setdefault(side, []).append(await side(turn))

        return tick

    async def tidy() -> None:
        for table in TABLES:
            for schema in ("tally", "hand"):
                await place.admin.execute(f"vacuum (analyze) {schema}.{table}")

    async with AsyncExitStack() as stack:
        tally = await stack.enter_async_context(place.opened(1))
        db = await stack.enter_async_context(tally.session(SLUG, actor="bench", permissions=["prices.record"]))
        (conn,) = await stack.enter_async_context(place.by_hand())
        mine, theirs = ours(db), by_hand(conn, place)
        row = await in_turns(
            f"a price applied to {vaults:,} vaults", noted(mine), noted(theirs), turns or (5 if quick else 9),
            between=tidy,
        )  # fmt: skip
    if found[mine] != found[theirs]:
        raise AssertionError("ticks counted otherwise than what was written by hand")
    await same_rows(place, _COMPARED)
    return [row]
