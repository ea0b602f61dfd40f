"""A table of another project, with all that a table may have, which is to be partitioned by time."""

from __future__ import annotations

from dataarch.rollout.changes import PartitionTable
from rollout.changes.change_support import Project

PLACE = 'place."Ereignis %"'

REST = 'place."Ereignis %_rest_min"'

CHANGE = PartitionTable("Ereignis %", "When : it was", schema="place")

READER = "pg_monitor"
"""Any role but the owner, of those that every server has."""

EVENTS = f"""
DROP SCHEMA IF EXISTS place CASCADE;
CREATE SCHEMA place;
CREATE TABLE accounts (tenant_id integer, id integer, PRIMARY KEY (tenant_id, id));
INSERT INTO accounts SELECT n % 3, n FROM generate_series(1, 20) AS n;
CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.touched := TG_OP; RETURN NEW; END $$;
CREATE TABLE noted (said text);
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS
    $$ BEGIN INSERT INTO noted VALUES (TG_OP); RETURN NULL; END $$;
CREATE SEQUENCE numbers;
CREATE TABLE place."Ereignis %" (
    gone text,
    tenant_id integer NOT NULL,
    id bigserial,
    "When : it was" timestamptz NOT NULL DEFAULT clock_timestamp(),
    account_id integer NOT NULL,
    number bigint NOT NULL DEFAULT nextval('numbers'),
    note text COLLATE "C" DEFAULT 'none',
    amount integer NOT NULL CONSTRAINT "amount %" CHECK (amount >= 0),
    twice integer GENERATED ALWAYS AS (amount * 2) STORED,
    touched text,
    CONSTRAINT "Ereignis_pk" PRIMARY KEY (tenant_id, id),
    CONSTRAINT "fk %" FOREIGN KEY (tenant_id, account_id) REFERENCES accounts ON DELETE CASCADE,
    CONSTRAINT uq_number UNIQUE (number, "When : it was")
);
ALTER TABLE place."Ereignis %" DROP COLUMN gone;
CREATE INDEX "by note" ON place."Ereignis %" (lower(note)) WHERE amount > 3;
CREATE INDEX by_amount ON place."Ereignis %" USING brin (amount) WITH (pages_per_range = 4);
CREATE UNIQUE INDEX by_time ON place."Ereignis %" ("When : it was" DESC, number) INCLUDE (note);
CREATE INDEX {"i" * 63} ON place."Ereignis %" (account_id);
CREATE STATISTICS place."together %" (dependencies) ON account_id, amount FROM place."Ereignis %";
CREATE TRIGGER touched BEFORE INSERT OR UPDATE ON place."Ereignis %" FOR EACH ROW EXECUTE FUNCTION touched();
CREATE TRIGGER "noted %" AFTER UPDATE ON place."Ereignis %" REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION noted();
CREATE TRIGGER off AFTER DELETE ON place."Ereignis %" FOR EACH ROW WHEN (OLD.amount > 3) EXECUTE FUNCTION noted();
ALTER TABLE place."Ereignis %" DISABLE TRIGGER off;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON place."Ereignis %" DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION noted();
ALTER TABLE place."Ereignis %" ENABLE ROW LEVEL SECURITY;
CREATE POLICY "own %" ON place."Ereignis %" TO {READER}
    USING (tenant_id = current_setting('my.tenant')::integer)
    WITH CHECK (tenant_id = current_setting('my.tenant')::integer);
CREATE POLICY unsecret ON place."Ereignis %" AS RESTRICTIVE FOR SELECT TO {READER}, pg_signal_backend
    USING (note <> 'secret');
GRANT USAGE ON SCHEMA place TO {READER};
GRANT USAGE ON SEQUENCE numbers, place."Ereignis %_id_seq" TO {READER};
GRANT SELECT, INSERT, UPDATE, DELETE ON place."Ereignis %" TO {READER};
GRANT SELECT ON place."Ereignis %" TO pg_signal_backend WITH GRANT OPTION;
GRANT UPDATE (note), REFERENCES (note) ON place."Ereignis %" TO pg_write_server_files;
COMMENT ON TABLE place."Ereignis %" IS 'What happened: it''s 100 %';
COMMENT ON COLUMN place."Ereignis %".note IS 'a note';
COMMENT ON CONSTRAINT "amount %" ON place."Ereignis %" IS 'an amount';
COMMENT ON CONSTRAINT "fk %" ON place."Ereignis %" IS 'a key';
COMMENT ON INDEX place."by note" IS 'an index';
COMMENT ON TRIGGER touched ON place."Ereignis %" IS 'a trigger';
COMMENT ON POLICY unsecret ON place."Ereignis %" IS 'a policy';
COMMENT ON STATISTICS place."together %" IS 'a statistic';
ALTER TABLE place."Ereignis %" REPLICA IDENTITY FULL;
INSERT INTO place."Ereignis %" (tenant_id, "When : it was", account_id, amount, note)
    SELECT a.tenant_id, date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' - n * interval '3 hours', a.id,
           abs(n) % 7, 'note ' || n
    FROM generate_series(-300, 2700) AS n JOIN accounts AS a ON a.id = abs(n) % 20 + 1;
"""


def furnish(project: Project) -> Project:
    """Give a project the table."""
    project.sql(EVENTS)
    return project


def contents(project: Project) -> tuple[object, ...]:
    """Return how many rows there are, and what they add up to, in whichever partition they lie."""
    return project.rows(f"SELECT count(*)::int, md5(string_agg(e::text, ',' ORDER BY id)) FROM {PLACE} AS e")[0]
