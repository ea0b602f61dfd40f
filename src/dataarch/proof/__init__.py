"""How we know: strategies for rows that must be accepted, and for each constraint a row that must be refused."""

from dataarch.proof.judge import Judge, Row, checks, stored
from dataarch.proof.refusals import constraints_in_database, refusals
from dataarch.proof.strategies import ledgers, rows, values
from dataarch.proof.violations import Violation, violations_of
from dataarch.proof.world import Placed, World, place

__all__ = [
    "Judge",
    "Placed",
    "Row",
    "Violation",
    "World",
    "checks",
    "constraints_in_database",
    "ledgers",
    "place",
    "refusals",
    "rows",
    "stored",
    "values",
    "violations_of",
]
