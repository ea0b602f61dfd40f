"""Everything that can go wrong, in one tree.

::

    DataArchError
    ├── ConfigurationError          what the caller set up cannot work (a command exits with 2)
    │   ├── DatabaseUrlMissing · InvalidUrl · EmbeddedServerError · InputMissing · DependencyMissing · ArchiveError
    ├── ServerError                 the server is not what we need, or cannot do it now
    │   ├── ServerUnreachable · ServerTooOld · SchemaNotMigrated · PrivilegeMissing · PartitionRefused · StatementLost
    │   ├── ClockImplausible · IndexDiffers · ReadOnlyUnit · DiskFull · NotVerified · BackfillChanged
    │   └── Retryable               the same work may succeed when it is tried again
    │       ├── LockTimeout · StatementTimeout · Deadlock · SerializationFailure · NoConnectionFree · PartitionMissing
    │       └── CacheUnreachable · PipelineBusy · BackfillBusy
    ├── TenancyError                a tenant's border would be crossed, or nobody said which tenant
    │   ├── TenantNotSet · TenantMismatch · TenantSwitchRefused · RoleBypassesRowSecurity
    ├── InvalidValue (ValueError)   refused in Python, before it reaches the server
    │   ├── InvalidText · InvalidEmail · InvalidSlug · InvalidMoney · InvalidJson · InvalidPartitioning · NaiveDatetime
    │   ├── InvalidCursor · PlanNotRun · InvalidChange
    │   └── InvalidPeriod: InvalidMonth
    ├── ConstraintError             refused by a constraint of the database
    │   ├── MissingValue            NOT NULL
    │   ├── DualWriteConflict       the old and the new form of a row say different things
    │   ├── AlreadyExists           UNIQUE: SlugTaken · EmailTaken · ExternalIdTaken · IdempotencyKeyReused
    │   ├── UnknownReference        FOREIGN KEY: UnknownTenant · UnknownUser · UnknownProduct
    │   │   └── UnknownReservation · UnknownRun · LedgerBroken
    │   └── CheckFailed             CHECK: InsufficientStock · StockOverflow · ReservationEnded · ReservationExpired
    ├── StaleRow                    somebody else has changed or removed the row since it was read
    └── FeedError                   a source of data cannot be read any further

Each error carries what it is about as attributes, so that a caller never has to read the message, and a message
says what happened, why it is refused and what to do. Errors of the database are told apart by SQLSTATE and by the
name of the constraint, never by their text.
"""

from __future__ import annotations

from typing import Any, ClassVar, TypedDict, Unpack
from uuid import UUID

from sqlalchemy.exc import DontWrapMixin

# fmt: off
__all__ = [
    "AlreadyExists", "ArchiveError", "BackfillBusy", "BackfillChanged", "CacheUnreachable", "CheckFailed",
    "ClockImplausible", "ConfigurationError", "ConstraintError", "DataArchError", "DatabaseUrlMissing", "Deadlock",
    "DependencyMissing", "DiskFull", "DualWriteConflict", "EmailTaken", "EmbeddedServerError", "ExternalIdTaken",
    "FeedError", "IdempotencyKeyReused", "IndexDiffers", "InputMissing", "InsufficientStock", "InvalidChange",
    "InvalidCursor", "InvalidEmail", "InvalidJson", "InvalidMoney", "InvalidMonth", "InvalidPartitioning",
    "InvalidPeriod", "InvalidSlug", "InvalidText", "InvalidUrl", "InvalidValue", "LedgerBroken", "LockTimeout",
    "MissingValue", "NaiveDatetime", "NoConnectionFree", "NotVerified", "PartitionMissing", "PartitionRefused",
    "PipelineBusy", "PlanNotRun", "PrivilegeMissing", "ReadOnlyUnit", "ReservationEnded", "ReservationExpired",
    "Retryable", "RoleBypassesRowSecurity", "SchemaNotMigrated", "SerializationFailure", "ServerError", "ServerTooOld",
    "ServerUnreachable", "SlugTaken", "StaleRow", "StatementLost", "StatementTimeout", "StockOverflow", "TenancyError",
    "TenantMismatch", "TenantNotSet", "TenantSwitchRefused", "UnknownProduct", "UnknownReference", "UnknownReservation",
    "UnknownRun", "UnknownTenant", "UnknownUser",
]
# fmt: on

