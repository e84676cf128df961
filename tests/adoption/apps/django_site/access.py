"""Who a request speaks for. A real site asks its login: ``request.user``, a signed token, the host's name."""

from __future__ import annotations

from django.http import HttpRequest


def tenant_of(request: HttpRequest) -> str:
    return request.headers.get("X-Test-Tenant", "nobody")


def actor_of(request: HttpRequest) -> str:
    return "user:42"


def may(request: HttpRequest) -> list[str]:
    return ["*"]
