-- Checksums of changes, which cover every column. A trigger computes them, because positions and row numbers are given here.

ALTER TABLE {schema}.changes ADD COLUMN hash bytea;

CREATE FUNCTION {schema}.hash_change(change {schema}.changes) RETURNS bytea LANGUAGE sql STABLE AS $$
    SELECT sha256(convert_to(
        json_build_array(
            change.position, change.pk, change.origin, change.kind, change.session_pk, change.run_pk, change.body
        )::text, 'UTF8'
    ))
$$;

UPDATE {schema}.changes AS c SET hash = {schema}.hash_change(c);

ALTER TABLE {schema}.changes ALTER COLUMN hash SET NOT NULL;

CREATE FUNCTION {schema}.set_change_hash() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.hash := {schema}.hash_change(NEW);
    RETURN NEW;
END $$;

CREATE TRIGGER changes_set_hash BEFORE INSERT ON {schema}.changes
    FOR EACH ROW EXECUTE FUNCTION {schema}.set_change_hash();