SHOWN_VALUE_LENGTH = 80


class About(TypedDict, total=False):
    """What an error can be about; see :class:`DataArchError`."""

    table: str | None
    column: str | None
    constraint: str | None
    value: object
    tenant_id: UUID | None
    sqlstate: str | None


class DataArchError(Exception):
    """The root of everything that dataarch raises.

    Attributes:
        hint: what to do about it, as a sentence or a command; may be empty.
        table: name of the table it is about, if it is about one.
        column: name of the column, if it is about one.
        constraint: name of the constraint that refused, if one did.
        value: the value that was refused, if there is one.
        tenant_id: the tenant it is about, if it is about one.
        sqlstate: the five characters of PostgreSQL's error code, if it comes from there.
    """

    exit_code: ClassVar[int] = 1
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, hint: str | None = None, **about: Unpack[About]) -> None:
        self.message = message
        self.hint = self.default_hint if hint is None else hint
        self.table = about.get("table")
        self.column = about.get("column")
        self.constraint = about.get("constraint")
        self.value = about.get("value")
        self.tenant_id = about.get("tenant_id")
        self.sqlstate = about.get("sqlstate")
        super().__init__(f"{message} {self.hint}".strip())

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle and copy without calling ``__init__``: what it takes differs from class to class."""
        return _rebuilt, (type(self), self.args, self.__dict__)


def _rebuilt(kind: type[DataArchError], args: tuple[object, ...], state: dict[str, object]) -> DataArchError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


def shown(value: object) -> str:
    """Return a value as an error message may show it: escaped, on one line, and of bounded length."""
    text = ascii(value)
    return text if len(text) <= SHOWN_VALUE_LENGTH else f"{text[: SHOWN_VALUE_LENGTH - 1]}…"


# ── what the caller set up ────────────────────────────────────────────────────────────────────────────────────────


class ConfigurationError(DataArchError):
    """The settings cannot work as they are."""

    exit_code = 2


class DatabaseUrlMissing(ConfigurationError):
    """Nobody said where the database is."""

    default_hint = (
        "Set DATAARCH_DATABASE_URL, for example postgresql://dataarch_app@localhost/app, or start a server of your own "
        "with `dataarch server start`."
    )

    def __init__(self) -> None:
        super().__init__("No database is known: DATAARCH_DATABASE_URL is not set and no embedded server runs here.")


class InvalidUrl(ConfigurationError):
    """A URL in the settings names no server that dataarch can talk to."""

    default_hint = (
        "Write it as postgresql://user@host:5432/database, with special characters of a password percent-encoded."
    )


class EmbeddedServerError(ConfigurationError):
    """The embedded PostgreSQL or Valkey cannot be started, reached or stopped."""


class InputMissing(ConfigurationError):
    """A file or folder that should be read is not there, or holds nothing to read."""


class DependencyMissing(ConfigurationError):
    """An optional library is needed for this, and is not installed."""


class ArchiveError(ConfigurationError):
    """An archive of a partition cannot be written or read, or does not hold what it should."""


# ── the server ────────────────────────────────────────────────────────────────────────────────────────────────────


class ServerError(DataArchError):
    """The server cannot do what was asked."""


class ServerUnreachable(ServerError):
    """No connection could be made, or it broke."""

    default_hint = "Check that the server runs and that the URL names it: `dataarch server status`."


class ServerTooOld(ServerError):
    """The server is older than PostgreSQL 15."""

    default_hint = "Use PostgreSQL 15 to 18."


class SchemaNotMigrated(ServerError):
    """A table, column or function of this version of dataarch is not in the database."""

    default_hint = (
        "If it is one of dataarch's, run `alembic upgrade head` (or `dataarch upgrade`) as the owner; "
        "otherwise correct the statement."
    )


class PrivilegeMissing(ServerError):
    """The role may not do this."""

    default_hint = "Run migrations and maintenance as the owner: set DATAARCH_OWNER_URL."


class PartitionRefused(ServerError):
    """A partition cannot be made as things are: another lies in its way, or the transaction's snapshot is too old."""


