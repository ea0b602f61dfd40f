"""The tree of errors: drawn as it is, complete, and safe to copy and to send to another process."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from uuid import UUID

import pytest

from dataarch import errors
from dataarch.errors import DataArchError, InvalidValue, Retryable, ServerError, shown

CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, DataArchError) and kind.__module__ == errors.__name__
}

TENANT = UUID("01a20891-88ba-70f6-855a-5949d26d70e5")

ONE_OF_EACH: dict[str, DataArchError] = {
    "DatabaseUrlMissing": errors.DatabaseUrlMissing(),
    "NaiveDatetime": errors.NaiveDatetime("2026-01-01"),
    "FeedError": errors.FeedError("Broken.", source="retail.csv", line=7, hint="Mend it."),
} | {
    name: kind(
        "What happened.",
        table="users",
        column="email",
        constraint="uq_users",
        value=7,
        tenant_id=TENANT,
        sqlstate="23505",
    )
    for name, kind in CLASSES.items()
    if kind.__init__ is DataArchError.__init__
}


# ── the drawing ───────────────────────────────────────────────────────────────────────────────────────────────────


def drawn() -> Iterator[tuple[str, str]]:
    """Give each class of the drawing with the parent that it is drawn under."""
    above: list[tuple[int, str]] = [(-1, "")]
    for line in (errors.__doc__ or "").split("::")[1].splitlines():
        names = [name for name in re.findall(r"[A-Za-z]+", line) if name in CLASSES]
        if not names:
            continue
        depth = line.index(names[0])
        while above[-1][0] >= depth:
            above.pop()
        yield names[0], above[-1][1]
        # after "UNIQUE:" come children, after "·" come brothers
        parent = names[0] if ": " in line else above[-1][1]
        yield from ((name, parent) for name in names[1:])
        above.append((depth, names[0]))


def test_the_drawing_at_the_top_of_the_file_is_the_tree() -> None:
    real = {
        name: next((base.__name__ for base in kind.__bases__ if base.__name__ in CLASSES), "")
        for name, kind in CLASSES.items()
    }
    pairs = list(drawn())
    assert len(pairs) == len(dict(pairs)), "a class is drawn twice"
    assert dict(pairs) == real


def test_every_class_is_exported_in_order_and_explains_itself() -> None:
    assert errors.__all__ == sorted(CLASSES)
    for name, kind in CLASSES.items():
        assert kind.__doc__, name
        assert kind.__doc__.rstrip().endswith((".", ":", "meant.")) or "Attributes" in kind.__doc__, name


def test_every_class_is_built_here() -> None:
    assert ONE_OF_EACH.keys() == CLASSES.keys()


def test_a_value_that_python_refuses_is_a_value_error_and_only_that() -> None:
    for kind in CLASSES.values():
        assert issubclass(kind, ValueError) == issubclass(kind, InvalidValue)


def test_what_may_be_tried_again_is_an_error_of_the_server() -> None:
    assert issubclass(Retryable, ServerError)
    assert {kind.__name__ for kind in CLASSES.values() if issubclass(kind, Retryable)} == {
        "BackfillBusy", "CacheUnreachable", "Deadlock", "LockTimeout", "NoConnectionFree", "PartitionMissing",
        "PipelineBusy", "Retryable", "SerializationFailure", "StatementTimeout",
    }  # fmt: skip


def test_a_wrong_configuration_ends_a_command_with_2_and_all_else_with_1() -> None:
    for kind in CLASSES.values():
        assert kind.exit_code == (2 if issubclass(kind, errors.ConfigurationError) else 1)


# ── what an error carries ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_text_of_an_error_is_its_message_and_its_hint() -> None:
    error = errors.SlugTaken("What happened.", hint="What to do.")
    assert str(error) == "What happened. What to do."
    assert (error.message, error.hint) == ("What happened.", "What to do.")


def test_a_hint_may_be_left_out_but_not_by_accident() -> None:
    assert str(errors.TenantNotSet("No tenant.", hint="")) == "No tenant."
    assert errors.TenantNotSet("No tenant.").hint == errors.TenantNotSet.default_hint


@pytest.mark.parametrize("name", sorted(CLASSES))
@pytest.mark.parametrize("way", ["pickle", "copy", "deepcopy"])
def test_a_copy_is_the_same_in_text_and_attributes(name: str, way: str) -> None:
    error = ONE_OF_EACH[name]
    ways = {"pickle": lambda one: pickle.loads(pickle.dumps(one)), "copy": copy.copy, "deepcopy": copy.deepcopy}
    again = ways[way](error)
    assert type(again) is type(error)
    assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))


def raise_in_another_process(name: str) -> None:
    raise ONE_OF_EACH[name]


def test_an_error_of_another_process_arrives_as_it_was() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for name in ("SlugTaken", "DatabaseUrlMissing", "NaiveDatetime", "FeedError"):
            error = pool.submit(raise_in_another_process, name).exception()
            assert type(error) is CLASSES[name]
            assert str(error) == str(ONE_OF_EACH[name])


def test_a_value_is_shown_escaped_on_one_line_and_not_at_length() -> None:
    assert shown("a\nb\x1b[31m\u202e") == r"'a\nb\x1b[31m\u202e'"
    assert len(shown("x" * 1000)) == errors.SHOWN_VALUE_LENGTH
