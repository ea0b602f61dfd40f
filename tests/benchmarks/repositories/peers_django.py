"""Django's ORM: unmanaged models on the tables that dataarch's revisions make, its settings in code."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import cache
from typing import Any

from benchmarks.repositories.peers_ground import ACTIVITY_COLUMNS, UPDATED, WANTED, Ground, minor
from benchmarks.repositories.peers_measure import Way, by, needed

__all__ = ["ingest", "latest", "upsert"]


@cache
def _models() -> tuple[Any, Any]:
    """Return the models of activities and of products; once, as Django has one registry a process."""
    needed("django.conf").settings.configure(USE_TZ=True, TIME_ZONE="UTC", LOGGING_CONFIG=None)
    needed("django").setup()
    models = needed("django.db.models")

    def model(title: str, table: str, /, **fields: Any) -> Any:
        meta = type("Meta", (), {"managed": False, "db_table": table, "app_label": "peers"})
        return type(models.Model)(title, (models.Model,), {"__module__": __name__, "Meta": meta, **fields})

    activity = model(
        "Activity",
        "user_activity_log",
        pk=models.CompositePrimaryKey("tenant_id", "id", "created_at"),
        tenant_id=models.UUIDField(),
        id=models.UUIDField(),
        user_id=models.UUIDField(),
        activity_type=models.TextField(),
        metadata=models.JSONField(),
        created_at=models.DateTimeField(),
    )
    product = model(
        "Product",
        "products",
        pk=models.CompositePrimaryKey("tenant_id", "id"),
        tenant_id=models.UUIDField(),
        id=models.UUIDField(),
        slug=models.TextField(),
        external_id=models.TextField(),
        name=models.TextField(),
        price=models.BigIntegerField(),
        currency=models.TextField(),
        created_at=models.DateTimeField(),
        updated_at=models.DateTimeField(),
    )
    return activity, product


def _opened(stack: ExitStack, ground: Ground) -> tuple[Any, Any]:
    """Return the models, connected as the owner for as long as the stack lasts."""
    needed("django")
    found = _models()
    connections = needed("django.db").connections
    names = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD", "dbname": "NAME"}
    login = {names[name]: value for name, value in ground.login().items()}
    # each work has a database of its own, and Django reads its settings but once
    connections.settings = connections.configure_settings(
        {"default": {"ENGINE": "django.db.backends.postgresql", **login}}
    )

    def closed() -> None:
        connections["default"].close()
        del connections["default"]

    stack.callback(closed)
    return found


def ingest(stack: ExitStack, ground: Ground) -> Sequence[Way]:
    """bulk_create."""
    activity, _ = _opened(stack, ground)
    atomic = needed("django.db.transaction").atomic

    def created() -> None:
        with atomic():
            activity.objects.bulk_create([activity(**row) for row in ground.rows])

    return [by("Django, bulk_create", created)]


def latest(stack: ExitStack, ground: Ground) -> Sequence[Way]:
    """A query set, as objects and as rows."""
    activity, _ = _opened(stack, ground)
    stack.enter_context(needed("django.db.transaction").atomic())

    def mine() -> Any:
        found = activity.objects.filter(tenant_id=ground.tenant_id, user_id=ground.user_id)
        return found.order_by("-created_at")

    return [
        by("Django, objects", lambda: list(mine()[:WANTED])),
        by("Django, values_list", lambda: list(mine().values_list(*ACTIVITY_COLUMNS)[:WANTED])),
    ]


def upsert(stack: ExitStack, ground: Ground) -> Sequence[Way]:
    """bulk_create(update_conflicts=True)."""
    _, product = _opened(stack, ground)
    atomic = needed("django.db.transaction").atomic
    rows = minor(ground.rows)

    def created() -> None:
        with atomic():
            product.objects.bulk_create(
                [product(**row) for row in rows],
                update_conflicts=True,
                unique_fields=["tenant_id", "external_id"],
                update_fields=UPDATED,
            )

    return [by("Django, bulk_create(update_conflicts)", created)]
