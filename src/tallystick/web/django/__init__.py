"""Tallystick in a Django site: a session a request, errors as problem documents, one ``manage.py``.

Settings::

    INSTALLED_APPS = [..., "tallystick.web.django"]
    MIDDLEWARE = [..., "tallystick.web.django.TallystickMiddleware"]
    TALLYSTICK = {
        "TENANT": "mysite.access.tenant_of",    # (request) -> slug, id or TenantInfo
        "ACTOR": "mysite.access.actor_of",      # (request) -> "user:<id>"
        "PERMISSIONS": "mysite.access.may",     # optional: (request) -> names; else those of the account
        "OPEN": {"entities": [...]},            # optional: what Tallystick.open takes
    }

``get_db(request)`` in a view is the request's session, through the synchronous facade; a view that is ``async def``
uses ``async with async_db(request) as db``. Django's own connection is another one: a transaction of Django's and one
of Tallystick's do not commit together.
"""

from __future__ import annotations

from tallystick.web.django.middleware import TallystickMiddleware
from tallystick.web.django.requests import async_db, get_db, problem_response
from tallystick.web.django.site import close, get_tally

__all__ = ["TallystickMiddleware", "async_db", "close", "get_db", "get_tally", "problem_response"]
