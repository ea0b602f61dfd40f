"""Users with their profile and settings."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from dataarch.database.row_keys import row_id
from dataarch.models import User, UserProfile, UserSettings
from dataarch.repositories.queries import Queries
from dataarch.repositories.repository import Repository

__all__ = ["UserQueries", "UserRepository"]


class UserQueries(Queries[User]):
    """Reads of a tenant's users."""

    model = User

    def by_email(self, email: str) -> User | None:
        """Return the user with this e-mail address, or None; the address is normalised as when it is written.

        Raises:
            InvalidEmail: it is no address.
        """
        return self.find(email=email)

    def by_external_id(self, external_id: str) -> User | None:
        """Return the user whom another system knows by this id, or None."""
        return self.find(external_id=external_id)

    def profile(self, user_id: UUID | str) -> UserProfile | None:
        """Return what a user shows to others, or None where there is nothing."""
        return self.session.get(UserProfile, (self.tenant_id, row_id(user_id)))

    def settings(self, user_id: UUID | str) -> UserSettings | None:
        """Return what a user has chosen, or None where he has not."""
        return self.session.get(UserSettings, (self.tenant_id, row_id(user_id)))


class UserRepository(UserQueries, Repository[User]):
    """Reads and writes of a tenant's users."""

    def set_profile(self, user_id: UUID | str, **values: object) -> UserProfile:
        """Change a user's profile, made if there is none.

        Raises:
            UnknownUser: the tenant has no such user.
            StaleRow: somebody else changed it at the same moment.
            InvalidValue: an attribute that profiles have not, or a value that its column cannot hold.
        """
        row: UserProfile = self._set(UserProfile, user_id, values)
        return row

    def set_settings(self, user_id: UUID | str, **values: object) -> UserSettings:
        """Change a user's settings, made if there are none; as :meth:`set_profile`."""
        row: UserSettings = self._set(UserSettings, user_id, values)
        return row

    def _set(self, model: type[Any], user_id: UUID | str, values: dict[str, object]) -> Any:
        key = row_id(user_id)
        self._refuse_unfit(values, model)
        row = self.session.get(model, (self.tenant_id, key)) or model(user_id=key)
        with self.session.begin_nested():
            for name, value in values.items():
                setattr(row, name, value)
            self.session.add(row)
        return row
