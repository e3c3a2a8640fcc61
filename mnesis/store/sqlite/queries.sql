-- Every statement of the store. Each starts with a line "-- name: purpose".

-- insert_session: a new session's name and settings; does nothing if the id is taken
INSERT INTO sessions (id, parent_id, created_at, profile, hash)
VALUES (:id, :parent_id, :created_at, CAST(:profile AS TEXT), :hash)
ON CONFLICT (id) DO NOTHING;

-- insert_accounts: a new session's accounts
INSERT INTO accounts (
    last_used, updated_at, last_seq, turn_count, system_tokens, message_tokens, tool_tokens, summary_tokens,
    context_tokens, usage_input, usage_output, usage_cache_read, usage_cache_write, usage_total, usage_reasoning,
    fold_count, message_pks, change_pks, last_request_tokens, calibration, cost, last_request, log_head, turn_head,
    record_head, hash, seal, session_pk
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, CAST(? AS TEXT), ?, ?, ?, ?, ?, ?);

-- insert_record_heads: a new session's hashes of its other records
INSERT INTO record_heads (
    summaries, compactions, interruptions, hidden_spans, prunes, covers, pins, session_pk
) VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- update_accounts: the accounts after an append, a sweep or an edit
UPDATE accounts SET
    last_used = ?, updated_at = ?, last_seq = ?, turn_count = ?, system_tokens = ?, message_tokens = ?, tool_tokens = ?,
    summary_tokens = ?, context_tokens = ?, usage_input = ?, usage_output = ?, usage_cache_read = ?,
    usage_cache_write = ?, usage_total = ?, usage_reasoning = ?, fold_count = ?, message_pks = ?, change_pks = ?,
    last_request_tokens = ?, calibration = ?, cost = ?, last_request = CAST(? AS TEXT), log_head = ?, turn_head = ?, record_head = ?, hash = ?, seal = ?
WHERE session_pk = ?;

-- update_record_heads: the hashes of a session's other records
UPDATE record_heads SET
    summaries = ?, compactions = ?, interruptions = ?, hidden_spans = ?, prunes = ?, covers = ?, pins = ?
WHERE session_pk = ?;

-- record_heads: the hashes of a session's other records
SELECT summaries, compactions, interruptions, hidden_spans, prunes, covers, pins
FROM record_heads WHERE session_pk = ?;

-- update_profile: change the settings of a session
UPDATE sessions SET profile = CAST(:profile AS TEXT), hash = :hash WHERE pk = :session_pk;

-- session: one session by its id
SELECT
    s.pk, s.id, s.parent_id, s.created_at, CAST(s.profile AS BLOB),
    s.hash, a.last_used, a.updated_at, a.last_seq, a.turn_count, a.system_tokens, a.message_tokens, a.tool_tokens,
    a.summary_tokens, a.context_tokens, a.usage_input, a.usage_output, a.usage_cache_read, a.usage_cache_write,
    a.usage_total, a.usage_reasoning, a.fold_count, a.message_pks, a.change_pks, a.last_request_tokens, a.calibration,
    a.cost, CAST(a.last_request AS BLOB), a.log_head, a.turn_head, a.record_head, a.hash, a.seal
FROM sessions AS s JOIN accounts AS a ON a.session_pk = s.pk
WHERE s.id = :id;

-- sessions_page: sessions by last use, newest first, after a position
SELECT
    s.pk, s.id, s.parent_id, s.created_at, CAST(s.profile AS BLOB),
    s.hash, a.last_used, a.updated_at, a.last_seq, a.turn_count, a.system_tokens, a.message_tokens, a.tool_tokens,
    a.summary_tokens, a.context_tokens, a.usage_input, a.usage_output, a.usage_cache_read, a.usage_cache_write,
    a.usage_total, a.usage_reasoning, a.fold_count, a.message_pks, a.change_pks, a.last_request_tokens, a.calibration,
    a.cost, CAST(a.last_request AS BLOB), a.log_head, a.turn_head, a.record_head, a.hash, a.seal
FROM accounts AS a JOIN sessions AS s ON s.pk = a.session_pk
WHERE (a.last_used, a.session_pk) < (:last_used, :session_pk)
ORDER BY a.last_used DESC, a.session_pk DESC
LIMIT :limit;

-- children_page: the same for the children of one session
SELECT
    s.pk, s.id, s.parent_id, s.created_at, CAST(s.profile AS BLOB),
    s.hash, a.last_used, a.updated_at, a.last_seq, a.turn_count, a.system_tokens, a.message_tokens, a.tool_tokens,
    a.summary_tokens, a.context_tokens, a.usage_input, a.usage_output, a.usage_cache_read, a.usage_cache_write,
    a.usage_total, a.usage_reasoning, a.fold_count, a.message_pks, a.change_pks, a.last_request_tokens, a.calibration,
    a.cost, CAST(a.last_request AS BLOB), a.log_head, a.turn_head, a.record_head, a.hash, a.seal
FROM sessions AS s JOIN accounts AS a ON a.session_pk = s.pk
WHERE s.parent_id = :parent_id AND (a.last_used, a.session_pk) < (:last_used, :session_pk)
ORDER BY a.last_used DESC, a.session_pk DESC
LIMIT :limit;

-- insert_message: one message at the end of a log
INSERT INTO messages (session_pk, seq, id, role, parts, meta, hash, token_count, tool_tokens, created_at)
VALUES (?, ?, ?, ?, CAST(? AS TEXT), CAST(? AS TEXT), ?, ?, ?, ?);

-- message_by_id: one message
SELECT seq, id, role, CAST(parts AS BLOB), CAST(meta AS BLOB), hash, token_count, tool_tokens, created_at
FROM messages
WHERE session_pk = ? AND id = ?;

-- locate_session: the key of a session, the end of its log as its accounts say, and whether it is a fork
SELECT
    s.pk, (SELECT a.last_seq FROM accounts AS a WHERE a.session_pk = s.pk),
    EXISTS (SELECT 1 FROM segments AS g WHERE g.session_pk = s.pk)
FROM sessions AS s WHERE s.id = :id;

-- last_message_seq: the last message of a session
SELECT coalesce(
    (SELECT max(seq) FROM messages WHERE session_pk = :session_pk),
    (SELECT max(last_seq) FROM segments WHERE session_pk = :session_pk)
);

-- messages_page: a range of the log
SELECT seq, id, role, CAST(parts AS BLOB), CAST(meta AS BLOB), hash, token_count, tool_tokens, created_at
FROM messages
WHERE session_pk = :session_pk AND seq > :after_seq AND seq <= :until_seq
ORDER BY seq;

-- messages_in_spans: the messages in several spans, given as [[first, last], …]
SELECT m.seq, m.id, m.role, CAST(m.parts AS BLOB), CAST(m.meta AS BLOB), m.hash, m.token_count, m.tool_tokens, m.created_at
FROM json_each(:spans) AS span CROSS JOIN messages AS m
WHERE m.session_pk = :session_pk AND m.seq BETWEEN json_extract(span.value, '$[0]') AND json_extract(span.value, '$[1]');

-- tokens_in_spans: the tokens of the messages in several spans
SELECT coalesce(sum(m.token_count), 0), coalesce(sum(m.tool_tokens), 0)
FROM json_each(:spans) AS span CROSS JOIN messages AS m
WHERE m.session_pk = :session_pk AND m.seq BETWEEN json_extract(span.value, '$[0]') AND json_extract(span.value, '$[1]');

-- prunes_in_spans: the pruned outputs in several spans
SELECT p.seq, p.part_index, p.tokens_saved
FROM json_each(:spans) AS span CROSS JOIN prunes AS p
WHERE p.session_pk = :session_pk AND p.seq BETWEEN json_extract(span.value, '$[0]') AND json_extract(span.value, '$[1]')
ORDER BY p.seq, p.part_index;

-- insert_prune: show an output as a marker; does nothing if it is one already
INSERT INTO prunes (session_pk, seq, part_index, tokens_saved) VALUES (?, ?, ?, ?)
ON CONFLICT DO NOTHING;

