"""Views: plain functions through the synchronous facade, and one that awaits."""

from __future__ import annotations

from typing import TypeVar
from uuid import UUID

import msgspec
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse

from tallystick import Invalid, User, desc, usd
from tallystick.web.django import async_db, get_db

T = TypeVar("T")


class NewPerson(msgspec.Struct, forbid_unknown_fields=True):
    first_name: str
    last_name: str | None = None


class Payment(msgspec.Struct, forbid_unknown_fields=True):
    amount: str


def people(request: HttpRequest) -> HttpResponse:
    db = get_db(request)
    if request.method == "POST":
        made = db.users.add(User(first_name=read(request, NewPerson).first_name))
        return JsonResponse({"id": str(made.id)}, status=201)
    page = db.users.page(order=desc(User.created_at), limit=2, after=request.GET.get("after"))
    return JsonResponse({"items": [str(u.id) for u in page], "next": page.next})


def person(request: HttpRequest, id: UUID) -> HttpResponse:
    found = get_db(request).users.get(id)
    return JsonResponse({"id": str(found.id), "status": found.status})


async def person_later(request: HttpRequest, id: UUID) -> HttpResponse:
    async with async_db(request) as db:
        found = await db.users.get(id)
    return JsonResponse({"id": str(found.id), "status": found.status})


def payments(request: HttpRequest, id: UUID) -> HttpResponse:
    receipt = get_db(request).loans.repay(
        id, usd(read(request, Payment).amount), key=request.headers["Idempotency-Key"]
    )
    return JsonResponse({"replayed": receipt.replayed}, status=200 if receipt.replayed else 201)


def signup(request: HttpRequest) -> HttpResponse:
    """Two databases: Django's commits first, and only then is there something to tell Tallystick."""
    db, name = get_db(request), read(request, NewPerson).first_name
    with transaction.atomic():
        transaction.on_commit(lambda: db.users.add(User(first_name=name)))
        if name == "Nobody":
            raise Invalid("Nobody cannot sign up.", remedy="Give a name.")
    return JsonResponse({}, status=201)


def bug(request: HttpRequest) -> HttpResponse:
    with get_db(request).transaction():
        get_db(request).users.add(User(first_name="Lost"))
        raise ZeroDivisionError


def read(request: HttpRequest, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(request.body, type=kind)
    except msgspec.DecodeError:
        pass
    raise Invalid("The body is not what this takes.", remedy="Send the JSON that the documentation shows.")
