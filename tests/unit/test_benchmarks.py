"""The benchmark suite's own arithmetic, its JSON and its arguments; never a timing."""

from __future__ import annotations

import gc
import importlib
import json
import socket
import threading
from uuid import uuid4

import pytest

pytest.importorskip("benchmarks", reason="run from the repository's root")

from benchmarks import __main__ as command
from benchmarks.domains import applications, inputs, ticks
from benchmarks.domains.command import SUITE as DOMAINS
from benchmarks.domains.turns import same_rows
from benchmarks.figures import RATE, TIME, Row
from benchmarks.figures import text_of as lending_text
from benchmarks.lending import journals, repayments, risk, trust
from benchmarks.lending.command import SUITE as LENDING
from benchmarks.lending.journals import sums
from benchmarks.lending.repayments import allocate
from benchmarks.lending.trust import ALPHA, walk
from benchmarks.place import place
from benchmarks.proxy import Proxy
from benchmarks.runner import OPERATIONS, grid, percentile, rows_of, table_text
from benchmarks.subjects import BASE, DEFAULT_PEERS, SUBJECTS
from benchmarks.table import COLUMNS, PER_TENANT, TENANTS, PaymentStatus, fresh, seeded

from tallystick.domains.community.eigentrust import eigentrust
from tallystick.entity import spec_of


def test_a_percentile_lies_between_its_neighbours():
    assert percentile([5], 0.99) == 5
    assert percentile([1, 3], 0.5) == 2
    assert percentile([4, 1, 3, 2, 5], 0.5) == 3
    assert percentile(list(range(101)), 0.99) == 99


@pytest.mark.parametrize(("samples", "share"), [([], 0.5), ([1], 1.5), ([1], -0.1)])
def test_a_percentile_of_nothing_is_refused(samples, share):
    with pytest.raises(ValueError, match="percentile"):
        percentile(samples, share)


def test_the_cost_of_encryption_has_aims_and_twins():
    from benchmarks import privacy

    options = privacy.parser().parse_args(["--quick"])
    assert (options.quick, options.pin) == (True, "apart")
    for kind, twin in ((privacy.Hidden, privacy.HiddenTwin), (privacy.Shown, privacy.ShownTwin)):
        ours, theirs = ([(c.name, c.sql) for c in spec_of(e).columns] for e in (kind, twin))
        assert ours == theirs
    text = lending_text([Row("seal a field", TIME, 3.0, 0.0, 0.0, within=4.0, beside="nothing")])
    assert text.splitlines()[-1].split()[-6:] == ["-", "-", "<", "4", "µs:", "reached"]


def test_rows_are_ratios_to_raw_asyncpg():
    rows = rows_of("get", {"asyncpg": [100_000, 200_000, 300_000], "tallystick": [220_000] * 3})
    assert json.loads(json.dumps(rows)) == [
        {"operation": "get", "subject": "asyncpg", "p50_us": 200.0, "p99_us": 298.0, "ratio": 1.0},
        {"operation": "get", "subject": "tallystick", "p50_us": 220.0, "p99_us": 220.0, "ratio": 1.1},
    ]


def test_the_table_has_operations_down_and_subjects_across():
    rows = rows_of("get", {"asyncpg": [1000], "django": [4000]})
    rows += rows_of("find", {"asyncpg": [10**7], "django": [10**9]})
    head, _, get, find = table_text(rows).splitlines()
    assert head.split() == ["operation", "asyncpg", "Django"]
    assert get.split() == ["get", "1.00", "1", "µs", "4.00", "4", "µs"]
    assert find.split() == ["find", "1.00", "10.0", "ms", "100.00", "1.00", "s"]
    assert grid(["a"], []).splitlines() == ["a", "-"]


def test_peers_are_named_singly_or_as_groups():
    assert command.peers_of("default") == list(DEFAULT_PEERS)
    assert command.peers_of("none") == []
    assert command.peers_of("tortoise, sqlalchemy_core") == ["sqlalchemy-core", "tortoise"]
    assert set(command.peers_of("all")) == set(SUBJECTS) - set(BASE)


def test_operations_take_both_spellings():
    assert command.operations_of("add_many,add-many,page-500,tenants") == ["add_many", "page-500", "tenants"]


@pytest.mark.parametrize(
    "arguments", [["--peers", "hibernate"], ["--operations", "delete"], ["--pin", "somewhere"], ["--jsonn", "x"]]
)
def test_unknown_names_are_refused_with_the_choices(arguments, capsys):
    with pytest.raises(SystemExit) as refused:
        command.main(arguments)
    assert refused.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_an_unknown_peer_is_answered_with_the_known_ones(capsys):
    with pytest.raises(SystemExit):
        command.main(["--peers", "hibernate"])
    assert "advanced-alchemy" in capsys.readouterr().err