-- insert_turn: the snapshot of a turn
INSERT INTO turns (
    session_pk, turn_index, seq, role, system_tokens, summary_tokens, message_tokens, tool_tokens, context_tokens,
    created_at
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- turns: turns after one of them, oldest first
SELECT turn_index, seq, role, system_tokens, summary_tokens, message_tokens, tool_tokens, context_tokens, created_at
FROM turns WHERE session_pk = :session_pk AND turn_index > :after_turn ORDER BY turn_index LIMIT :limit;

-- turn_at: the turn that ends with a message, if one does
SELECT turn_index, seq, role, system_tokens, summary_tokens, message_tokens, tool_tokens, context_tokens, created_at
FROM turns WHERE session_pk = :session_pk AND seq = :seq ORDER BY turn_index DESC LIMIT 1;

-- covers: what the active context shows instead of messages
SELECT c.first_seq, c.last_seq, s.id
FROM context_covers AS c LEFT JOIN summaries AS s ON s.pk = c.summary_pk
WHERE c.session_pk = :session_pk ORDER BY c.first_seq;

-- delete_cover: remove one cover
DELETE FROM context_covers WHERE session_pk = ? AND first_seq = ?;

-- insert_cover: cover a span with a summary, or hide it
INSERT INTO context_covers (session_pk, first_seq, last_seq, summary_pk)
VALUES (
    :session_pk, :first_seq, :last_seq, (
        SELECT pk FROM summaries WHERE session_pk = :session_pk AND id = :summary_id
        UNION ALL
        SELECT i.summary_pk FROM inherited_summaries AS i CROSS JOIN summaries AS s ON s.pk = i.summary_pk
        WHERE i.session_pk = :session_pk AND s.id = :summary_id
    )
);

-- insert_hidden_span: record that a span was hidden on purpose
INSERT INTO hidden_spans (session_pk, first_seq, last_seq) VALUES (:session_pk, :first_seq, :last_seq);

-- insert_summary: a new summary
INSERT INTO summaries (session_pk, id, first_seq, last_seq, token_count, message_count, hash, body)
VALUES (?, ?, ?, ?, ?, ?, ?, CAST(? AS TEXT));

-- insert_leaf_edges: link a leaf to the messages of its spans
INSERT INTO summary_messages (summary_pk, session_pk, seq)
SELECT :summary_pk, m.session_pk, m.seq
FROM json_each(:spans) AS span CROSS JOIN messages AS m
WHERE m.session_pk = :session_pk AND m.seq BETWEEN json_extract(span.value, '$[0]') AND json_extract(span.value, '$[1]');

-- insert_child_edges: link a condensed summary to its children, in order
INSERT INTO summary_children (parent_pk, position, child_pk)
SELECT :summary_pk, child.key, s.pk
FROM json_each(:children) AS child CROSS JOIN summaries AS s
WHERE s.session_pk = :session_pk AND s.id = child.value
UNION ALL
SELECT :summary_pk, child.key, s.pk
FROM inherited_summaries AS i CROSS JOIN summaries AS s ON s.pk = i.summary_pk
JOIN json_each(:children) AS child ON child.value = s.id
WHERE i.session_pk = :session_pk;

-- summary_spans: the spans of some summaries
SELECT id, first_seq, last_seq, token_count
FROM summaries
WHERE session_pk = :session_pk AND id IN (SELECT value FROM json_each(:ids))
UNION ALL
SELECT s.id, s.first_seq, s.last_seq, s.token_count
FROM inherited_summaries AS i CROSS JOIN summaries AS s ON s.pk = i.summary_pk
WHERE i.session_pk = :session_pk AND s.id IN (SELECT value FROM json_each(:ids));

-- summaries_by_id: some summaries, with their children
SELECT
    s.id, s.first_seq, s.last_seq, s.token_count, s.message_count, s.hash, CAST(s.body AS BLOB),
    (
        SELECT json_group_array(id) FROM (
            SELECT c.id FROM summary_children AS e CROSS JOIN summaries AS c ON c.pk = e.child_pk
            WHERE e.parent_pk = s.pk ORDER BY e.position
        )
    )
FROM summaries AS s
WHERE s.session_pk = :session_pk AND s.id IN (SELECT value FROM json_each(:ids));

-- summaries: all summaries of a session in order of creation, with their children
SELECT
    s.id, s.first_seq, s.last_seq, s.token_count, s.message_count, s.hash, CAST(s.body AS BLOB),
    (
        SELECT json_group_array(id) FROM (
            SELECT c.id FROM summary_children AS e CROSS JOIN summaries AS c ON c.pk = e.child_pk
            WHERE e.parent_pk = s.pk ORDER BY e.position
        )
    )
FROM summaries AS s
WHERE s.session_pk = :session_pk
    OR s.pk IN (SELECT i.summary_pk FROM inherited_summaries AS i WHERE i.session_pk = :session_pk)
ORDER BY s.pk;

-- covered_extent: what a summary says it covers, and what can be reached from it
WITH RECURSIVE behind (pk) AS (
    SELECT pk FROM summaries WHERE session_pk = :session_pk AND id = :id
    UNION ALL
    SELECT i.summary_pk FROM inherited_summaries AS i CROSS JOIN summaries AS s ON s.pk = i.summary_pk
    WHERE i.session_pk = :session_pk AND s.id = :id
    UNION
    SELECT e.child_pk FROM behind CROSS JOIN summary_children AS e ON e.parent_pk = behind.pk
),
edges (seq) AS (
    SELECT DISTINCT e.seq FROM behind CROSS JOIN summary_messages AS e ON e.summary_pk = behind.pk
)
SELECT s.first_seq, s.last_seq, s.message_count, (SELECT count(*) FROM edges), (SELECT min(seq) FROM edges),
    (SELECT max(seq) FROM edges)
FROM summaries AS s WHERE s.pk = (
    SELECT pk FROM summaries WHERE session_pk = :session_pk AND id = :id
    UNION ALL
    SELECT i.summary_pk FROM inherited_summaries AS i CROSS JOIN summaries AS s ON s.pk = i.summary_pk
    WHERE i.session_pk = :session_pk AND s.id = :id
);

-- covered_messages: the messages that a summary covers, however deep
WITH RECURSIVE behind (pk) AS (
    SELECT pk FROM summaries WHERE session_pk = :session_pk AND id = :id
    UNION ALL
    SELECT i.summary_pk FROM inherited_summaries AS i CROSS JOIN summaries AS s ON s.pk = i.summary_pk
    WHERE i.session_pk = :session_pk AND s.id = :id
    UNION
    SELECT e.child_pk FROM behind CROSS JOIN summary_children AS e ON e.parent_pk = behind.pk
),
page (seq) AS (
    SELECT DISTINCT e.seq FROM behind CROSS JOIN summary_messages AS e ON e.summary_pk = behind.pk
    WHERE e.seq > :after_seq
    ORDER BY e.seq
    LIMIT :limit
)
SELECT page.seq, m.id, m.role, CAST(m.parts AS BLOB), CAST(m.meta AS BLOB), m.hash, m.token_count, m.tool_tokens, m.created_at
FROM page LEFT JOIN messages AS m ON m.session_pk = :session_pk AND m.seq = page.seq;

-- covered_seqs: the seqs of the messages that a summary covers, however deep
WITH RECURSIVE behind (pk) AS (
    SELECT pk FROM summaries WHERE session_pk = :session_pk AND id = :id
    UNION ALL
    SELECT i.summary_pk FROM inherited_summaries AS i CROSS JOIN summaries AS s ON s.pk = i.summary_pk
    WHERE i.session_pk = :session_pk AND s.id = :id
    UNION
    SELECT e.child_pk FROM behind CROSS JOIN summary_children AS e ON e.parent_pk = behind.pk
)
SELECT DISTINCT e.seq FROM behind CROSS JOIN summary_messages AS e ON e.summary_pk = behind.pk
WHERE e.seq > :after_seq
ORDER BY e.seq
LIMIT :limit;

-- insert_compaction: the result of a sweep
INSERT INTO compactions (session_pk, result) VALUES (:session_pk, CAST(:result AS TEXT));

-- compactions: the results of all sweeps, oldest first
SELECT CAST(result AS BLOB) FROM compactions WHERE session_pk = :session_pk ORDER BY pk;

-- insert_interruption: a model call that gave no reply
INSERT INTO interruptions (session_pk, body) VALUES (:session_pk, CAST(:body AS TEXT));

-- interruptions: model calls that gave no reply, oldest first
SELECT CAST(body AS BLOB) FROM interruptions WHERE session_pk = :session_pk ORDER BY pk;

-- purge_declare: declare the session that this transaction erases
INSERT INTO purging (session_pk) VALUES (:session_pk);

-- purge_children: erase the edges between its summaries
DELETE FROM summary_children WHERE parent_pk IN (SELECT pk FROM summaries WHERE session_pk = :session_pk);

-- purge_edges: erase the edges of its summaries to messages
DELETE FROM summary_messages WHERE summary_pk IN (SELECT pk FROM summaries WHERE session_pk = :session_pk);

-- purge_inherited_summaries: erase that it has summaries of other sessions
DELETE FROM inherited_summaries WHERE session_pk = :session_pk;

-- purge_segments: erase that it shares messages of other sessions
DELETE FROM segments WHERE session_pk = :session_pk;

-- purge_covers: erase its active context
DELETE FROM context_covers WHERE session_pk = :session_pk;

-- purge_hidden_spans: erase its hidden spans
DELETE FROM hidden_spans WHERE session_pk = :session_pk;

-- purge_prunes: erase its markers
DELETE FROM prunes WHERE session_pk = :session_pk;

-- purge_turns: erase its snapshots
DELETE FROM turns WHERE session_pk = :session_pk;

-- purge_compactions: erase the results of its sweeps
DELETE FROM compactions WHERE session_pk = :session_pk;

-- purge_interruptions: erase its interruptions
DELETE FROM interruptions WHERE session_pk = :session_pk;

-- purge_summaries: erase its summaries
DELETE FROM summaries WHERE session_pk = :session_pk;

-- purge_messages: erase its log
DELETE FROM messages WHERE session_pk = :session_pk;

-- purge_accounts: erase its accounts
DELETE FROM accounts WHERE session_pk = :session_pk;

-- purge_record_heads: erase the hashes of its other records
DELETE FROM record_heads WHERE session_pk = :session_pk;

-- turn_lease: the lease on the turns of a session
SELECT holder, fence, lease_until FROM turn_leases WHERE session_pk = :session_pk;

-- set_turn_lease: store a claim
INSERT INTO turn_leases (session_pk, fence, holder, lease_until)
VALUES (:session_pk, :fence, :holder, :lease_until)
ON CONFLICT (session_pk) DO UPDATE SET
    fence = excluded.fence, holder = excluded.holder, lease_until = excluded.lease_until;

-- change_turn_lease: extend or release a lease that its holder still has
UPDATE turn_leases SET holder = :new_holder, lease_until = :lease_until
WHERE session_pk = :session_pk AND fence = :fence AND holder = :holder;

-- purge_turn_leases: erase the lease on its turns
DELETE FROM turn_leases WHERE session_pk = :session_pk;

-- purge_session: erase its name
DELETE FROM sessions WHERE pk = :session_pk;

-- purge_done: remove the declaration
DELETE FROM purging WHERE session_pk = :session_pk;

-- check_sessions: the sessions to check
SELECT pk, id FROM sessions ORDER BY pk;

-- check_hashes: messages with every value that their hash covers
SELECT pk, seq, id, role, CAST(parts AS BLOB), CAST(meta AS BLOB), hash, token_count, tool_tokens, created_at
FROM messages
WHERE session_pk = :session_pk AND seq > :after_seq
ORDER BY seq
LIMIT :limit;

-- check_summary_hashes: summaries with every value that their hash covers, as bytes
SELECT id, CAST(body AS BLOB), hash FROM summaries WHERE session_pk = :session_pk;

-- check_session: one session by its key
SELECT
    s.pk, s.id, s.parent_id, s.created_at, CAST(s.profile AS BLOB),
    s.hash, a.last_used, a.updated_at, a.last_seq, a.turn_count, a.system_tokens, a.message_tokens, a.tool_tokens,
    a.summary_tokens, a.context_tokens, a.usage_input, a.usage_output, a.usage_cache_read, a.usage_cache_write,
    a.usage_total, a.usage_reasoning, a.fold_count, a.message_pks, a.change_pks, a.last_request_tokens, a.calibration,
    a.cost, CAST(a.last_request AS BLOB), a.log_head, a.turn_head, a.record_head, a.hash, a.seal
FROM sessions AS s JOIN accounts AS a ON a.session_pk = s.pk
WHERE s.pk = :session_pk;

-- check_log_accounts: what the accounts say about the log
SELECT last_seq, log_head, message_pks FROM accounts WHERE session_pk = :session_pk;

-- check_account_heads: the heads of turns and records
SELECT turn_head, record_head FROM accounts WHERE session_pk = :session_pk;

-- check_turn_rows: all turns in order, as their chain covers them
SELECT turn_index, seq, role, system_tokens, summary_tokens, message_tokens, tool_tokens, context_tokens, created_at
FROM turns WHERE session_pk = :session_pk ORDER BY turn_index;

-- check_summary_rows: all summaries in order, as their chain covers them
SELECT pk, id, first_seq, last_seq, token_count, message_count, hash FROM summaries
WHERE session_pk = :session_pk ORDER BY pk;

-- check_child_ids: the children of condensed summaries, in order
SELECT e.parent_pk, e.position, c.id
FROM summary_children AS e JOIN summaries AS c ON c.pk = e.child_pk
WHERE e.parent_pk IN (SELECT pk FROM summaries WHERE session_pk = :session_pk)
ORDER BY e.parent_pk, e.position;

-- check_compactions: the results of all sweeps, as their chain covers them
SELECT pk, CAST(result AS BLOB) FROM compactions WHERE session_pk = :session_pk ORDER BY pk;

-- check_interruptions: all interruptions, as their chain covers them
SELECT pk, CAST(body AS BLOB) FROM interruptions WHERE session_pk = :session_pk ORDER BY pk;

-- check_hidden_rows: all hidden spans, as their chain covers them
SELECT pk, first_seq, last_seq FROM hidden_spans WHERE session_pk = :session_pk ORDER BY pk;

-- check_changes: every change with its checksum
SELECT pk, origin, kind, session_pk, run_pk, body, crc FROM changes;

-- check_change_sums: the sums of the row numbers of changes
SELECT 'session', session_pk, change_pks FROM accounts
UNION ALL SELECT 'run', pk, change_pks FROM runs
UNION ALL SELECT 'deletions', pk, change_pks FROM deletions;

-- check_summaries: the spans and recorded counts of summaries
SELECT pk, id, first_seq, last_seq, message_count, token_count FROM summaries
WHERE session_pk = :session_pk
    OR pk IN (SELECT i.summary_pk FROM inherited_summaries AS i WHERE i.session_pk = :session_pk)
ORDER BY pk;

-- check_edges: which messages leaves cover; those that are not part of the log are negative
SELECT e.summary_pk, CASE WHEN e.session_pk = :session_pk OR EXISTS (
    SELECT 1 FROM segments AS g
    WHERE g.session_pk = :session_pk AND g.source_pk = e.session_pk AND e.seq BETWEEN g.first_seq AND g.last_seq
) THEN e.seq ELSE -e.seq END
FROM summary_messages AS e
WHERE e.summary_pk IN (
    SELECT pk FROM summaries WHERE session_pk = :session_pk
    UNION ALL SELECT i.summary_pk FROM inherited_summaries AS i WHERE i.session_pk = :session_pk
)
ORDER BY e.summary_pk, e.seq;

-- check_children: which summaries condensed summaries cover
SELECT parent_pk, child_pk FROM summary_children
WHERE parent_pk IN (
    SELECT pk FROM summaries WHERE session_pk = :session_pk
    UNION ALL SELECT i.summary_pk FROM inherited_summaries AS i WHERE i.session_pk = :session_pk
);

-- check_inherited: the summaries of other sessions that a fork has too, as their chain covers them
SELECT s.pk, s.id, s.hash FROM inherited_summaries AS i CROSS JOIN summaries AS s ON s.pk = i.summary_pk
WHERE i.session_pk = :session_pk ORDER BY i.summary_pk;

-- check_covers: what the active context shows instead of messages, by key
SELECT first_seq, last_seq, summary_pk FROM context_covers WHERE session_pk = :session_pk ORDER BY first_seq;

-- check_hidden_spans: spans that were hidden on purpose
SELECT first_seq, last_seq FROM hidden_spans WHERE session_pk = :session_pk;

-- check_accounts: the accounts that follow from the log
SELECT last_seq, turn_count, system_tokens, message_tokens, tool_tokens, summary_tokens, context_tokens
FROM accounts WHERE session_pk = :session_pk;

-- check_last_seq: the end of a log, by its accounts or else by its messages
SELECT coalesce(
    (SELECT last_seq FROM accounts WHERE session_pk = :session_pk),
    (SELECT max(seq) FROM messages WHERE session_pk = :session_pk),
    (SELECT max(last_seq) FROM segments WHERE session_pk = :session_pk),
    0
);

-- check_turns: the number of snapshots, and the last
SELECT count(*), coalesce(max(turn_index), -1) FROM turns WHERE session_pk = :session_pk;

-- check_schema: every object of the database, as it was created
SELECT name, type, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite\_%' ESCAPE '\';

-- search_state: the last indexed seq of a session
SELECT words_seq, trigrams_seq FROM search_state WHERE session_pk = :session_pk AND rules = :rules;

-- search_outdated: a session that was indexed by other rules, if there is one
SELECT session_pk FROM search_state WHERE rules <> :rules LIMIT 1;

-- search_behind: sessions whose log is longer than their index
SELECT s.id FROM accounts AS a JOIN sessions AS s ON s.pk = a.session_pk
WHERE a.last_seq > coalesce((SELECT words_seq FROM search_state AS i WHERE i.session_pk = a.session_pk), 0)
LIMIT :limit;

-- search_trigrams_behind: sessions whose log is longer than their index of substrings
SELECT s.id FROM accounts AS a JOIN sessions AS s ON s.pk = a.session_pk
WHERE a.last_seq > coalesce((SELECT trigrams_seq FROM search_state AS i WHERE i.session_pk = a.session_pk), 0)
LIMIT :limit;

-- count_search_behind: messages that are not in the index of words
SELECT coalesce(sum(max(0, a.last_seq - coalesce(i.words_seq, 0))), 0)
FROM accounts AS a JOIN sessions AS s ON s.pk = a.session_pk
LEFT JOIN search_state AS i ON i.session_pk = a.session_pk AND i.rules = :rules;

-- count_trigrams_behind: messages that are not in the index of substrings
SELECT coalesce(sum(max(0, a.last_seq - coalesce(i.trigrams_seq, 0))), 0)
FROM accounts AS a JOIN sessions AS s ON s.pk = a.session_pk
LEFT JOIN search_state AS i ON i.session_pk = a.session_pk AND i.rules = :rules;

-- count_indexed: messages whose words are indexed
SELECT coalesce(sum(words_seq), 0) FROM search_state;

-- search_logs: every session, the last message that it stores, and the end of what it shares
SELECT
    s.pk, s.id, (SELECT max(m.seq) FROM messages AS m WHERE m.session_pk = s.pk) AS last_seq,
    coalesce((SELECT max(g.last_seq) FROM segments AS g WHERE g.session_pk = s.pk), 0)
FROM sessions AS s WHERE last_seq IS NOT NULL;

-- search_to_index: messages that are not indexed yet
SELECT seq, id, role, CAST(parts AS BLOB), CAST(meta AS BLOB), hash, token_count, tool_tokens, created_at
FROM messages
WHERE session_pk = :session_pk AND seq > :after_seq
ORDER BY seq
LIMIT :limit;

-- insert_search_words: index the words of a message
INSERT INTO search_words (rowid, text) VALUES (?, ?);

-- insert_search_trigrams: index a message for substrings
INSERT INTO search_trigrams (rowid, text) VALUES (?, ?);

-- insert_search_row: what ranking needs to know about a message
INSERT INTO search_rows (key, words, created_at, role, speaker, tools, crc) VALUES (?, ?, ?, ?, ?, ?, ?);

-- insert_search_speaker: count a speaker of a session
INSERT INTO search_speakers (session_pk, speaker, messages) VALUES (?, ?, 1)
ON CONFLICT DO UPDATE SET messages = messages + 1;

-- set_search_words: the words of a session are indexed up to here
INSERT INTO search_state (session_pk, rules, words_seq, trigrams_seq) VALUES (:session_pk, :rules, :seq, 0)
ON CONFLICT (session_pk) DO UPDATE SET words_seq = excluded.words_seq;

-- set_search_trigrams: the substrings of a session are indexed up to here
INSERT INTO search_state (session_pk, rules, words_seq, trigrams_seq) VALUES (:session_pk, :rules, 0, :seq)
ON CONFLICT (session_pk) DO UPDATE SET trigrams_seq = excluded.trigrams_seq;

-- search_words: for each expression and span of keys, the number of the expression and the keys of its messages as JSON, newest first
SELECT expression.key, (
    SELECT json_group_array(rowid) FROM (
        SELECT rowid FROM search_words
        WHERE search_words MATCH expression.value
            AND rowid BETWEEN json_extract(span.value, '$[0]') AND json_extract(span.value, '$[1]')
        ORDER BY rowid DESC
        LIMIT :limit
    )
)
FROM json_each(:matches) AS expression CROSS JOIN json_each(:spans) AS span;

-- search_vocabulary: indexed words with at least this many letters
SELECT term FROM search_vocabulary WHERE length(term) >= :least LIMIT :limit;

-- search_trigrams: messages that may contain a substring, newest first
SELECT rowid FROM search_trigrams
WHERE search_trigrams MATCH :match AND rowid BETWEEN :first_key AND :last_key
ORDER BY rowid DESC
LIMIT :limit;

-- search_rows: what ranking knows about the messages in spans of keys, which are in order
SELECT r.key, r.words, r.created_at, r.speaker
FROM json_each(:spans) AS span CROSS JOIN search_rows AS r
WHERE r.key BETWEEN json_extract(span.value, '$[0]') AND json_extract(span.value, '$[1]');

-- search_filtered: messages in a span that pass a filter
SELECT key FROM search_rows
WHERE key BETWEEN :first_key AND :last_key
    AND (:role IS NULL OR role = :role)
    AND (:tool IS NULL OR instr(char(10) || tools || char(10), char(10) || :tool || char(10)) > 0)
    AND (:after IS NULL OR created_at >= :after)
    AND (:before IS NULL OR created_at < :before);

-- search_behind_summary: seqs of the messages that a summary covers, however deep
WITH RECURSIVE behind (pk) AS (
    SELECT pk FROM summaries WHERE session_pk = :session_pk AND id = :id
    UNION ALL
    SELECT i.summary_pk FROM inherited_summaries AS i CROSS JOIN summaries AS s ON s.pk = i.summary_pk
    WHERE i.session_pk = :session_pk AND s.id = :id
    UNION
    SELECT e.child_pk FROM behind CROSS JOIN summary_children AS e ON e.parent_pk = behind.pk
)
SELECT DISTINCT e.seq FROM behind CROSS JOIN summary_messages AS e ON e.summary_pk = behind.pk;

-- search_speakers: speakers of the sessions from one to another, and how many messages they have
SELECT session_pk, speaker, messages FROM search_speakers WHERE session_pk BETWEEN :first_pk AND :last_pk;

-- search_vectors: vectors of the messages in a span, newest first
SELECT key, vectors, crc FROM search_vectors
WHERE key BETWEEN :first_key AND :last_key AND model = :model
ORDER BY key DESC;

-- search_without_vectors: messages of a session that have no vector
SELECT m.seq, m.id, m.role, CAST(m.parts AS BLOB), CAST(m.meta AS BLOB), m.hash, m.token_count, m.tool_tokens, m.created_at
FROM messages AS m
WHERE m.session_pk = :session_pk AND m.seq BETWEEN :first_seq AND :last_seq AND NOT EXISTS (
    SELECT 1 FROM search_vectors AS v WHERE v.key = (m.session_pk << 32 | m.seq) AND v.model = :model
)
ORDER BY m.seq
LIMIT :limit;

-- search_session: whether a session is stored
SELECT 1 FROM sessions WHERE pk = :session_pk;

-- save_search_vectors: the vectors of a message
INSERT INTO search_vectors (key, model, vectors, crc) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET vectors = excluded.vectors, crc = excluded.crc;

-- delete_search_vectors: erase the vectors of a span
DELETE FROM search_vectors WHERE key BETWEEN ? AND ?;

-- purge_search_vectors: erase the vectors of a session
DELETE FROM search_vectors WHERE key BETWEEN :session_pk << 32 AND (:session_pk + 1 << 32) - 1;

-- empty_search_vectors: … and of all sessions
DELETE FROM search_vectors;

-- check_search_vectors: the vectors of a session
SELECT key, model, vectors, crc FROM search_vectors WHERE key BETWEEN :first_key AND :last_key;

-- search_messages: messages by key, with the summary that covers each
SELECT
    m.seq,
    m.id,
    m.role,
    CAST(m.parts AS BLOB),
    CAST(m.meta AS BLOB),
    m.hash,
    m.token_count,
    m.tool_tokens,
    m.created_at,
    span.value,
    (
        SELECT CASE WHEN c.last_seq >= m.seq THEN s.id END
        FROM context_covers AS c LEFT JOIN summaries AS s ON s.pk = c.summary_pk
        WHERE c.session_pk = coalesce(:fork_pk, m.session_pk) AND c.first_seq <= m.seq
        ORDER BY c.first_seq DESC
        LIMIT 1
    )
FROM json_each(:keys) AS span CROSS JOIN messages AS m ON m.session_pk = span.value >> 32 AND m.seq = (span.value & 4294967295);

-- search_indexed: whether any message of a session is indexed
SELECT 1 FROM search_state WHERE session_pk = :session_pk;

-- search_indexed_messages: the indexed messages of a session after a seq
SELECT seq, id, role, CAST(parts AS BLOB), CAST(meta AS BLOB), hash, token_count, tool_tokens, created_at
FROM messages
WHERE session_pk = :session_pk AND seq > :after_seq AND seq <= :last_seq
ORDER BY seq;

-- delete_search_words: remove a message from the index of words, by the text it was indexed with
INSERT INTO search_words (search_words, rowid, text) VALUES ('delete', ?, ?);

-- delete_search_trigrams: remove a message from the index of substrings, by the text it was indexed with
INSERT INTO search_trigrams (search_trigrams, rowid, text) VALUES ('delete', ?, ?);

-- delete_search_rows: … the data for ranking of a span
DELETE FROM search_rows WHERE key BETWEEN :first_key AND :last_key;

-- delete_search_speaker: … a message of a speaker
UPDATE search_speakers SET messages = messages - 1 WHERE session_pk = ? AND speaker = ?;

-- delete_search_speakers: … the speakers without messages
DELETE FROM search_speakers WHERE session_pk = :session_pk AND messages <= 0;

-- lower_search_state: the index of a session ends here
UPDATE search_state SET words_seq = min(words_seq, :seq), trigrams_seq = min(trigrams_seq, :seq)
WHERE session_pk = :session_pk;

-- delete_search_state: forget a session of which nothing is indexed
DELETE FROM search_state WHERE session_pk = :session_pk AND words_seq = 0 AND trigrams_seq = 0;

-- merge_search_words: merge some pages of the index of words
INSERT INTO search_words (search_words, rank) VALUES ('merge', ?);

-- merge_search_trigrams: merge some pages of the index of substrings
INSERT INTO search_trigrams (search_trigrams, rank) VALUES ('merge', ?);

-- empty_search_words: clear the index of words
INSERT INTO search_words (search_words) VALUES ('delete-all');

-- empty_search_trigrams: clear the index of substrings
INSERT INTO search_trigrams (search_trigrams) VALUES ('delete-all');

-- empty_search_rows: … and the data for ranking
DELETE FROM search_rows;

-- empty_search_speakers: … and the speakers
DELETE FROM search_speakers;

-- empty_search_state: … and the last indexed seqs
DELETE FROM search_state;

-- save_search_state: the checksum of how far a session is indexed
UPDATE search_state SET crc = ? WHERE session_pk = ?;

-- search_state_row: how far a session is indexed, with the checksum of that
SELECT rules, words_seq, trigrams_seq, crc FROM search_state WHERE session_pk = :session_pk;

-- check_search_rows: what ranking knows about a session, with checksums
SELECT key, words, created_at, role, speaker, tools, crc FROM search_rows
WHERE key BETWEEN :first_key AND :last_key ORDER BY key;

-- check_search_messages: indexed messages of a session that are not as the log has them
SELECT r.key FROM messages AS m CROSS JOIN search_rows AS r ON r.key = (m.session_pk << 32 | m.seq)
WHERE m.session_pk = :session_pk AND (r.created_at IS NOT m.created_at OR r.role IS NOT m.role);

-- check_search_speakers: speakers whose number of messages differs between the rows and the list of speakers
SELECT speaker FROM (
    SELECT speaker, count(*) AS messages FROM search_rows
    WHERE key BETWEEN :first_key AND :last_key AND speaker <> '' GROUP BY speaker
    UNION ALL
    SELECT speaker, -messages FROM search_speakers WHERE session_pk = :session_pk
)
GROUP BY speaker HAVING sum(messages) <> 0;

-- check_search_strays: data of the index that belongs to no session
SELECT key >> 32 FROM search_rows WHERE key >> 32 NOT IN (SELECT pk FROM sessions)
UNION SELECT session_pk FROM search_speakers WHERE session_pk NOT IN (SELECT pk FROM sessions)
UNION SELECT key >> 32 FROM search_vectors WHERE key >> 32 NOT IN (SELECT pk FROM sessions)
UNION SELECT session_pk FROM search_state WHERE session_pk NOT IN (SELECT pk FROM sessions);

-- search_first_block: the first block of the index from an id on
SELECT id FROM search_words_data WHERE id >= :start ORDER BY id LIMIT 1;

-- search_first_checksum: the first block with a checksum from an id on
SELECT id FROM search_blocks WHERE name = 'search_words' AND id >= :start ORDER BY id LIMIT 1;

-- search_last_checksum: the last block with a checksum in a span
SELECT max(id) FROM search_blocks WHERE name = 'search_words' AND id BETWEEN :first_id AND :last_id;

-- search_checksum: the checksum of a block
SELECT crc FROM search_blocks WHERE name = 'search_words' AND id = :id;

-- search_checksums: all checksums of a full-text table and of its index of pages
SELECT name, id, crc FROM search_blocks WHERE name IN (:name, :index_name);

-- search_block: one block of the index
SELECT block FROM search_words_data WHERE id = :id;

-- search_blocks_between: blocks of the index after an id
SELECT id, block FROM search_words_data WHERE id > :after_id AND id <= :last_id ORDER BY id;

-- search_all_blocks: every block of the index
SELECT id, block FROM search_words_data ORDER BY id;

-- search_segment_index: where the pages of a segment begin
SELECT term, pgno FROM search_words_idx WHERE segid = :segment ORDER BY term;

-- search_whole_index: where the pages of all segments begin
SELECT segid, term, pgno FROM search_words_idx ORDER BY segid, term;

-- search_settings: the settings of a full-text table
SELECT k, v FROM search_words_config ORDER BY k;

-- insert_search_checksum: write the checksum of a block
INSERT INTO search_blocks (name, id, crc) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET crc = excluded.crc;

-- delete_search_checksums: delete the checksums of a span of blocks
DELETE FROM search_blocks WHERE name = 'search_words' AND id BETWEEN :first_id AND :last_id;

-- insert_pin: pin a message; does nothing if it is pinned already
INSERT INTO pins (session_pk, seq) VALUES (:session_pk, :seq) ON CONFLICT DO NOTHING;

-- delete_pin: unpin a message
DELETE FROM pins WHERE session_pk = :session_pk AND seq = :seq;

-- pins: the pinned messages
SELECT seq FROM pins WHERE session_pk = :session_pk ORDER BY seq;

-- purge_pins: erase its pins
DELETE FROM pins WHERE session_pk = :session_pk;

-- insert_run: a new run; does nothing if the id is taken
INSERT INTO runs (id, kind, fingerprint, model, created_at) VALUES (:id, :kind, :fingerprint, :model, :created_at)
ON CONFLICT (id) DO NOTHING;

-- run: one run by its id
SELECT
    pk, id, kind, fingerprint, model, created_at, total, pending, running, done, failed, attempts, usage_input,
    usage_output, usage_cache_read, usage_cache_write, usage_total, cost, change_pks, input_head, hash, seal
FROM runs WHERE id = :id;

-- insert_run_plan: what a worker needs to process a run
INSERT INTO run_plans (run_pk, plan) VALUES (:run_pk, :plan);

-- run_plan: the plan of a run
SELECT plan FROM run_plans WHERE run_pk = :run_pk;

-- purge_run_plan: erase the plan of a run
DELETE FROM run_plans WHERE run_pk = :run_pk;

-- save_run_hash: the hash of a run after a change
UPDATE runs SET input_head = :input_head, hash = :hash, seal = :seal WHERE pk = :run_pk;

-- run_item: one item with its hash
SELECT item_index, state, claims, attempts, worker, lease_until, outcome, hash, seal
FROM run_items WHERE run_pk = ? AND item_index = ?;

-- save_item_hash: the hash of an item after a change
UPDATE run_items SET hash = :hash, seal = :seal WHERE run_pk = :run_pk AND item_index = :item_index;

-- run_items_failed: failed items
SELECT item_index FROM run_items WHERE run_pk = :run_pk AND state = 'failed' ORDER BY item_index;

-- runs: runs, newest first
SELECT
    pk, id, kind, fingerprint, model, created_at, total, pending, running, done, failed, attempts, usage_input,
    usage_output, usage_cache_read, usage_cache_write, usage_total, cost, change_pks, input_head, hash, seal
FROM runs ORDER BY pk DESC LIMIT :limit;

-- set_run_total: set the number of inputs
UPDATE runs SET total = :total WHERE pk = :run_pk;

-- move_run: update the counts and sums of a run
UPDATE runs SET
    pending = pending + :pending, running = running + :running, done = done + :done, failed = failed + :failed,
    attempts = attempts + :attempts, usage_input = usage_input + :usage_input,
    usage_output = usage_output + :usage_output, usage_cache_read = usage_cache_read + :usage_cache_read,
    usage_cache_write = usage_cache_write + :usage_cache_write, usage_total = usage_total + :usage_total,
    cost = cost + :cost
WHERE pk = :run_pk;

-- insert_run_input: the input of an item
INSERT INTO run_inputs (run_pk, item_index, input, hash) VALUES (?, ?, ?, ?);

-- insert_run_item: a pending item
INSERT INTO run_items (run_pk, item_index, hash, seal) VALUES (?, ?, ?, ?);

-- run_inputs: the inputs of a range of items
SELECT input FROM run_inputs
WHERE run_pk = :run_pk AND item_index BETWEEN :first_index AND :last_index
ORDER BY item_index;

-- run_items_waiting: pending items, lowest index first
SELECT
    i.item_index, t.input, i.state, i.claims, i.attempts, i.worker, i.lease_until, i.outcome, i.hash, i.seal, t.hash
FROM run_items AS i CROSS JOIN run_inputs AS t ON t.run_pk = i.run_pk AND t.item_index = i.item_index
WHERE i.run_pk = :run_pk AND i.state = 'pending'
ORDER BY i.item_index
LIMIT :limit;

-- run_items_abandoned: items whose lease has ended, lowest index first
SELECT
    i.item_index, t.input, i.state, i.claims, i.attempts, i.worker, i.lease_until, i.outcome, i.hash, i.seal, t.hash
FROM run_items AS i INDEXED BY run_items_by_lease
CROSS JOIN run_inputs AS t ON t.run_pk = i.run_pk AND t.item_index = i.item_index
WHERE i.run_pk = :run_pk AND i.state = 'running' AND i.lease_until <= :now AND i.claims < :max_claims
ORDER BY i.item_index
LIMIT :limit;

-- run_items_lost: items whose lease has ended and that may not be claimed again
SELECT item_index FROM run_items INDEXED BY run_items_by_lease
WHERE run_pk = :run_pk AND state = 'running' AND lease_until <= :now AND claims >= :max_claims
ORDER BY item_index;

-- run_items_page: items in order
SELECT
    i.item_index, t.input, i.state, i.claims, i.attempts, i.worker, i.lease_until, i.outcome, i.hash, i.seal, t.hash
FROM run_items AS i CROSS JOIN run_inputs AS t ON t.run_pk = i.run_pk AND t.item_index = i.item_index
WHERE i.run_pk = :run_pk AND i.item_index > :after_index
ORDER BY i.item_index
LIMIT :limit;

-- run_items_in_state: items of one state in order
SELECT
    i.item_index, t.input, i.state, i.claims, i.attempts, i.worker, i.lease_until, i.outcome, i.hash, i.seal, t.hash
FROM run_items AS i INDEXED BY run_items_by_state
CROSS JOIN run_inputs AS t ON t.run_pk = i.run_pk AND t.item_index = i.item_index
WHERE i.run_pk = :run_pk AND i.state = :state AND i.item_index > :after_index
ORDER BY i.item_index
LIMIT :limit;

-- save_run_item: an item after a change
UPDATE run_items SET
    state = ?, claims = ?, attempts = ?, worker = ?, lease_until = ?, outcome = ?, hash = ?, seal = ?
WHERE run_pk = ? AND item_index = ?;

-- purge_run_declare: declare the run that this transaction erases
INSERT INTO purging_runs (run_pk) VALUES (:run_pk);

-- purge_run_inputs: erase its inputs
DELETE FROM run_inputs WHERE run_pk = :run_pk;

-- purge_run_items: erase its items
DELETE FROM run_items WHERE run_pk = :run_pk;

-- purge_run: erase its name
DELETE FROM runs WHERE pk = :run_pk;

-- purge_run_done: remove the declaration
DELETE FROM purging_runs WHERE run_pk = :run_pk;

-- check_runs: every run
SELECT
    pk, id, kind, fingerprint, model, created_at, total, pending, running, done, failed, attempts, usage_input,
    usage_output, usage_cache_read, usage_cache_write, usage_total, cost, change_pks, input_head, hash, seal
FROM runs ORDER BY pk;

-- check_run_rows: the items of a run with their inputs
SELECT i.item_index, t.input, i.state, i.claims, i.attempts, i.worker, i.lease_until, i.outcome, i.hash, i.seal, t.hash
FROM run_items AS i LEFT JOIN run_inputs AS t ON t.run_pk = i.run_pk AND t.item_index = i.item_index
WHERE i.run_pk = :run_pk
ORDER BY i.item_index;

-- check_run: the counts of a run, from its items
SELECT
    count(*), coalesce(sum(state = 'pending'), 0), coalesce(sum(state = 'running'), 0),
    coalesce(sum(state = 'done'), 0), coalesce(sum(state = 'failed'), 0), coalesce(sum(attempts), 0),
    coalesce(max(item_index) + 1, 0)
FROM run_items WHERE run_pk = :run_pk;

-- check_run_inputs: the number of inputs of a run, and their end
SELECT count(*), coalesce(max(item_index) + 1, 0) FROM run_inputs WHERE run_pk = :run_pk;

-- insert_file_ref: a message refers to a stored file
INSERT INTO file_refs (session_pk, seq, content_id) VALUES (?, ?, ?);

-- file_content_ids: the stored files that any message refers to
SELECT DISTINCT content_id FROM file_refs ORDER BY content_id;

-- file_refs: which messages refer to which stored files
SELECT s.id, m.id, f.seq, f.content_id
FROM file_refs AS f
CROSS JOIN sessions AS s ON s.pk = f.session_pk
CROSS JOIN messages AS m ON m.session_pk = f.session_pk AND m.seq = f.seq
ORDER BY f.session_pk, f.seq, f.content_id;

-- file_refs_of_session: the same for one session
SELECT s.id, m.id, f.seq, f.content_id
FROM file_refs AS f
CROSS JOIN sessions AS s ON s.pk = f.session_pk
CROSS JOIN messages AS m ON m.session_pk = f.session_pk AND m.seq = f.seq
WHERE f.session_pk = :session_pk
ORDER BY f.session_pk, f.seq, f.content_id;

-- file_refs_to_file: the same for one file
SELECT s.id, m.id, f.seq, f.content_id
FROM file_refs AS f
CROSS JOIN sessions AS s ON s.pk = f.session_pk
CROSS JOIN messages AS m ON m.session_pk = f.session_pk AND m.seq = f.seq
WHERE f.content_id = :content_id
ORDER BY f.session_pk, f.seq;

-- file_refs_of_session_to_file: the same for one file in one session
SELECT s.id, m.id, f.seq, f.content_id
FROM file_refs AS f
CROSS JOIN sessions AS s ON s.pk = f.session_pk
CROSS JOIN messages AS m ON m.session_pk = f.session_pk AND m.seq = f.seq
WHERE f.content_id = :content_id AND f.session_pk = :session_pk
ORDER BY f.seq;

-- messages_with_files: a page of the log of all sessions but some, with the parts of messages that may name a file
SELECT
    m.pk,
    CASE
        WHEN
            instr(m.parts, 'content_id') > 0
            AND m.session_pk NOT IN (
                SELECT s.pk FROM json_each(:session_ids) AS without CROSS JOIN sessions AS s ON s.id = without.value
            )
            THEN CAST(m.parts AS BLOB)
    END
FROM messages AS m
WHERE m.pk > :after_pk
ORDER BY m.pk
LIMIT :limit;

-- purge_file_refs: erase its references to files
DELETE FROM file_refs WHERE session_pk = :session_pk;

-- check_file_refs: the recorded references
SELECT seq, content_id FROM file_refs WHERE session_pk = :session_pk;

-- check_file_parts: the references in the log
SELECT
    m.seq,
    CASE part.value ->> '$.type'
        WHEN 'file_ref' THEN part.value ->> '$.content_id'
        ELSE part.value ->> '$.output_file.content_id'
    END
FROM messages AS m
CROSS JOIN json_each(CASE WHEN json_valid(m.parts) AND m.parts LIKE '[%' THEN m.parts ELSE '[]' END) AS part
WHERE m.session_pk = :session_pk AND instr(m.parts, '"content_id"') > 0 AND part.type = 'object';

-- insert_change: note what a transaction does
INSERT INTO changes (origin, kind, session_pk, run_pk, body, crc) VALUES (?, ?, ?, ?, ?, ?);

-- count_run_change: add a change to the sum of a run
UPDATE runs SET change_pks = change_pks + :change_pk WHERE pk = :run_pk;

-- count_deletion: add a change to the sum of those that belong to no session and no run
UPDATE deletions SET change_pks = change_pks + :change_pk;

-- changes_page: what was committed after a position
SELECT c.pk, c.origin, c.kind, c.session_pk, c.body, s.id, s.created_at, r.id
FROM changes AS c LEFT JOIN sessions AS s ON s.pk = c.session_pk LEFT JOIN runs AS r ON r.pk = c.run_pk
WHERE c.pk > :after ORDER BY c.pk LIMIT :limit;

-- last_change: the newest position
SELECT coalesce(max(pk), 0) FROM changes;

-- change_messages: what events say about appended messages
SELECT seq, id, role, token_count, CAST(parts AS BLOB) FROM messages
WHERE session_pk = :session_pk AND seq BETWEEN :first_seq AND :last_seq ORDER BY seq;

-- change_message_ids: the ids of messages in a span
SELECT seq, id FROM messages WHERE session_pk = :session_pk AND seq BETWEEN :first_seq AND :last_seq
UNION ALL
SELECT m.seq, m.id FROM segments AS g CROSS JOIN messages AS m
WHERE g.session_pk = :session_pk AND m.session_pk = g.source_pk
    AND m.seq BETWEEN max(g.first_seq, :first_seq) AND min(g.last_seq, :last_seq);

-- change_compaction: the result of one sweep
SELECT result FROM compactions WHERE pk = :pk;

-- change_sessions: every session, to name those that are deleted later
SELECT pk, created_at, id FROM sessions;

-- purge_changes: erase what happened to it; a whole scan, because an index would cost every append
DELETE FROM changes WHERE session_pk = :session_pk AND kind <> 'deleted';

-- purge_run_changes: erase what happened to it
DELETE FROM changes WHERE run_pk = :run_pk;

-- check_prunes: the pruned outputs
SELECT seq, part_index, tokens_saved FROM prunes WHERE session_pk = :session_pk ORDER BY seq, part_index;

-- count_unhashed: the number of sessions and runs without hashes
SELECT count(*) FROM unhashed;

-- unhashed: a session or run without hashes
SELECT kind, pk FROM unhashed LIMIT 1;

-- delete_unhashed: the hashes of a session or run are stored
DELETE FROM unhashed WHERE kind = :kind AND pk = :pk;

-- unhashed_messages: what the head of a log without hashes covers
SELECT seq, created_at, token_count, tool_tokens, hash FROM messages
WHERE session_pk = :session_pk AND seq > :after_seq ORDER BY seq LIMIT :limit;

-- set_session_hash: the hash of a session's settings
UPDATE sessions SET hash = :hash WHERE pk = :session_pk;

-- run_by_pk: one run by its key
SELECT
    pk, id, kind, fingerprint, model, created_at, total, pending, running, done, failed, attempts, usage_input,
    usage_output, usage_cache_read, usage_cache_write, usage_total, cost, change_pks, input_head, hash, seal
FROM runs WHERE pk = :run_pk;

-- save_input_hash: the hash of an input
UPDATE run_inputs SET hash = :hash WHERE run_pk = :run_pk AND item_index = :item_index;

-- seal_accounts: the hashes of all sessions
SELECT session_pk, hash FROM accounts WHERE hash IS NOT NULL;

-- seal_runs: the hashes of all runs
SELECT pk, hash FROM runs WHERE hash IS NOT NULL;

-- seal_items: the hashes of all items
SELECT run_pk, item_index, hash FROM run_items WHERE hash IS NOT NULL;

-- save_account_seal: the seal of a session
UPDATE accounts SET seal = ? WHERE session_pk = ?;

-- save_run_seal: the seal of a run
UPDATE runs SET seal = ? WHERE pk = ?;

-- save_item_seal: the seal of an item
UPDATE run_items SET seal = ? WHERE run_pk = ? AND item_index = ?;

-- salvage_place: the place of a message
SELECT session_pk, seq FROM messages WHERE pk = :pk;

-- salvage_message: one message by its row number
SELECT id, role, CAST(parts AS BLOB), CAST(meta AS BLOB), hash, token_count, tool_tokens, created_at
FROM messages WHERE pk = :pk;

-- salvage_session: one session by its row number
SELECT id, parent_id, created_at, CAST(profile AS BLOB), hash FROM sessions WHERE pk = :pk;

-- salvage_accounts: the end of a log and the size of its system prompt
SELECT last_seq, system_tokens FROM accounts WHERE session_pk = :pk;

-- salvage_turns: where turns end
SELECT session_pk, seq FROM turns ORDER BY session_pk, turn_index;

-- salvage_turns_backwards: the same from the end
SELECT session_pk, seq FROM turns ORDER BY session_pk DESC, turn_index DESC;

-- accounts_without_sessions: the number of sessions whose name and settings are missing
SELECT count(*) FROM accounts AS a WHERE NOT EXISTS (SELECT 1 FROM sessions AS s WHERE s.pk = a.session_pk);

-- sessions_without_accounts: sessions whose accounts are missing
SELECT s.pk, s.id, s.parent_id, s.created_at FROM sessions AS s
WHERE NOT EXISTS (SELECT 1 FROM accounts AS a WHERE a.session_pk = s.pk)
ORDER BY s.pk DESC;

-- message_at: one message by its place
SELECT seq, id, role, CAST(parts AS BLOB), CAST(meta AS BLOB), hash, token_count, tool_tokens, created_at
FROM messages WHERE session_pk = :session_pk AND seq = :seq;

-- salvage_sessions: row numbers from an index
SELECT pk FROM sessions INDEXED BY sqlite_autoindex_sessions_1 ORDER BY id;

-- salvage_sessions_forwards: row numbers from the table
SELECT pk FROM sessions NOT INDEXED ORDER BY pk;

-- salvage_sessions_backwards: the same from the end
SELECT pk FROM sessions NOT INDEXED ORDER BY pk DESC;

-- salvage_messages: row numbers from an index
SELECT pk FROM messages INDEXED BY sqlite_autoindex_messages_1 ORDER BY session_pk, seq;

-- salvage_messages_forwards: row numbers from the table
SELECT pk FROM messages NOT INDEXED ORDER BY pk;

-- salvage_messages_backwards: the same from the end
SELECT pk FROM messages NOT INDEXED ORDER BY pk DESC;

-- insert_segment: the log of a fork has a span of another log
INSERT INTO segments (session_pk, first_seq, last_seq, source_pk) VALUES (?, ?, ?, ?);

-- segments: the spans of other logs with which the log of a fork begins, with the sessions that store them
SELECT g.first_seq, g.last_seq, g.source_pk, s.id FROM segments AS g CROSS JOIN sessions AS s ON s.pk = g.source_pk
WHERE g.session_pk = :session_pk ORDER BY g.first_seq;

-- forks: sessions that share messages or summaries which a session stores
SELECT s.id FROM sessions AS s WHERE s.pk IN (
    SELECT g.session_pk FROM segments AS g WHERE g.source_pk = :session_pk
    UNION ALL
    SELECT i.session_pk FROM summaries AS y CROSS JOIN inherited_summaries AS i ON i.summary_pk = y.pk
    WHERE y.session_pk = :session_pk
) ORDER BY s.pk;

-- inherit_summaries: a fork has the summaries before it of the session that it continues
INSERT INTO inherited_summaries (session_pk, summary_pk)
SELECT :session_pk, s.pk FROM summaries AS s WHERE s.session_pk = :origin_pk AND s.last_seq <= :last_seq
    AND (:ids IS NULL OR s.id IN (SELECT value FROM json_each(:ids)))
UNION ALL
SELECT :session_pk, s.pk FROM inherited_summaries AS i CROSS JOIN summaries AS s ON s.pk = i.summary_pk
WHERE i.session_pk = :origin_pk AND s.last_seq <= :last_seq
    AND (:ids IS NULL OR s.id IN (SELECT value FROM json_each(:ids)));

-- inherit_prunes: a fork has the pruned outputs before it
INSERT INTO prunes (session_pk, seq, part_index, tokens_saved)
SELECT :session_pk, p.seq, p.part_index, p.tokens_saved FROM prunes AS p
WHERE p.session_pk = :origin_pk AND p.seq <= :last_seq;

-- inherit_pins: a fork has the pins before it
INSERT INTO pins (session_pk, seq)
SELECT :session_pk, p.seq FROM pins AS p WHERE p.session_pk = :origin_pk AND p.seq <= :last_seq;

-- hidden_spans: the spans that were ever hidden, in order
SELECT h.first_seq, h.last_seq FROM hidden_spans AS h WHERE h.session_pk = :session_pk ORDER BY h.pk;

-- summary_children: the children of a summary, in order
SELECT c.first_seq, c.last_seq, c.id FROM summary_children AS e CROSS JOIN summaries AS c ON c.pk = e.child_pk
WHERE e.parent_pk = (
    SELECT pk FROM summaries WHERE session_pk = :session_pk AND id = :id
    UNION ALL
    SELECT i.summary_pk FROM inherited_summaries AS i CROSS JOIN summaries AS s ON s.pk = i.summary_pk
    WHERE i.session_pk = :session_pk AND s.id = :id
) ORDER BY e.position;

-- inherited_in_spans: the shared messages of a fork in several spans, each with the session that stores it
SELECT
    m.seq, m.id, m.role, CAST(m.parts AS BLOB), CAST(m.meta AS BLOB), m.hash, m.token_count, m.tool_tokens, m.created_at,
    s.id
FROM segments AS g CROSS JOIN sessions AS s ON s.pk = g.source_pk CROSS JOIN json_each(:spans) AS span
CROSS JOIN messages AS m
WHERE g.session_pk = :session_pk AND m.session_pk = g.source_pk
    AND m.seq BETWEEN max(g.first_seq, json_extract(span.value, '$[0]'))
    AND min(g.last_seq, json_extract(span.value, '$[1]'));

-- inherited_tokens_in_spans: the tokens of the shared messages of a fork in several spans
SELECT coalesce(sum(m.token_count), 0), coalesce(sum(m.tool_tokens), 0)
FROM segments AS g CROSS JOIN json_each(:spans) AS span CROSS JOIN messages AS m
WHERE g.session_pk = :session_pk AND m.session_pk = g.source_pk
    AND m.seq BETWEEN max(g.first_seq, json_extract(span.value, '$[0]'))
    AND min(g.last_seq, json_extract(span.value, '$[1]'));

-- inherited_by_id: a shared message of a fork
SELECT
    m.seq, m.id, m.role, CAST(m.parts AS BLOB), CAST(m.meta AS BLOB), m.hash, m.token_count, m.tool_tokens, m.created_at,
    s.id
FROM segments AS g CROSS JOIN messages AS m ON m.session_pk = g.source_pk CROSS JOIN sessions AS s ON s.pk = g.source_pk
WHERE g.session_pk = ? AND m.id = ? AND m.seq BETWEEN g.first_seq AND g.last_seq;

-- inherited_summaries_by_id: some summaries that a fork has of other sessions, with their children
SELECT
    s.id, s.first_seq, s.last_seq, s.token_count, s.message_count, s.hash, CAST(s.body AS BLOB),
    (
        SELECT json_group_array(id) FROM (
            SELECT c.id FROM summary_children AS e CROSS JOIN summaries AS c ON c.pk = e.child_pk
            WHERE e.parent_pk = s.pk ORDER BY e.position
        )
    )
FROM inherited_summaries AS i CROSS JOIN summaries AS s ON s.pk = i.summary_pk
WHERE i.session_pk = :session_pk AND s.id IN (SELECT value FROM json_each(:ids));

-- insert_inherited_leaf_edges: link a leaf to the shared messages of its spans
INSERT INTO summary_messages (summary_pk, session_pk, seq)
SELECT :summary_pk, m.session_pk, m.seq
FROM segments AS g CROSS JOIN json_each(:spans) AS span CROSS JOIN messages AS m
WHERE g.session_pk = :session_pk AND m.session_pk = g.source_pk
    AND m.seq BETWEEN max(g.first_seq, json_extract(span.value, '$[0]'))
    AND min(g.last_seq, json_extract(span.value, '$[1]'));

-- inherited_file_refs: which shared messages of a fork refer to which stored files
SELECT m.id, f.seq, f.content_id
FROM segments AS g
CROSS JOIN file_refs AS f ON f.session_pk = g.source_pk AND f.seq BETWEEN g.first_seq AND g.last_seq
CROSS JOIN messages AS m ON m.session_pk = f.session_pk AND m.seq = f.seq
WHERE g.session_pk = :session_pk AND (:content_id IS NULL OR f.content_id = :content_id)
ORDER BY g.first_seq, f.seq, f.content_id;

-- log_hashes: the stored hashes of a span of a log
SELECT hash FROM messages WHERE session_pk = :session_pk AND seq BETWEEN :first_seq AND :last_seq ORDER BY seq;
