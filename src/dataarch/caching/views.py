"""What the layers give: frozen values, the same whether they come from the database or from the cache."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

__all__ = ["SessionView"]


class SessionView(msgspec.Struct, frozen=True):
    """A user's session, without its token.

    Attributes:
        tenant_id: whose user it is.
        user_id: who is signed in.
        data: what the program keeps with it, as JSON.
        created_at: when the user signed in.
        seen_at: when the session was last touched, to the precision of ``touch_every``.
        expires_at: when it ends, however much it is used.
    """

    tenant_id: UUID
    user_id: UUID
    data: Any
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
