"""A real Celery worker: a payment that its queue delivers twice counts once, in processes and in threads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tallystick import User, UserStatus, usd
from tallystick import sync as facade
from tallystick.testing import KitServer
from tallystick.testing.factories import Make

pytest.importorskip("celery")
ROOT = Path(__file__).parents[2]
PAYMENTS = {"prefork": 50, "threads": 10}
PATIENCE = 90.0


@pytest.fixture(scope="module")
async def database(tally_server: KitServer) -> Any:
    name = await tally_server.clone(await tally_server.template(["lending"], (), ()), "_celery")
    yield {
        "DATABASE_URL": tally_server.url("app", name),
        "TALLYSTICK_ADMIN_URL": tally_server.url("admin", name),
        "TALLYSTICK_ROLE_PREFIX": tally_server.roles.prefix,
        "TALLYSTICK_POOL_MAX": "2",
    }
    await tally_server.drop(name)


@pytest.fixture
def worker(request: pytest.FixtureRequest, database: dict[str, str], tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a running worker, whose log is in ``tmp_path``."""
    (tmp_path / "control").mkdir()
    (tmp_path / "queue").mkdir()
    (tmp_path / "results").mkdir()
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, **database, "PAYMENTS_FOLDER": str(tmp_path), "PYTHONPATH": path}
    line = [sys.executable, "-m", "celery", "-A", "tests.adoption.apps.payments_worker", "worker"]
    line += [f"--pool={request.param}", "-c", "2", "-l", "INFO", "--without-gossip", "--without-mingle"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(line, env=environment, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield {**environment, "POOL": request.param}
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.mark.parametrize("worker", ["prefork", "threads"], indirect=True)
def test_a_payment_delivered_twice_counts_once(worker: dict[str, str], tmp_path: Path) -> None:
    from celery import Celery

    from tallystick.settings import Settings

    folder = worker["PAYMENTS_FOLDER"]
    client = Celery("payments", broker="filesystem://", backend=f"file://{folder}/results")
    client.conf.broker_transport_options = {
        "data_folder_in": f"{folder}/queue",
        "data_folder_out": f"{folder}/queue",
        "control_folder": f"{folder}/control",
        "polling_interval": 0.02,
    }
    payments = PAYMENTS[worker["POOL"]]
    slug = f"celery-{uuid4().hex}"
    with facade.Tallystick.open(domains=["lending"], settings=Settings.load(worker)) as tally:
        tally.tenants.create(slug, name="A lender")
        with tally.session(slug, actor="maker", permissions=["*"]) as db:
            borrower = db.users.add(User(status=UserStatus.ACTIVE))
            portal: Any = tally
            inner: Any = db
            make = Make(inner._target, seed="celery")
            loan = portal._portal.run(make.active_loan(outstanding=usd("1000"), borrower=borrower))
            sent = [
                client.send_task("pay", args=[slug, str(loan.id), "1", f"payment {n}"])
                for n in range(payments)
                for _ in range(2)
            ]
            replayed = _results(sent, tmp_path / "log")
            assert replayed.count(False) == payments
            assert replayed.count(True) == payments
            assert db.loans.get(loan.id).principal_outstanding == usd(str(1000 - payments))
    client.close()


def _results(sent: list[Any], log: Path) -> list[bool]:
    until = time.monotonic() + PATIENCE
    while not all(one.ready() for one in sent):
        if time.monotonic() > until:
            pytest.fail(f"the worker was not done in time:\n{log.read_text()[-3000:]}")
        time.sleep(0.1)
    return [one.get(timeout=5) for one in sent]
