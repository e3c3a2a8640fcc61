-- What a worker on another machine needs to process the items of a run: a JSON text without secrets.

CREATE TABLE {schema}.run_plans (
    run_pk bigint PRIMARY KEY REFERENCES {schema}.runs (pk) ON DELETE CASCADE,
    plan bytea NOT NULL
);

CREATE TRIGGER run_plans_refuse_update BEFORE UPDATE ON {schema}.run_plans
    FOR EACH ROW EXECUTE FUNCTION {schema}.refuse();
CREATE TRIGGER run_plans_refuse_delete BEFORE DELETE ON {schema}.run_plans
    FOR EACH ROW EXECUTE FUNCTION {schema}.refuse_unless_purging_run();
CREATE TRIGGER run_plans_refuse_truncate BEFORE TRUNCATE ON {schema}.run_plans
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.refuse();

CREATE OR REPLACE FUNCTION {schema}.grant_access(target name) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA {schema} TO %I', target);
    EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO %I', target);
    EXECUTE format('GRANT INSERT ON {schema}.sessions, {schema}.accounts, {schema}.messages, {schema}.summaries,'
        ' {schema}.summary_messages, {schema}.summary_children, {schema}.context_covers, {schema}.hidden_spans,'
        ' {schema}.prunes, {schema}.pins, {schema}.file_refs, {schema}.turns, {schema}.compactions,'
        ' {schema}.interruptions, {schema}.changes, {schema}.runs, {schema}.run_inputs, {schema}.run_items,'
        ' {schema}.turn_leases, {schema}.run_plans TO %I', target);
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
