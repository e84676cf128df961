"""The benchmark suite's own arithmetic, its JSON and its arguments; never a timing."""

from __future__ import annotations

import json
import socket
import threading

import pytest

pytest.importorskip("benchmarks", reason="run from the repository's root")

from benchmarks import __main__ as command
from benchmarks.proxy import Proxy
from benchmarks.runner import OPERATIONS, grid, percentile, rows_of, table_text
from benchmarks.subjects import BASE, DEFAULT_PEERS, SUBJECTS
from benchmarks.table import COLUMNS, PER_TENANT, TENANTS, PaymentStatus, fresh, seeded


def test_a_percentile_lies_between_its_neighbours():
    assert percentile([5], 0.99) == 5
    assert percentile([1, 3], 0.5) == 2
    assert percentile([4, 1, 3, 2, 5], 0.5) == 3
    assert percentile(list(range(101)), 0.99) == 99


@pytest.mark.parametrize(("samples", "share"), [([], 0.5), ([1], 1.5), ([1], -0.1)])
def test_a_percentile_of_nothing_is_refused(samples, share):
    with pytest.raises(ValueError, match="percentile"):
        percentile(samples, share)


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
