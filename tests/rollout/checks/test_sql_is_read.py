"""Whatever SQL a revision sends, it is read to its end: never an error, never a word out of a text or a comment."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataarch.rollout.checks.catalog import dropped_columns, foreign_keys_in, indexes_in, keys_in
from dataarch.rollout.checks.tokens import name_of, pieces, statements
from rollout.checks.lint_support import Folder

KEYWORDS = """
create alter drop table index unique primary key foreign references add column constraint check on using only if not
exists unlogged temporary partition of by policy type as enum concurrently do $$ begin then end rename update delete
from insert into select set null cascade conflict detach trigger schema truncate ( ) , ; . a b "A" 'x' -- /* */
"""
WORDS = st.sampled_from([*KEYWORDS.split(), '"A b"', "\n"])

HEADS = """
create unlogged;create table;create table if not exists;create index;create unique index concurrently i on;alter table
only;create index i on a using;alter table a add;alter table a drop;alter table a add constraint c;create policy p on a;
drop table if exists;update only;delete from;insert into;create trigger;create type;create table a partition of;do
$$ begin
"""
STATEMENTS = st.builds("{} {}".format, st.sampled_from(HEADS.split(";")), st.lists(WORDS, max_size=12).map(" ".join))
SCRIPTS = st.lists(STATEMENTS, max_size=4).map(" ; ".join)


@given(SCRIPTS)
def test_any_words_are_read(sql: str) -> None:
    for words in statements(sql):
        assert words
        for read in (keys_in, foreign_keys_in, indexes_in, dropped_columns):
            list(read(words))


@given(st.text())
def test_any_text_is_read(sql: str) -> None:
    assert all(words for words in statements(sql))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(Path(tmp_path_factory.mktemp("lint")) / "revisions")


@given(sql=SCRIPTS)
def test_any_revision_is_checked(folder: Folder, sql: str) -> None:
    while len(folder.written) > 1:
        folder.written.pop().unlink()
    # a file of the same second and length would be taken for the same one
    shutil.rmtree(folder.folder / "versions" / "__pycache__", ignore_errors=True)
    folder.write(f"op.execute({sql.replace(':', ' ')!r})", f"op.execute({sql!r})")
    folder.found(citus=True)


def test_words_of_texts_comments_and_functions_are_no_statements() -> None:
    sql = """
        SELECT 'DROP TABLE a;' /* ; DROP TABLE b; */ -- ; DROP TABLE c;
        ; CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $f$ DROP TABLE d; $f$;
        DO $x$ BEGIN IF true THEN DROP TABLE e; ELSE DELETE FROM "F ""g"; END IF; END $x$
    """
    firsts = [words[:2] for words in statements(sql)]
    assert firsts.count(["drop", "table"]) == 1
    assert ["delete", "from"] in firsts
    (deleted,) = [words for words in statements(sql) if words[:2] == ["delete", "from"]]
    assert name_of(deleted[2:]) == 'F "g'


def test_what_parentheses_list_is_split_at_its_own_commas_alone() -> None:
    (words,) = statements("CREATE TABLE s.t (a numeric(10, 2), b int CHECK (b IN (1, 2)))")
    assert [name_of(piece[:1]) for piece in pieces(words)] == ["a", "b"]
    assert name_of(words[2:]) == "t"
