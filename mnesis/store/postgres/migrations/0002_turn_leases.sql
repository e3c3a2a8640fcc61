-- Which process may run the turns of a session, while it asks for that.

-- `fence` grows with each new holder. `origin` is the number on which the holder's store has an advisory lock while it is
-- connected; NULL behind a pooler. The row stays when the lease is released, so that no fence is given twice.
CREATE TABLE {schema}.turn_leases (
    session_pk bigint PRIMARY KEY REFERENCES {schema}.sessions (pk) ON DELETE CASCADE,
    fence bigint NOT NULL,
    holder text COLLATE "C",
    lease_until bigint NOT NULL,
    origin bigint
) WITH (fillfactor = 50);

CREATE OR REPLACE FUNCTION {schema}.grant_access(target name) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA {schema} TO %I', target);
    EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO %I', target);
    EXECUTE format('GRANT INSERT ON {schema}.sessions, {schema}.accounts, {schema}.messages, {schema}.summaries,'
        ' {schema}.summary_messages, {schema}.summary_children, {schema}.context_covers, {schema}.hidden_spans,'
        ' {schema}.prunes, {schema}.pins, {schema}.file_refs, {schema}.turns, {schema}.compactions,'
        ' {schema}.interruptions, {schema}.changes, {schema}.runs, {schema}.run_inputs, {schema}.run_items,'
        ' {schema}.turn_leases TO %I', target);
    EXECUTE format('GRANT UPDATE ON {schema}.accounts, {schema}.runs, {schema}.run_items, {schema}.turn_leases TO %I', target);
    EXECUTE format('GRANT UPDATE (profile) ON {schema}.sessions TO %I', target);
    EXECUTE format('GRANT DELETE ON {schema}.context_covers, {schema}.pins TO %I', target);
    EXECUTE format('GRANT INSERT, UPDATE, DELETE ON {schema}.search_words, {schema}.search_vocabulary,'
        ' {schema}.search_trigrams, {schema}.search_rows, {schema}.search_speakers, {schema}.search_state TO %I', target);
    EXECUTE format('GRANT EXECUTE ON FUNCTION {schema}.clear_search(bigint), {schema}.purge_session(bigint),'
        ' {schema}.purge_run(bigint), {schema}.continue_positions() TO %I', target);
    INSERT INTO {schema}.granted_roles (role_name) VALUES (target) ON CONFLICT DO NOTHING;
END $$;

SELECT {schema}.grant_access(role_name) FROM {schema}.granted_roles;
