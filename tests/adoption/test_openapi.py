"""The OpenAPI documents of the sample applications: valid, complete, and true of what the applications answer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation.modes import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)
from tests.adoption.apps import fastapi_app, litestar_app
from tests.adoption.apps.backoffice import Tokens
from tests.adoption.serving import served

from tallystick import Application, Loan, PageQuery, Tallystick, User, usd
from tallystick.testing.factories import Make
from tallystick.testing.recipes import active_loan

EXAMPLES = int(os.environ.get("TALLYSTICK_SOAK_SCHEMATHESIS", "4"))
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
APPS = {"fastapi": (fastapi_app.make_app, "/openapi.json"), "litestar": (litestar_app.make_app, "/schema/openapi.json")}


@pytest.fixture(scope="module", params=sorted(APPS))
async def site(request: pytest.FixtureRequest, tally: Tallystick) -> AsyncIterator[dict[str, Any]]:
    make_app, where = APPS[request.param]
    tokens, slug = Tokens(), f"open-{uuid4().hex[:12]}"
    await tally.tenants.create(slug, name="A lender")
    async with tally.session(slug, actor="test", permissions=["*"]) as db:
        make = Make(db, seed="openapi")
        loan = await active_loan(make, outstanding=usd("1000000"))
        user = await make(User)
    headers = tokens.issue("token", slug, "user:clerk", "*")
    async with served(make_app(tally, tokens)) as url, httpx.AsyncClient(base_url=url, headers=headers) as client:
        document = (await client.get(where)).json()
        yield {"url": url, "document": document, "headers": headers, "ids": (loan.id, user.id), "name": request.param}


def test_the_document_lists_every_parameter_with_its_type(site: dict[str, Any]) -> None:
    document = site["document"]
    operation = document["paths"]["/loans"]["get"]
    offered = {p["name"]: p["schema"] for p in operation["parameters"] if p["in"] == "query"}
    assert set(offered) == set(Loan.Filter._tally_plan) | {f.name for f in msgspec.structs.fields(PageQuery)}
    assert "uuid" in str(offered["borrower_in"])
    assert "array" in str(offered["status_in"])
    assert "closed" in str(offered["status"]) or "$ref" in str(offered["status"])
    new = document["components"]["schemas"]["ApplicationNew"]
    assert set(new["properties"]) == set(Application.New.__struct_fields__)
    assert new.get("additionalProperties") is False
    assert not {"id", "tenant_id", "version", "status", "credit_score", "decided_at"} & set(new["properties"])
    for path in document["paths"].values():
        for one in path.values():
            assert "application/problem+json" in one["responses"]["4XX"]["content"]


def _attack(site: dict[str, Any], path: str, method: str, mode: GenerationMode) -> int:
    schema = schemathesis.openapi.from_dict(site["document"])
    schema.config.update(base_url=site["url"])
    operation = schema[path][method]
    sent = 0
    # In a query string everything is text: an array of one text cannot be told from the boolean that was sent.
    judged = mode is GenerationMode.NEGATIVE and method in ("post", "patch")
    checks = [*CHECKS, negative_data_rejection] if judged else CHECKS

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def attack(case: Any) -> None:
        nonlocal sent
        sent += 1
        if "id" in (case.path_parameters or {}) and mode is GenerationMode.POSITIVE:
            case.path_parameters["id"] = str(site["ids"]["users" in path])
        response = case.call(headers=site["headers"])
        case.validate_response(response, checks=checks)

    attack()
    return sent


async def test_no_request_meets_a_server_error_or_an_undocumented_answer(site: dict[str, Any]) -> None:
    sent = 0
    for path, operations in site["document"]["paths"].items():
        for method, operation in operations.items():
            for mode in GenerationMode:
                takes = operation.get("requestBody") or operation.get("parameters")
                if path == "/loans/export" or (mode is GenerationMode.NEGATIVE and not takes):
                    continue
                sent += await asyncio.to_thread(_attack, site, path, method, mode)
    assert sent >= EXAMPLES * 8
