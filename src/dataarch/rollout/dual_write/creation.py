"""Make a dual write: a block of PL/pgSQL that asks the server for what only it knows, and makes functions and trigger.

Each expression becomes an SQL function with a parsed body, ``RETURN …``: its names are looked up once, by the search
path of the revision, and the server puts its body in the place of the call, so that a row pays nothing for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dataarch.partitions.quoting import ident, literal
from dataarch.rollout.dual_write.body import body
from dataarch.rollout.dual_write.expressions import names_in
from dataarch.rollout.dual_write.forms import Forms
from dataarch.rollout.dual_write.marks import DIGEST, MARK, UNMAKEABLE, drop_functions, mark_of

__all__ = ["creation"]

DECLARATIONS = """
    home text := (SELECT pg_catalog.quote_ident(nspname) FROM pg_catalog.pg_class
                  JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace WHERE pg_class.oid = place);
    path text := pg_catalog.current_setting('search_path');
    parts text[];
    absent text[] := ARRAY[NULL, NULL];
    same text[] := ARRAY[NULL, NULL];
    target record;
    col record;
    call text;
    one text;
    condition text;
    constant boolean;
    digest text;
"""

COLUMN = """
        -- type, default and comparison are put down for a search path of pg_catalog alone
        PERFORM pg_catalog.set_config('search_path', 'pg_catalog', true);
        SELECT quote_ident(attname) AS name,
               format_type(atttypid, NULL) AS plain, format_type(atttypid, atttypmod) AS typ,
               attgenerated <> '' AS generated, attidentity <> '' OR EXISTS (
                   SELECT FROM pg_depend JOIN pg_class ON pg_class.oid = refobjid AND relkind = 'S'
                   WHERE classid = 'pg_attrdef'::regclass AND objid = pg_attrdef.oid
                     AND refclassid = 'pg_class'::regclass) AS numbered,
               coalesce(pg_get_expr(adbin, adrelid), pg_get_expr(typdefaultbin, 0)) AS otherwise,
               atttypmod >= 0 AND (SELECT e.typcategory FROM pg_type AS e
                                   WHERE e.oid = CASE t.typcategory WHEN 'A' THEN t.typelem ELSE t.oid END)
                   NOT IN ('S', 'V') AS rounded,
               CASE WHEN attcollation <> 0 THEN '::pg_catalog.text COLLATE pg_catalog."C"' ELSE '' END AS compared
        INTO col
        FROM pg_attribute JOIN pg_type AS t ON t.oid = atttypid
        LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum AND attgenerated = ''
        WHERE attrelid = place AND attnum > 0 AND NOT attisdropped AND attname = target.name;
        IF col.name IS NULL THEN
            RAISE EXCEPTION USING ERRCODE = '{unmakeable}', TABLE = {table},
                MESSAGE = format('%s has no column %s', place, target.name),
                HINT = 'Add it first: the trigger writes it.';
        END IF;
        IF col.generated OR EXISTS (
            SELECT FROM pg_attribute WHERE attrelid = place AND attname = ANY (target.reads) AND attgenerated <> ''
        ) THEN
            RAISE EXCEPTION USING ERRCODE = '{unmakeable}', TABLE = {table},
                MESSAGE = format('%s of %s is generated, or follows from a generated column', target.name, place),
                HINT = 'The server computes generated columns after the trigger: write the expression itself.';
        END IF;
"""

ABSENT = """
        condition := format('NEW.%s IS NULL', col.name);
        constant := NOT col.numbered;
        IF constant AND col.otherwise IS NOT NULL THEN
            -- no number is taken from a sequence; else the server is asked whether the default is the same each time
            EXECUTE format(
                'SELECT record_image_eq(a, b) FROM (SELECT ROW(CAST(%1$s AS %2$s)) AS a, pg_sleep(0.001),'
                ' ROW(CAST(%1$s AS %2$s)) AS b OFFSET 0) AS twice', col.otherwise, col.typ) INTO constant;
            condition := format(
                '(%s OR pg_catalog.record_image_eq(ROW(NEW.%s), ROW(CAST(%s AS %s))))',
                condition, col.name, col.otherwise, col.typ);
        END IF;
        IF NOT constant THEN
            IF target.must_tell THEN
                RAISE EXCEPTION USING ERRCODE = '{unmakeable}', TABLE = {table}, COLUMN = target.name,
                    MESSAGE = format('the default of %s of %s is another each time, so that nobody can tell whether a'
                                     ' row was given it', target.name, place),
                    HINT = format('Drop the default, or let the other form win: on_conflict=%L.', target.other);
            END IF;
            condition := format('NEW.%s IS NULL', col.name);
        END IF;
        absent[target.form] := concat_ws(' AND ', absent[target.form], condition);
"""

SAME = """
        BEGIN
            EXECUTE format('SELECT v FROM (SELECT NULL::%s AS v) AS s GROUP BY v', col.plain);
            condition := 'record_eq';
        EXCEPTION WHEN undefined_function THEN
            -- json, for example, has no equality
            condition := 'record_image_eq';
        END;
        -- texts are compared to the byte: their collations may be two, or call texts equal that are not the same
        -- most often nothing follows from a form that was not given: then no rows are made to be compared
        same[target.form] := concat_ws(' AND ', same[target.form], format(
            '(CASE WHEN %4$s IS NULL THEN NEW.%2$s IS NULL ELSE pg_catalog.%1$s(ROW(NEW.%2$s%5$s), ROW(%3$s%5$s)) END)',
            condition, col.name,
            CASE WHEN col.rounded THEN format('CAST(%s AS %s)', call, col.typ) ELSE call END, call, col.compared));
