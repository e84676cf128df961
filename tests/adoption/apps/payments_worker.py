"""A Celery worker that takes payments: ``celery -A tests.adoption.apps.payments_worker worker``."""

from __future__ import annotations

import os

from celery import Celery

from tallystick import usd
from tallystick.sync import Tallystick

folder = os.environ["PAYMENTS_FOLDER"]
app = Celery("payments", broker="filesystem://", backend=f"file://{folder}/results")
app.conf.update(
    broker_transport_options={
        "data_folder_in": f"{folder}/queue",
        "data_folder_out": f"{folder}/queue",
        "control_folder": f"{folder}/control",
        "polling_interval": 0.02,
    },
    task_acks_late=True,
    worker_prefetch_multiplier=1,
)

# Opened before the worker forks: each of its processes opens connections of its own when it first needs one.
tally = Tallystick.open(domains=["lending"])
tally.start()


@app.task(name="pay")
def pay(tenant: str, loan: str, amount: str, payment: str) -> bool:
    """Take one payment. A message may come twice: the payment's own id is the key, so it counts once."""
    from uuid import UUID

    with tally.session(tenant, actor="job:payments", permissions=["loans.*"]) as db:
        return db.loans.repay(UUID(loan), usd(amount), key=payment).replayed