class ClockImplausible(ServerError):
    """A clock is so far from what is in the tables, or from another clock, that nothing is done on its word."""

    default_hint = "Set the clocks of this machine and of the server right (NTP), then run it again."


class IndexDiffers(ServerError):
    """An index of this name is there already, with another definition or on another table."""

    default_hint = "Drop it, or give the new index another name."


class StatementLost(ServerError):
    """A prepared statement is not on the connection that a pooler such as PgBouncer chose for this transaction."""

    default_hint = "Behind PgBouncer in transaction mode, set DATAARCH_PREPARE_THRESHOLD=none."


class ReadOnlyUnit(ServerError):
    """Something was to be written in a unit of work that only reads, or on a server that follows another one."""

    default_hint = "Write it in a unit of work of its own, opened with `with db.tenant(tenant_id) as session:`."


class DiskFull(ServerError):
    """The server has no room left for what was to be written."""

    default_hint = "Make room on the server's disk, and run it again: what was committed stays."


class NotVerified(ServerError):
    """A change may not be completed: its old and its new form have not been compared, or differ."""


class BackfillChanged(ServerError):
    """A backfill is not what it was when it began."""


class Retryable(ServerError):
    """Nothing was written, and the same work may succeed when it is tried again."""

    default_hint = "Nothing was written: try the whole unit of work again."


class LockTimeout(Retryable):
    """A lock was not granted in time; an upgrade says in ``blockers`` who held it: pid, query, age and more."""

    blockers: tuple[Any, ...] = ()


class StatementTimeout(Retryable):
    """A statement ran longer than it may."""


class Deadlock(Retryable):
    """Two transactions waited for each other, and this one was ended."""


class SerializationFailure(Retryable):
    """A concurrent transaction changed what this one had read."""


class PartitionMissing(Retryable):
    """A row's period had no partition at this moment: it is being made, or the table has no catch-alls."""

    default_hint = "Try again; if it persists, run `dataarch partitions maintain`."


class NoConnectionFree(Retryable):
    """Every connection of the pool was in use for too long."""

    default_hint = "Raise DATAARCH_POOL_SIZE, or end units of work earlier; never open one inside another."


class PipelineBusy(Retryable):
    """Somebody else runs the same pipeline for the same tenant."""


class BackfillBusy(Retryable):
    """Others run the same backfill."""


class CacheUnreachable(Retryable):
    """The cache does not answer, and what was asked cannot do without it."""

    default_hint = "Check that Redis or Valkey runs and that DATAARCH_REDIS_URL names it: `dataarch server status`."


# ── tenancy ───────────────────────────────────────────────────────────────────────────────────────────────────────


class TenancyError(DataArchError):
    """A tenant's border."""


class TenantNotSet(TenancyError):
    """A statement on a tenant's table, and no tenant: refused before anything is sent."""

    default_hint = "Open the session with `with db.tenant(tenant_id) as session:`."


class TenantMismatch(TenancyError):
    """A row of another tenant was to be written."""

    default_hint = "Open a session for that tenant, or correct the row's tenant_id."


class TenantSwitchRefused(TenancyError):
    """A transaction belongs to one tenant from its beginning to its end."""

    default_hint = "Open a second session for the other tenant."


class RoleBypassesRowSecurity(TenancyError):
    """The role would see every tenant: a superuser, a role with BYPASSRLS, or the owner of the tables."""

    default_hint = (
        "Connect as dataarch_app, or set DATAARCH_ROLE=dataarch_app so that each transaction switches to it first."
    )


# ── values refused in Python ──────────────────────────────────────────────────────────────────────────────────────


class InvalidValue(DataArchError, ValueError, DontWrapMixin):
    """A value that its type refuses before it reaches the server."""


class InvalidText(InvalidValue):
    """Text that PostgreSQL cannot hold, or of the wrong length."""


class InvalidEmail(InvalidValue):
    """Not an e-mail address that can be written to."""


