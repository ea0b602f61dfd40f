"""How we ask: one file for each entity, reads in ``XQueries`` and writes in ``XRepository(XQueries)``; never a commit.

::

    with db.tenant(tenant_id) as session:
        products = ProductRepository(session)
        products.add(Product(slug="cup", name="Cup", price=Decimal("4.50"), currency="GBP"))
        products.update(products.by_slug("cup").id, price=Decimal("4.75"))
"""

from dataarch.repositories.activities import ActivityQueries, ActivityRepository
from dataarch.repositories.bulk.ingest import ingest
from dataarch.repositories.bulk.outcome import BulkResult, Refused
from dataarch.repositories.counts import Count
from dataarch.repositories.inventory import InventoryQueries, InventoryRepository
from dataarch.repositories.pages import Page
from dataarch.repositories.products import ProductQueries, ProductRepository
from dataarch.repositories.queries import Queries
from dataarch.repositories.repository import AppendRepository, Repository
from dataarch.repositories.stock_results import Move, Moved, Reservation, Stock
from dataarch.repositories.tenants import TenantQueries, TenantRepository
from dataarch.repositories.users import UserQueries, UserRepository

__all__ = [
    "ActivityQueries",
    "ActivityRepository",
    "AppendRepository",
    "BulkResult",
    "Count",
    "InventoryQueries",
    "InventoryRepository",
    "Move",
    "Moved",
    "Page",
    "ProductQueries",
    "ProductRepository",
    "Queries",
    "Refused",
    "Repository",
    "Reservation",
    "Stock",
    "TenantQueries",
    "TenantRepository",
    "UserQueries",
    "UserRepository",
    "ingest",
]
