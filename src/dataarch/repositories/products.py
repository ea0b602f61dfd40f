"""Products: found by id, slug or the id of another system."""

from __future__ import annotations

from dataarch.models import Product
from dataarch.repositories.queries import Queries
from dataarch.repositories.repository import Repository

__all__ = ["ProductQueries", "ProductRepository"]


class ProductQueries(Queries[Product]):
    """Reads of a tenant's products."""

    model = Product

    def by_slug(self, slug: str) -> Product | None:
        """Return the product with this slug, or None."""
        return self.find(slug=slug)

    def by_external_id(self, external_id: str) -> Product | None:
        """Return the product that another system knows by this id, or None."""
        return self.find(external_id=external_id)


class ProductRepository(ProductQueries, Repository[Product]):
    """Reads and writes of a tenant's products."""
