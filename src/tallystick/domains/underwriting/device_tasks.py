"""Tasks of devices: what each has to do, one at a time and each once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID

import msgspec

from tallystick.documents import written
from tallystick.domains.guarded import Guarded, alter, put
from tallystick.domains.idempotency import idempotent
from tallystick.domains.named import id_of
from tallystick.domains.underwriting.applications import Application
from tallystick.domains.underwriting.devices import Device, DeviceStatus, Name
from tallystick.entity import Entity
from tallystick.errors import Conflict, Invalid, LeaseLost
from tallystick.fields import Length, Once, Ref
from tallystick.rules import Check, Index, Readable, Rules, Transitions, Unique, kept

if TYPE_CHECKING:
    from tallystick.session import Session

MOST_ATTEMPTS = 3
"""How often a task is lost with its device before it fails."""
_FREE: Final[dict[str, Any]] = {"device": None, "started_at": None}
_NEXT = (
    "SELECT t.id FROM tally.device_task t WHERE t.tenant_id = $1 AND t.state = 'queued' "
    "ORDER BY t.created_at, t.id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED"
)
_D = DeviceStatus


class TaskState(StrEnum):
    """Where a task stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


_T = TaskState


class DeviceTask(Entity):
    """Something for a device to do, once; a device does one at a time.

    ``tries`` counts how often it was taken.
    """

    name: Annotated[Name, Once()]
    application: Annotated[Ref[Application], Once()] | None = None
    payload: Annotated[dict[str, Any], Once()] = msgspec.field(default_factory=dict)
    state: TaskState = TaskState.QUEUED
    tries: int = 0
    device: Ref[Device] | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: Annotated[str, Length(1000, min=1)] | None = None

    rules = Rules(
        Unique("device", where="state = 'running'"),
        Index("state", "created_at", query="the queue of tasks, oldest first"),
        Index("device", "created_at", query="the tasks of a device"),
        Index("application", query="the tasks for an application"),
        Check("running", "(state in ('queued', 'cancelled')) = (device_id is null)"),
        Check("started", "(device_id is null) = (started_at is null)"),
        Check("finished", "(state in ('done', 'failed', 'cancelled')) = (finished_at is not null)"),
        Check("error", "(state = 'failed') = (error is not null)"),
        Check("tries", "tries >= 0 and (device_id is null or tries >= 1)"),
        Transitions(
            "state",
            {
                _T.QUEUED: [_T.RUNNING, _T.CANCELLED],
                _T.RUNNING: [_T.DONE, _T.FAILED, _T.QUEUED],
                _T.FAILED: [_T.QUEUED],
            },
            initial=[_T.QUEUED],
        ),
        kept(),
        retain="operations",
        readable={"name": Readable.CODE, "payload": Readable.TERMS, "error": Readable.NOTE},
    )


