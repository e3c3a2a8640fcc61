-- Hashes and seals of everything that is stored, as in SQLite files (mnesis/store/chain.py).
--
-- After this script, the migration computes the hashes of the sessions and runs that exist, in the same transaction.

ALTER TABLE {schema}.sessions ADD COLUMN hash bytea;

ALTER TABLE {schema}.accounts
    ADD COLUMN turn_head bytea, -- the head of the chain of its turns
    ADD COLUMN record_head bytea, -- the hash of the row of record_heads
    ADD COLUMN hash bytea,
    ADD COLUMN seal bytea; -- HMAC of the hash, NULL without a key

-- One hash per kind of record that an append leaves alone. A kind without records has 32 zero bytes.
CREATE TABLE {schema}.record_heads (
    session_pk bigint PRIMARY KEY REFERENCES {schema}.sessions (pk) ON DELETE CASCADE,
    summaries bytea NOT NULL,
    compactions bytea NOT NULL,
    interruptions bytea NOT NULL,
    hidden_spans bytea NOT NULL,
    prunes bytea NOT NULL,
    covers bytea NOT NULL,
    pins bytea NOT NULL
) WITH (fillfactor = 50);

CREATE TRIGGER record_heads_refuse_delete BEFORE DELETE ON {schema}.record_heads
    FOR EACH ROW EXECUTE FUNCTION {schema}.refuse_unless_purging();
CREATE TRIGGER record_heads_refuse_truncate BEFORE TRUNCATE ON {schema}.record_heads
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.refuse();

ALTER TABLE {schema}.runs
    ADD COLUMN input_head bytea, -- the head of the chain of its plan and inputs
    ADD COLUMN hash bytea,
    ADD COLUMN seal bytea;
ALTER TABLE {schema}.run_inputs ADD COLUMN hash bytea;
ALTER TABLE {schema}.run_items ADD COLUMN hash bytea, ADD COLUMN seal bytea;

-- A missing hash may be added. Seals may be added later; they prove themselves.
DROP TRIGGER run_inputs_refuse_update ON {schema}.run_inputs;
CREATE TRIGGER run_inputs_refuse_update BEFORE UPDATE ON {schema}.run_inputs
    FOR EACH ROW WHEN (
        OLD.hash IS NOT NULL
        OR (NEW.run_pk, NEW.item_index, NEW.input) IS DISTINCT FROM (OLD.run_pk, OLD.item_index, OLD.input)
    ) EXECUTE FUNCTION {schema}.refuse();
DROP TRIGGER run_items_refuse_update ON {schema}.run_items;
CREATE TRIGGER run_items_refuse_update
    BEFORE UPDATE OF run_pk, item_index, state, claims, attempts, worker, lease_until, outcome ON {schema}.run_items
    FOR EACH ROW EXECUTE FUNCTION {schema}.refuse_item_change();

CREATE OR REPLACE FUNCTION {schema}.grant_access(target name) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA {schema} TO %I', target);
    EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO %I', target);
    EXECUTE format('GRANT INSERT ON {schema}.sessions, {schema}.accounts, {schema}.messages, {schema}.summaries,'
        ' {schema}.summary_messages, {schema}.summary_children, {schema}.context_covers, {schema}.hidden_spans,'
        ' {schema}.prunes, {schema}.pins, {schema}.file_refs, {schema}.turns, {schema}.compactions,'
        ' {schema}.interruptions, {schema}.changes, {schema}.runs, {schema}.run_inputs, {schema}.run_items,'
        ' {schema}.turn_leases, {schema}.run_plans, {schema}.segments, {schema}.inherited_summaries,'
        ' {schema}.record_heads TO %I', target);
    EXECUTE format('GRANT UPDATE ON {schema}.accounts, {schema}.runs, {schema}.run_items, {schema}.turn_leases,'
        ' {schema}.record_heads TO %I', target);
    EXECUTE format('GRANT UPDATE (profile, hash) ON {schema}.sessions TO %I', target);
    EXECUTE format('GRANT DELETE ON {schema}.context_covers, {schema}.pins TO %I', target);
    EXECUTE format('GRANT INSERT, UPDATE, DELETE ON {schema}.search_words, {schema}.search_vocabulary,'
        ' {schema}.search_trigrams, {schema}.search_rows, {schema}.search_speakers, {schema}.search_state TO %I', target);
    EXECUTE format('GRANT EXECUTE ON FUNCTION {schema}.clear_search(bigint), {schema}.purge_session(bigint),'
        ' {schema}.purge_run(bigint), {schema}.continue_positions() TO %I', target);
    INSERT INTO {schema}.granted_roles (role_name) VALUES (target) ON CONFLICT DO NOTHING;
END $$;

SELECT {schema}.grant_access(role_name) FROM {schema}.granted_roles;
