"""Whatever old and new writers do, by whatever way, each row says the same in both forms, and what was written last."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from dataarch.rollout.dual_write import DualWrite
from fixtures.dual_writes import Ground

WRITE = DualWrite(
    "people_whole",
    "people",
    {"whole": "CASE WHEN num_nulls(first, last) < 2 THEN concat(first, '/', last) END", "wide": "small"},
    {
        "first": "nullif(split_part(whole, '/', 1), '')",
        "last": "nullif(split_part(whole, '/', 2), '')",
        "small": "wide::int",
    },
)

TABLE = """
    CREATE TABLE people (id int PRIMARY KEY, first text, last text, whole text, small int, wide bigint, seen int)
    PARTITION BY RANGE (id);
    CREATE TABLE people_low PARTITION OF people FOR VALUES FROM (0) TO (2);
    CREATE TABLE people_high PARTITION OF people FOR VALUES FROM (2) TO (9)
"""

FOUND = "SELECT id, first, last, whole, small, wide FROM people"

NAMES = st.sampled_from([None, "Ann", "Bob", "o'Hara", "é"])
NUMBERS = st.sampled_from([None, 0, 1, -7])
KEYS = st.integers(0, 3)
WAYS = st.sampled_from(["insert", "copy", "upsert", "update", "touch", "move", "delete"])

Person = tuple[str | None, str | None, int | None]


@dataclass(frozen=True)
class Step:
    """One statement of a writer who knows one form, or both."""

    way: str
    key: int
    form: str
    person: Person

    def values(self) -> dict[str, str | int | None]:
        """Return what the writer gives, by column."""
        first, last, number = self.person
        whole = None if first is None and last is None else f"{first or ''}/{last or ''}"
        old: dict[str, str | int | None] = {"first": first, "last": last, "small": number}
        new: dict[str, str | int | None] = {"whole": whole, "wide": number}
        return {**(old if self.form != "new" else {}), **(new if self.form != "old" else {})}


STEPS = st.lists(
    st.builds(Step, WAYS, KEYS, st.sampled_from(["old", "new", "both"]), st.tuples(NAMES, NAMES, NUMBERS)),
    min_size=1,
    max_size=25,
)


def literal(value: str | int | None) -> str:
    return "NULL" if value is None else str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


def statement(step: Step) -> str:
    """Return the statement of a step, but for COPY."""
    values = step.values()
    columns, given = ", ".join(values), ", ".join(map(literal, values.values()))
    insert = f"INSERT INTO people (id, {columns}) VALUES ({step.key}, {given})"
    return {
        "insert": f"{insert} ON CONFLICT DO NOTHING",
        "upsert": f"{insert} ON CONFLICT (id) DO UPDATE SET ({columns}) = ROW({given})",
        "update": f"UPDATE people SET ({columns}) = ROW({given}) WHERE id = {step.key}",
        "touch": f"UPDATE people SET seen = coalesce(seen, 0) + 1, {columns.split(', ')[0]} = {columns.split(', ')[0]}",
        # keys 0 and 1 go to the other partition
        "move": f"UPDATE people SET id = {step.key + 4} WHERE id = {step.key}"
        f" AND NOT EXISTS (SELECT FROM people WHERE id = {step.key + 4})",
        "delete": f"DELETE FROM people WHERE id = {step.key}",
    }[step.way]


def expected(people: dict[int, Person], step: Step) -> None:
    """Do the same to what the table should hold."""
    if step.way in {"insert", "copy"}:
        people.setdefault(step.key, step.person)
    elif step.way == "upsert" or (step.way == "update" and step.key in people):
        people[step.key] = step.person
    elif step.way == "move" and step.key in people and step.key + 4 not in people:
        people[step.key + 4] = people.pop(step.key)
    elif step.way == "delete":
        people.pop(step.key, None)


@given(STEPS)
def test_any_sequence_of_writers_leaves_every_row_consistent_and_as_it_was_written_last(
    ground: Ground, steps: list[Step]
) -> None:
    with ground.connection.transaction(force_rollback=True):
        ground.run(TABLE)
        ground.make(WRITE)
        people: dict[int, Person] = {}
        for step in steps:
            if step.way == "copy" and step.key not in people:
                ground.copy(f"people (id, {', '.join(step.values())})", [[step.key, *step.values().values()]])
            elif step.way != "copy":
                ground.run(statement(step))
            expected(people, step)
        found = {row[0]: row[1:] for row in ground.rows(FOUND)}
        assert found == {key: _as_stored(person) for key, person in people.items()}
        assert ground.rows(f"SELECT id FROM people WHERE ({WRITE.consistent_sql()}) IS NOT TRUE") == []


def _as_stored(person: Person) -> tuple[str | int | None, ...]:
    first, last, number = person
    whole = None if first is None and last is None else f"{first or ''}/{last or ''}"
    return first, last, whole, number, number