class DeviceTasks(Guarded[DeviceTask]):
    """What devices have to do. Each task is one device's; taking and finishing needs "devices.operate"."""

    permission = "devices.manage"
    instead = "db.device_tasks.enqueue(), take(), finish(), retry() and cancel()"

    async def enqueue(
        self,
        name: str,
        payload: Mapping[str, Any] | None = None,
        *,
        application: Application | UUID | None = None,
        key: str | None = None,
    ) -> DeviceTask:
        """Put a task in the queue. A repetition with its ``key`` answers the task that is there.

        Raises ``Invalid``, ``UnknownReference``, ``KeyReused``.
        """
        await self.db.require("devices.operate")
        if payload is not None and not isinstance(payload, Mapping):
            raise Invalid(
                "A task's payload is a dict.", field="payload", entity="DeviceTask", remedy='Write {"app": "shop"}.'
            )
        about: Ref[Application] | None = None
        if application is not None:
            about = Ref(id_of(application, Application, "application"))
        task = DeviceTask(name=name, payload=dict(payload or {}), application=about)
        request = (name, written(task.payload, dict[str, Any])[0], None if about is None else about.id)
        async with idempotent(self.db, "device_tasks.enqueue", key, request) as once:
            if once.replayed:
                return await self.get(once.results[0])
            once.results = (task.id,)
            return await put(self, task)

    async def take(self, device: Device | UUID, task: DeviceTask | UUID | None = None) -> DeviceTask | None:
        """Give a device a task, or the oldest of the queue; None when the queue is empty.

        Two devices never get one task, and one that is busy gets none. Raises ``Conflict`` when the device is not
        online or is compromised, or the task is no longer in the queue.
        """
        db = self.db
        await db.require("devices.operate")
        async with db.transaction():
            worker = await db.devices.lock(id_of(device, Device, "device"))
            if worker.status is not _D.ONLINE or worker.compromised:
                raise Conflict(
                    "The device takes no task: it is not online, has one, or is compromised.",
                    entity="Device",
                    remedy="Finish its task, or send a heartbeat.",
                )
            if task is None:
                rows = await db.unit.call(_NEXT, (db.tenant_id,), self.spec)
                if not rows:
                    return None
                found = await self.get(rows[0][0])
            else:
                found = await self.lock(_id(task))
            if found.state is not _T.QUEUED:
                raise Conflict(f"The task is {found.state.value}.", entity="DeviceTask", remedy="Take another.")
            now = db.now()
            await alter(
                db.devices,
                worker,
                status=_D.BUSY,
                current_task=found.name,
                tasks_started=worker.tasks_started + 1,
                last_task_at=now,
            )
            return await alter(self, found, state=_T.RUNNING, device=worker.ref, started_at=now, tries=found.tries + 1)

    async def finish(
        self, task: DeviceTask | UUID, error: str | None = None, *, device: Device | UUID | None = None
    ) -> DeviceTask:
        """End a running task, failed where there is an error; its device is free again.

        Give the ``device`` that reports: one that lost the task to another, because nothing was heard of it, is told
        ``LeaseLost``. Raises ``Conflict`` for a task that is not running.
        """
        db = self.db
        await db.require("devices.operate")
        async with db.transaction():
            named = await self.get(_id(task))
            if named.device is None:
                raise Conflict(f"The task is {named.state.value}.", entity="DeviceTask", remedy="Take it first.")
            # The device first, as take() locks them.
            worker = await db.devices.lock(named.device.id)
            found = await self.lock(named.id)
            if found.state is not _T.RUNNING or found.device != worker.ref:
                raise Conflict(f"The task is {found.state.value}.", entity="DeviceTask", remedy="It was finished.")
            if device is not None and id_of(device, Device, "device") != worker.id:
                raise LeaseLost("Another device has the task now.", entity="DeviceTask")
            count = "tasks_done" if error is None else "tasks_failed"
            changes: dict[str, Any] = {count: getattr(worker, count) + 1}
            await alter(db.devices, worker, status=_D.ONLINE, current_task=None, **changes)
            state = _T.DONE if error is None else _T.FAILED
            return await alter(self, found, state=state, finished_at=db.now(), error=error)

    async def retry(self, task: DeviceTask | UUID) -> DeviceTask:
        """Put a failed task back in the queue, behind nothing: it keeps its place. Raises ``Conflict``."""
        await self.db.require("devices.operate")
        async with self.db.transaction():
            found = await self._locked(task, _T.FAILED, "Only a failed one is tried again.")
            return await alter(self, found, state=_T.QUEUED, finished_at=None, error=None, **_FREE)

    async def cancel(self, task: DeviceTask | UUID) -> DeviceTask:
        """Take a task out of the queue. Raises ``Conflict`` once a device has it."""
        await self.db.require("devices.operate")
        async with self.db.transaction():
            found = await self._locked(task, _T.QUEUED, "Too late to cancel it.")
            return await alter(self, found, state=_T.CANCELLED, finished_at=self.db.now())

    async def _locked(self, task: DeviceTask | UUID, state: TaskState, remedy: str) -> DeviceTask:
        """The task, locked; raises ``Conflict`` in another state."""
        found = await self.lock(_id(task))
        if found.state is not state:
            raise Conflict(f"The task is {found.state.value}.", entity="DeviceTask", remedy=remedy)
        return found


async def running(db: Session, device: Ref[Device]) -> DeviceTask | None:
    """What a device works on; right while the device is locked."""
    found = await db.device_tasks.find(DeviceTask.device == device, DeviceTask.state == _T.RUNNING, limit=1)
    return found[0] if found else None


async def lose(db: Session, device: Ref[Device]) -> bool:
    """Take its running task from a device that is locked and silent; answers whether it had one."""
    tasks, found = db.device_tasks, await running(db, device)
    if found is None:
        return False
    task = await tasks.lock(found.id)
    if task.tries < MOST_ATTEMPTS:
        await alter(tasks, task, state=_T.QUEUED, **_FREE)
    else:
        await alter(tasks, task, state=_T.FAILED, finished_at=db.now(), error="Its devices fell silent.")
    return True


def _id(task: DeviceTask | UUID) -> UUID:
    return id_of(task, DeviceTask, "task")