"""

CALL = """
        SELECT format('%s.%I(%s)', home, target.called,
                      string_agg('NEW.' || quote_ident(attname), ', ' ORDER BY attnum)),
               format('%s.%I(%s)', home, target.called,
                      string_agg(quote_ident(attname) || ' ' || format_type(atttypid, NULL), ', ' ORDER BY attnum))
        INTO call, condition
        FROM pg_attribute
        WHERE attrelid = place AND attnum > 0 AND NOT attisdropped AND attname = ANY (target.reads);
        parts := parts || call;
        PERFORM set_config('search_path', path, true);
        -- a comment at the end of the expression ends with its line
        EXECUTE pg_catalog.format(E'CREATE FUNCTION %s RETURNS %s LANGUAGE sql RETURN (%s\\n)',
            condition, col.plain, target.expression);
        PERFORM pg_catalog.set_config('search_path', 'pg_catalog', true);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO PUBLIC', condition);
        EXECUTE format('COMMENT ON FUNCTION %s IS {mark}', condition);
"""

TRIGGER = """
    SELECT coalesce(format('pg_catalog.record_image_ne(ROW(%s), ROW(%s))',
                           string_agg('NEW.' || quote_ident(attname), ', ' ORDER BY attnum),
                           string_agg('OLD.' || quote_ident(attname), ', ' ORDER BY attnum)), 'false')
    INTO condition
    FROM pg_attribute
    WHERE attrelid = place AND attnum > 0 AND NOT attisdropped
      AND attname = ANY ({sources});
    parts := parts || absent || same || condition;
    EXECUTE format('CREATE FUNCTION %s.%I() RETURNS trigger LANGUAGE plpgsql AS %L',
        home, {name}, format({body}, VARIADIC parts));
    EXECUTE format('COMMENT ON FUNCTION %s.%I() IS {mark}', home, {name});
    EXECUTE format('CREATE TRIGGER %I BEFORE INSERT OR UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION %s.%I()',
        {name}, place, home, {name});
    SELECT {digest} INTO STRICT digest FROM pg_trigger WHERE tgrelid = place AND tgname = {name};
    EXECUTE format('COMMENT ON TRIGGER %I ON %s IS %L', {name}, place, {said} || digest);
    PERFORM set_config('search_path', path, true);
"""


def creation(write: Forms) -> str:
    """Return a block of PL/pgSQL that makes the functions and the trigger of a dual write, all or nothing."""
    steps = f"{COLUMN}{ABSENT}{CALL}{SAME}".format(
        unmakeable=UNMAKEABLE, table=literal(write.table), mark=_in_format(mark_of(write.name))
    )
    return f"""
DECLARE
    place regclass := {literal(ident(write.table, write.schema))}::regclass;
{DECLARATIONS.strip(chr(10))}
BEGIN
{_room(write)}
    FOR target IN
        SELECT * FROM (VALUES
            {", ".join(_targets(write))}
        ) AS given (number, form, name, expression, called, reads, must_tell, other) ORDER BY number
    LOOP
{steps.strip(chr(10))}
    END LOOP;
{_trigger(write)}
END;
""".strip()


def _room(write: Forms) -> str:
    """Return the steps that refuse a second one of a name, and clear away what a dropped table has left of one."""
    name = literal(write.name)
    return f"""
    SELECT tgrelid::regclass INTO one FROM pg_catalog.pg_trigger
    WHERE tgname = {name} AND tgparentid = 0
      AND tgrelid IN (SELECT oid FROM pg_catalog.pg_class
                      WHERE relnamespace = (SELECT relnamespace FROM pg_catalog.pg_class WHERE oid = place))
      AND pg_catalog.obj_description(oid, 'pg_trigger') LIKE {literal(MARK + "%")};
    IF one IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = '{UNMAKEABLE}', TABLE = {literal(write.table)}, CONSTRAINT = {name},
            MESSAGE = pg_catalog.format('there is a dual write %s already, on %s', {name}, one),
            HINT = 'Call this one by another name, or drop the other one first.';
    END IF;
    {drop_functions(write.name)}
    END LOOP;""".strip("\n")


def _trigger(write: Forms) -> str:
    followed = write.forward or write.backward
    reads = {name for _, _, expression in _expressions(write) for name in names_in(expression)}
    return TRIGGER.strip("\n").format(
        sources=_names({*write.forward, *write.backward, *reads} - followed.keys()),
        name=literal(write.name),
        body=literal(body(write)),
        mark=_in_format(mark_of(write.name)),
        said=literal(f"{MARK}, sha256 "),
        digest=DIGEST,
    )


def _expressions(write: Forms) -> Iterator[tuple[bool, str, str]]:
    """Yield, for each column that is computed, whether it is of the new form, its name and its expression."""
    for new, side in ((True, write.forward), (False, write.backward)):
        for column, expression in side.items():
            yield new, column, expression


def _targets(write: Forms) -> Iterator[str]:
    numbers = {True: 0, False: 0}
    for number, (new, column, expression) in enumerate(_expressions(write), 1):
        numbers[new] += 1
        # an expression that reads what it writes is refused by the server: the name is no argument of its function
        reads = names_in(expression) - (write.forward if new else write.backward).keys()
        other = "old" if new else "new"
        values = (
            str(number),
            "1" if new else "2",
            literal(column),
            literal(expression),
            literal(f"{write.name}_{'forward' if new else 'backward'}_{numbers[new]}"),
            _names(reads),
            str(write.on_conflict != other).lower(),
            literal(other),
        )
        yield f"({', '.join(values)})"


def _names(names: Iterable[str]) -> str:
    return f"ARRAY[{', '.join(literal(name) for name in sorted(names))}]::text[]"


def _in_format(text: str) -> str:
    """Return a literal that stands in a literal that ``format()`` reads."""
    return literal(text).replace("%", "%%").replace("'", "''")