def test_the_data_is_what_the_report_says():
    tenants = [0] * len(TENANTS)
    posted = [0] * len(TENANTS)
    ids = set()
    for at, drafts in seeded():
        tenants[at] += len(drafts)
        posted[at] += sum(draft.status is PaymentStatus.POSTED for draft in drafts)
        ids.update(draft.id for draft in drafts)
    assert tenants == [PER_TENANT] * len(TENANTS)
    assert min(posted) > 10_000
    assert len(ids) == sum(tenants) == 100_000
    assert {i.version for i in ids} == {7}
    assert len(COLUMNS) == 12


def test_new_rows_never_appear_among_the_posted():
    import random

    made = fresh(50, random.Random(1))
    assert len({draft.id for draft in made}) == 50
    assert {draft.status for draft in made} == {PaymentStatus.PENDING}


def test_every_operation_has_its_rounds_and_seconds():
    assert list(OPERATIONS) == ["get", "page", "page-500", "find", "add", "add_many", "update", "transaction"]
    assert all(o.rounds[0] <= o.rounds[1] and o.seconds[0] <= o.seconds[1] for o in OPERATIONS.values())


def test_the_proxy_counts_bursts_that_were_answered():
    """One round trip a question, however many packets ask it; a question nobody answered is none."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            conn, _ = server.accept()
            with conn:
                while data := conn.recv(1024):
                    if data.endswith(b"?"):
                        conn.sendall(b"first")
                        conn.sendall(b"second!")

        answering = threading.Thread(target=answer, daemon=True)
        answering.start()
        with Proxy("127.0.0.1", server.getsockname()[1]) as proxy:
            with socket.create_connection((proxy.host, proxy.port), timeout=10) as client:
                for question in (b"one?", b"a longer one?"):
                    client.sendall(question[:2])
                    client.sendall(question[2:])
                    got = b""
                    while not got.endswith(b"!"):
                        got += client.recv(1024)
                assert proxy.trips == 2
                proxy.reset()
                client.sendall(b"unanswered")
                assert proxy.trips == 0
            answering.join(10)


def test_rows_of_lending_say_what_was_aimed_at():
    rows = [
        Row("par", TIME, 40_000, 39_000, 40 / 39, most=1.2, within=150_000),
        Row("striped over plain", RATE, 700, 500, 1.4, least=1.5, beside="plain"),
        Row("repay", TIME, 4_000, 2_000, 2.0),
    ]
    assert [row.as_json()["reached"] for row in rows] == [True, False, None]
    head, _, par, striped, repay = lending_text(rows).splitlines()
    assert head.split() == ["row", "Tallystick", "beside", "ratio", "aim"]
    assert "ratio <= 1.2: reached; < 150.0 ms: reached" in par
    assert striped.split()[3:] == ["700/s", "500/s", "1.40", "ratio", ">=", "1.5:", "MISSED"]
    assert repay.split() == ["repay", "4.0", "ms", "2.0", "ms", "2.00", "-"]


def test_parts_of_lending_are_named(capsys):
    assert LENDING.parts_of("par, journals") == ["journals", "par"]
    with pytest.raises(SystemExit) as refused:
        command.main(["lending", "--parts", "savings"])
    assert refused.value.code == 2
    assert "choose from: repay, journals, par, trust" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_refused_before_anything_runs(tmp_path, capsys):
    with pytest.raises(SystemExit):
        command.main(["lending", "--json", str(tmp_path / "no" / "file")])
    assert "cannot be written" in capsys.readouterr().err


def test_what_is_written_by_hand_is_right():
    first, second, third = (uuid4() for _ in range(3))
    moved = {account: (debits, credits) for account, debits, credits in sums([(first, second, 5), (first, third, 2)])}
    assert moved == {first: (7, 0), second: (0, 5), third: (0, 2)}
    assert allocate([(first, third, 100, 7, 0, 0), (second, third, 100, 6, 1, 0)], 110) == [
        (first, third, [100, 7, 0, 0], True),
        (second, third, [0, 2, 1, 0], False),
    ]
    edges = [(first, second, 5), (second, third, 3), (third, first, 1), (third, second, -4), (first, third, 2)]
    assert walk(edges) == pytest.approx(eigentrust(edges, alpha=ALPHA))


@pytest.fixture(scope="module")
async def made():
    async with place(None, (*LENDING.twins, *DOMAINS.twins)) as found:
        # Each turn begins by collecting garbage, which looks at whatever the tests before have left in memory.
        gc.collect()
        gc.freeze()
        yield found


async def test_every_row_of_lending_is_measured_on_the_same_effects(monkeypatch, tmp_path, made):
    """Each row compares both sides before or after it times them, and raises where they differ."""
    monkeypatch.setenv("TALLYSTICK_SHARED", str(tmp_path))
    folder = tmp_path / "data" / "bitcoin_otc"
    assert trust.folder() == folder
    assert await trust.measure(made, quick=True) == []
    folder.mkdir(parents=True)
    ratings = [(6, 2, 4), (6, 5, 2), (1, 15, 1), (4, 3, 7), (13, 16, 8), (13, 10, -1), (7, 5, 1), (2, 21, 5)]
    lines = [f"{source},{target},{weight},1289241911.{at}" for at, (source, target, weight) in enumerate(ratings)]
    (folder / "soc-sign-bitcoinotc.csv").write_text("\n".join(lines) + "\n")
    rows = [
        *await repayments.measure(made, quick=True, loans=2, payments=3, batch=2),
        *await journals.measure(made, quick=True, seconds=0.02, accounts=20),
        *await risk.measure(made, quick=True, active=300, closed=30, rounds=2),
        *await trust.measure(made, quick=True),
    ]
    assert [row.name for row in rows] == [
        "repay, 36 installments",
        *(f"journal, {kind}" for kind in journals.KINDS),
        "striped over plain",
        "par over 300 loans, today",
        "par over 300 loans, a past date",
        "trust scores, 8 edges",
    ]
    assert all(row.ours > 0 and row.theirs > 0 for row in rows)
    assert [row.name for row in rows if row.aims] == ["striped over plain", "par over 300 loans, today"]


def test_parts_of_domains_are_named(capsys):
    assert DOMAINS.parts_of("statistics, tick") == ["tick", "statistics"]
    with pytest.raises(SystemExit) as refused:
        command.main(["domains", "--parts", "repay"])
    assert refused.value.code == 2
    assert "choose from: tick, inputs, queue, statistics" in capsys.readouterr().err


async def test_every_row_of_domains_is_measured_on_the_same_effects(made):
    few = {"applications": 1_000, "review": 41}
    rows = [
        *await ticks.measure(made, quick=True, vaults=200, turns=1),
        *await inputs.measure(made, quick=True, turns=1, spare=100),
        *await applications.measure_queue(made, quick=True, pages=1, turns=1, **few),
        *await applications.measure_statistics(made, quick=True, turns=1, **few),
    ]
    # Alerts were raised and resolved and rules fired, or the comparison would have compared nothing.
    assert await made.admin.fetchval("select max(alerts) > 0 and max(firings) > 0 from hand.price_tick")
    assert await made.admin.fetchval("select count(*) from hand.risk_alert where state = 'resolved'")
    await made.admin.execute("update hand.vault set status = 'paused' where external_id = 'vault-1'")
    with pytest.raises(AssertionError, match="rows of vault differ"):
        await same_rows(made, {"vault": "id, status"})
    assert [row.name for row in rows] == [
        "a price applied to 200 vaults",
        "claim and finish 1,000 inputs",
        "mark 1,000 inputs processed",
        *(
            f"{what}, {page}"
            for what in ("review queue", "review queue with applications", "applications in review")
            for page in ("first page", "page 2")
        ),
        "statistics, 1,000 applications",
        "statistics of a month, 1,000 applications",
    ]
    assert all(row.ours > 0 and row.theirs > 0 for row in rows)
    assert [row.name for row in rows if not row.aims] == [row.name for row in rows if "with applications" in row.name]


def test_the_pooler_is_left_out_where_it_is_not_installed(monkeypatch, capsys):
    from benchmarks import pooler

    assert pooler.parser().parse_args(["--quick"]).quick is True
    assert list(pooler.OPERATIONS) == ["get", "page of 20", "add", "transaction of three writes"]
    assert [label for label, _ in pooler.SIDES] == ["Tallystick", "asyncpg by hand", "SQLAlchemy ORM"]
    monkeypatch.setattr(pooler, "PGBOUNCER", None)
    assert command.main(["pooler", "--quick"]) == 0
    assert "PgBouncer is not installed" in capsys.readouterr().err


@pytest.mark.parametrize("suite", ["audit", "domains", "lending", "web"])
def test_every_suite_can_be_asked_for(suite):
    importlib.import_module(f"benchmarks.{suite}.command")
