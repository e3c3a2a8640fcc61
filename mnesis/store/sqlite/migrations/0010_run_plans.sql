-- The plan of a run for workers on other machines: a JSON text without secrets.
CREATE TABLE run_plans (
    run_pk INTEGER PRIMARY KEY REFERENCES runs (pk),
    plan TEXT NOT NULL
) STRICT;

CREATE TRIGGER run_plans_refuse_update BEFORE UPDATE ON run_plans
BEGIN
    SELECT RAISE(ABORT, 'the plan of a run is never changed');
END;

CREATE TRIGGER run_plans_refuse_delete BEFORE DELETE ON run_plans
WHEN NOT EXISTS (SELECT 1 FROM purging_runs WHERE run_pk = OLD.run_pk)
BEGIN
    SELECT RAISE(ABORT, 'the plan of a run is never deleted; purge the whole run');
END;

CREATE TRIGGER run_plans_refuse_replace BEFORE INSERT ON run_plans
WHEN EXISTS (SELECT 1 FROM run_plans WHERE run_pk = NEW.run_pk)
BEGIN
    SELECT RAISE(ABORT, 'the plan of a run is never replaced');
END;
