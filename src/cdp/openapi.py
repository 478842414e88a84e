"""The OpenAPI document: what FastAPI knows, the tokens, the one error shape, the ingest routes.

The ingest routes are served before FastAPI sees them, so they are described here by hand.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from cdp.access.guard import GuardedRoute
from cdp.openapi_records import RECORD_SCHEMAS, TIME

_ERROR = {
    "type": "object",
    "required": ["code", "message", "details"],
    "properties": {
        "code": {"type": "string", "description": "Stable, snake_case."},
        "message": {"type": "string", "description": "What to do about it."},
        "details": {"type": "object", "description": "`path` points at the mistake."},
    },
}
_ANSWER = {
    "type": "object",
    "required": ["success", "accepted", "rejected", "receipt"],
    "properties": {
        "success": {"type": "boolean"},
        "accepted": {"type": "integer", "description": "Elements not in `rejected`."},
        "rejected": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "index": {"type": "integer"},
                    "messageId": {"type": ["string", "null"]},
                    "code": {"type": "string"},
                    "message": {"type": "string"},
                },
            },
        },
        "receipt": {"type": "string", "description": "For `GET /v1/receipts/{receipt}`."},
    },
}
_EVENT = {
    "type": "object",
    "description": "As Segment's and RudderStack's SDKs send it.",
    "properties": {
        "type": {"enum": ["track", "identify", "page", "screen", "group", "alias"]},
        "messageId": {"type": "string"},
        "userId": {"type": ["string", "integer", "null"]},
        "anonymousId": {"type": ["string", "integer", "null"]},
        "timestamp": TIME,
        "event": {"type": "string"},
        "properties": {"type": "object"},
        "traits": {"type": "object"},
        "context": {"type": "object"},
    },
}
_BATCH = {
    "type": "object",
    "required": ["batch"],
    "properties": {
        "batch": {"type": "array", "items": {"$ref": "#/components/schemas/Event"}},
        "sentAt": TIME,
        "writeKey": {"type": "string"},
        "context": {"type": "object", "description": "Merged into every element."},
    },
}
_SINGLE_CALLS = ("track", "identify", "page", "screen", "group", "alias")
_SINGLE_LETTERS = ("t", "i", "p", "s", "g", "a")
_BATCH_CALLS = ("batch", "import", "b")


def install_openapi(app: FastAPI, routes: list[GuardedRoute], *, with_ingest: bool) -> None:
    """Let ``app`` describe itself and, if told so, the ingest routes. The result is kept."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
            )
            _add_schemas(document)
            _describe_access(document, routes)
            if with_ingest:
                for path, operations in _ingest_paths().items():
                    # Accounts are posted to ingest and listed by the api.
                    document["paths"].setdefault(path, {}).update(operations)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]


def _add_schemas(document: dict[str, Any]) -> None:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas |= {"Error": _ERROR, "Accepted": _ANSWER, "Event": _EVENT, "Batch": _BATCH}
    schemas |= RECORD_SCHEMAS
    components["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "`cdp_…`, with scopes."},
        "write_key": {
            "type": "http",
            "scheme": "basic",
            "description": "A source's write key as user name; or in the body or query.",
        },
    }


def _describe_access(document: dict[str, Any], routes: list[GuardedRoute]) -> None:
    """Say of every operation which scopes it needs, and that errors have one shape."""
    needed = {
        (route.template, method.lower()): route.scopes
        for route in routes
        for method in route.methods
    }
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = _refer("Any error.", "Error")
            scopes = needed.get((path, method))
            if scopes is not None:
                operation["security"] = [{"token": []}]
                operation["x-scopes"] = list(scopes)


def _ingest_paths() -> dict[str, Any]:
    paths = {f"/v1/{call}": _ingest_post("Event") for call in (*_SINGLE_CALLS, *_SINGLE_LETTERS)}
    paths |= {f"/v1/{call}": _ingest_post("Batch") for call in _BATCH_CALLS}
    paths |= {f"/v1/{name.lower()}": _post_records(name) for name in ("Orders", "Accounts")}
    return paths | {"/v1/hooks/{source_id}": _post_hook()}


def _post_hook() -> dict[str, Any]:
    path = _ingest_post("Accepted")
    operation = path["post"]
    operation["summary"] = "Take what a shop sends by itself, signed with the source's secret."
    operation["security"] = []
    operation["responses"]["401"] = _refer("Not signed with the source's secret.", "Error")
    # Shops are not held to a rate.
    del operation["responses"]["429"]
    operation["parameters"] = [
        {"name": "source_id", "in": "path", "required": True, "schema": {"type": "string"}}
    ]
    operation["requestBody"]["content"] = {"application/json": {"schema": {}}}
    return path


def _post_records(schema: str) -> dict[str, Any]:
    path = _ingest_post(schema)
    path["post"]["summary"] = f"Post up to 1,000 {schema.lower()}; not with a web or app key."
    content = path["post"]["requestBody"]["content"]
    content["application/x-ndjson"] = {"schema": {"type": "string"}}
    return path


def _ingest_post(schema: str) -> dict[str, Any]:
    return {
        "post": {
            "tags": ["ingest"],
            "summary": f"Post one {schema.lower()}, as the SDKs do.",
            "security": [{"write_key": []}],
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}
                },
            },
            "responses": {
                "200": _refer("The log has it; single elements may be rejected.", "Accepted"),
                "400": _refer("The body cannot be read at all.", "Error"),
                "401": _refer("No such write key.", "Error"),
                "413": _refer("Too large when unpacked; split it.", "Error"),
                "429": _refer_later("This key sends too much; nothing was taken."),
                "503": _refer_later("Not now; nothing was taken."),
                "default": _refer("Any error.", "Error"),
            },
        }
    }


def _refer_later(text: str) -> dict[str, Any]:
    seconds = {"description": "Seconds.", "required": True, "schema": {"type": "integer"}}
    return _refer(text, "Error") | {"headers": {"Retry-After": seconds}}


def _refer(text: str, schema: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": text, "content": content}
