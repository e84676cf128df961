"""The database behind an application: the server that its settings name or the embedded one, and the store on it.

It stands apart from ``Tallystick`` because which store there is, and how its server is started and looked at, is for
this module alone to know.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Self

from tallystick.errors import Denied
from tallystick.privacy.keys import ROOT_VARIABLE, KeyProvider, LocalKeys

if TYPE_CHECKING:
    from tallystick.settings import Settings
    from tallystick.stores.base import Store
    from tallystick.stores.embedded.server import EmbeddedServer
    from tallystick.stores.postgres.meter import Metrics
    from tallystick.stores.postgres.seeing import OnStatement
    from tallystick.stores.postgres.store import PostgresStore


class Database:
    """An open database: its ``store``, the embedded ``server`` where that is what runs, and the ``keys`` in use."""

    __slots__ = ("_settings", "keys", "server", "store")

    def __init__(
        self, settings: Settings, store: PostgresStore, server: EmbeddedServer | None, keys: KeyProvider | None
    ) -> None:
        self._settings = settings
        self.store = store
        self.server = server
        self.keys = keys

    @classmethod
    async def open(cls, settings: Settings, keys: KeyProvider | None, on_statement: OnStatement | None) -> Self:
        """Start the embedded server when it is the one to use, and make the store; nothing is asked of it yet.

        Raises ``Unavailable``, and ``Denied`` for keys that are for development on any other server.
        """
        sign = None
        if settings.tenant_key_file is not None:
            from tallystick.privacy import tenant_key

            sign = tenant_key.signer(tenant_key.read(settings.tenant_key_file))
        from tallystick.stores.postgres.store import PostgresStore

        if keys is None and settings.key_file is not None:
            keys = LocalKeys.from_file(settings.key_file, folder=settings.key_dir)
        if settings.database_url is not None:
            if keys is None and ROOT_VARIABLE in os.environ:
                keys = LocalKeys.from_environment()
            if keys is not None and keys.development:
                raise Denied(
                    "Development keys, and keys from the environment, are for the embedded server only.",
                    remedy="Give a key file: TALLYSTICK_KEY_FILE, or keys=LocalKeys.from_file(path).",
                )
            store = PostgresStore(settings.database_url, settings, sign=sign, on_statement=on_statement)
            return cls(settings, store, None, keys)
        server, keys = await _embedded(settings, keys)
        store = PostgresStore(
            lambda: server.url("app"), settings, recover=server.recover, sign=sign, on_statement=on_statement
        )
        return cls(settings, store, server, keys)

    async def greet(self) -> None:
        """Check who we are there, warn of pools that do not add up, and open what the pool keeps open."""
        await self.guard()
        if warning := (await self.store.budget()).warning:
            logging.getLogger("tallystick.pool").warning("%s", warning)
        await self.store.pool.fill()

    async def guard(self) -> None:
        """Raise ``Denied`` for a role that the tenant wall would not hold, or a hardened database without its key.

        Also ``NotProvisioned``, and ``Invalid`` for a pooler or a tenant key that does not fit the database.
        """
        from tallystick.schema.guard import check_application_role
        from tallystick.schema.harden import check_tenant_mode

        await self.store.check_pooler()
        await self.store.ask(lambda link: check_application_role(link.raw, self._settings.roles))
        sign = self.store.tenant_setting if self.store.signed else None
        await self.store.ask(lambda link: check_tenant_mode(link.raw, sign))

    async def joined(self, connection: Any) -> Store:
        """The store in a transaction that is open on a connection of the application's own."""
        from tallystick.stores.postgres.joined import JoinedStore

        return await JoinedStore.join(self.store, connection, self._settings.roles)

    async def metrics(self, migrated: Callable[[], Awaitable[bool]]) -> Metrics:
        """How this process uses the database, before that is asked whether it is migrated."""
        from tallystick.stores.postgres.meter import Metrics, PoolUse

        stats = self.store.pool.stats()
        pool = PoolUse(
            active=stats.open - stats.idle, idle=stats.idle, waiting=stats.waiting, most=self._settings.pool_max
        )
        return Metrics(pool=pool, migrated=await migrated(), statements=self.store.meter.read())

    async def close(self) -> None:
        """Close every connection; the embedded server stops when its last user leaves."""
        await self.store.close()
        if self.server is not None:
            await self.server.stop()


async def _embedded(settings: Settings, keys: KeyProvider | None) -> tuple[EmbeddedServer, KeyProvider]:
    """The embedded server, started and provisioned, with the keys that were given or those for development."""
    from tallystick.schema.provision import provision
    from tallystick.stores.embedded.server import EmbeddedServer

    server = await EmbeddedServer.start(settings.data_dir, role_prefix=settings.role_prefix)
    try:
        await provision(
            server.url("admin"),
            app_password=server.password("app"),
            seal_password=server.password("seal"),
            roles=settings.roles,
            created_by_us=True,
        )
        if keys is None:
            folder = settings.key_dir or server.key_dir
            keys = (
                LocalKeys.from_environment(folder=folder)
                if ROOT_VARIABLE in os.environ
                else LocalKeys(server.development_key(), folder=folder, development=True)
            )
    except BaseException:
        await server.stop()
        raise
    return server, keys
