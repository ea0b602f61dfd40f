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

from dataarch.errors.base import SHOWN_VALUE_LENGTH as SHOWN_VALUE_LENGTH
from dataarch.errors.base import DataArchError
from dataarch.errors.base import shown as shown
from dataarch.errors.configuration import (
    ConfigurationError,
    DatabaseUrlMissing,
    DependencyMissing,
    EmbeddedServerError,
    InputMissing,
    InvalidUrl,
)
from dataarch.errors.data import (
    AlreadyExists,
    CheckFailed,
    ConstraintError,
    EmailTaken,
    ExternalIdTaken,
    IdempotencyKeyReused,
    InsufficientStock,
    LedgerBroken,
    MissingValue,
    ReservationEnded,
    ReservationExpired,
    SlugTaken,
    StaleRow,
    StockOverflow,
    UnknownProduct,
    UnknownReference,
    UnknownReservation,
    UnknownRun,
    UnknownTenant,
    UnknownUser,
)
from dataarch.errors.partitions import ArchiveError, InvalidPartitioning, PartitionMissing, PartitionRefused
from dataarch.errors.pipelines import FeedError, PipelineBusy
from dataarch.errors.rollout import BackfillBusy, BackfillChanged, DualWriteConflict, InvalidChange, NotVerified
from dataarch.errors.server import (
    CacheUnreachable,
    ClockImplausible,
    Deadlock,
    DiskFull,
    IndexDiffers,
    LockTimeout,
    NoConnectionFree,
    PrivilegeMissing,
    ReadOnlyUnit,
    Retryable,
    SchemaNotMigrated,
    SerializationFailure,
    ServerError,
    ServerTooOld,
    ServerUnreachable,
    StatementLost,
    StatementTimeout,
)
from dataarch.errors.tenancy import (
    RoleBypassesRowSecurity,
    TenancyError,
    TenantMismatch,
    TenantNotSet,
    TenantSwitchRefused,
)
from dataarch.errors.values import (
    InvalidCursor,
    InvalidEmail,
    InvalidJson,
    InvalidMoney,
    InvalidMonth,
    InvalidPeriod,
    InvalidSlug,
    InvalidText,
    InvalidValue,
    NaiveDatetime,
    PlanNotRun,
)

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

# in logs, tracebacks and pickles a class goes by the path that programs import it from
for _name in __all__:
    globals()[_name].__module__ = __name__