class InvalidSlug(InvalidValue):
    """Not a slug: 1 to 63 of a-z, 0-9 and single hyphens between them."""


class InvalidMoney(InvalidValue):
    """Not an exact amount of money."""


class InvalidJson(InvalidValue):
    """A value that would not come back from jsonb as it went in."""


class InvalidPartitioning(InvalidValue):
    """A model's declaration of its partitions that cannot work."""


class PlanNotRun(InvalidValue):
    """What was asked of a plan can only be measured, and it was made without running it."""

    default_hint = "Explain the statement with analyze=True; what it writes is undone."


class InvalidChange(InvalidValue):
    """A change of the schema that cannot be made as it was asked for."""


class InvalidCursor(InvalidValue):
    """A cursor that continues nothing here: damaged, or of another query, order, tenant, secret or version."""

    default_hint = "Begin again at the first page, without a cursor."


class InvalidPeriod(InvalidValue):
    """No day, week, month or year of the calendar, or one that gets no partition."""


class InvalidMonth(InvalidPeriod):
    """No month of the calendar, or one that gets no partition: before 1970 or more than 10 years ahead."""


class NaiveDatetime(InvalidValue):
    """A datetime without a UTC offset: nobody can say which instant it means."""

    default_hint = "Give it a zone, for example value.replace(tzinfo=datetime.UTC)."

    def __init__(self, value: object) -> None:
        super().__init__(f"The datetime {shown(value)} has no UTC offset, so it names no instant.", value=value)


# ── refused by the database ───────────────────────────────────────────────────────────────────────────────────────


class ConstraintError(DataArchError):
    """A constraint refused the row, and nothing was written."""


class MissingValue(ConstraintError):
    """A column that must have a value has none."""


class DualWriteConflict(ConstraintError):
    """A row was given an old and a new form that say different things."""


class AlreadyExists(ConstraintError):
    """Another row has this key already."""


class SlugTaken(AlreadyExists):
    """The tenant has a row with this slug already."""


class EmailTaken(AlreadyExists):
    """The tenant has a user with this e-mail address already."""


class ExternalIdTaken(AlreadyExists):
    """The tenant has a row with this external id already."""


class IdempotencyKeyReused(AlreadyExists):
    """A call's key was used before, for something else."""


class UnknownReference(ConstraintError):
    """The row refers to one that is not there, or one that others refer to was to be removed."""


class UnknownTenant(UnknownReference):
    """No such tenant."""


class UnknownUser(UnknownReference):
    """The tenant has no such user."""


class UnknownProduct(UnknownReference):
    """The tenant has no such product."""


class UnknownReservation(UnknownReference):
    """The tenant has no such reservation."""


class UnknownRun(UnknownReference):
    """The run of a pipeline that is referred to is not there, or belongs to another tenant."""


class LedgerBroken(UnknownReference):
    """A stock movement does not follow its predecessor, or the quantity on hand is not that of the last movement."""


class CheckFailed(ConstraintError):
    """A CHECK constraint refused the row."""


class InsufficientStock(CheckFailed):
    """More was asked for than is available, reserved for nobody; both numbers are None where only the server knows."""

    available: int | None = None
    asked: int | None = None


class StockOverflow(CheckFailed):
    """More would be on hand than a bigint holds."""


class ReservationEnded(CheckFailed):
    """A reservation was shipped or released already."""


class ReservationExpired(CheckFailed):
    """A reservation has expired, and its stock may have gone to somebody else."""


class StaleRow(DataArchError):
    """A row has been changed or removed since it was read: writing it would undo what somebody else has done."""

    default_hint = "Nothing of it was written: read the row again, and decide anew."


# ── sources ───────────────────────────────────────────────────────────────────────────────────────────────────────


class FeedError(DataArchError):
    """A source cannot be read any further; what was committed before stays.

    Attributes:
        source: name of the file or stream.
        line: the line where it went wrong, counted from 1; None if the whole source is meant.
    """

    def __init__(self, message: str, *, source: str, line: int | None = None, hint: str | None = None) -> None:
        self.source = source
        self.line = line
        super().__init__(message, hint=hint)
