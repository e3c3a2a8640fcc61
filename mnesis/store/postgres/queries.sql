-- Every statement of the PostgreSQL store. Each starts with a line "-- name: purpose". `{schema}` is replaced with the
-- name of the schema. Statements that find a session by its id need no earlier answer, so they share one round trip.

-- schema_version: the number of the last migration
SELECT version FROM {schema}.mnesis_schema;

-- set_schema_version: the number of the last migration
UPDATE {schema}.mnesis_schema SET version = %(version)s;

-- continue_positions: let positions of changes continue where a restored copy begins to count again
SELECT {schema}.continue_positions();

-- transaction_number: the number of this transaction; ask after the lock, so that numbers follow the order of locks
SELECT pg_current_xact_id()::text::bigint;

-- transaction_outcome: whether a transaction was committed, and whether it left a change of this store
SELECT pg_xact_status(%(number)s::text::xid8), EXISTS (
    SELECT 1 FROM {schema}.changes AS c, {schema}.mnesis_schema AS s
    WHERE c.position = %(number)s + s.position_offset AND c.origin = %(origin)s
);

-- insert_session: a new session's name and settings; does nothing if the id is taken
INSERT INTO {schema}.sessions (id, parent_id, created_at, profile, hash)
VALUES (%(id)s, %(parent_id)s, %(created_at)s, %(profile)s, %(hash)s)
ON CONFLICT (id) DO NOTHING
RETURNING pk;

-- insert_accounts: a new session's accounts
INSERT INTO {schema}.accounts (
    session_pk, last_used, updated_at, last_seq, turn_count, system_tokens, message_tokens, tool_tokens,
    summary_tokens, context_tokens, last_request_tokens, calibration, usage_input, usage_output, usage_cache_read,
    usage_cache_write, usage_total, usage_reasoning, cost, fold_count, last_request, log_head,
    turn_head, record_head, hash, seal
) VALUES (
    %(session_pk)s, %(last_used)s, %(updated_at)s, %(last_seq)s, %(turn_count)s, %(system_tokens)s, %(message_tokens)s,
    %(tool_tokens)s, %(summary_tokens)s, %(context_tokens)s, %(last_request_tokens)s, %(calibration)s, %(usage_input)s,
    %(usage_output)s, %(usage_cache_read)s, %(usage_cache_write)s, %(usage_total)s,
    %(usage_reasoning)s, %(cost)s, %(fold_count)s, %(last_request)s, %(log_head)s,
    %(turn_head)s, %(record_head)s, %(hash)s, %(seal)s
);

-- update_accounts: the accounts after an append, a sweep or an edit
UPDATE {schema}.accounts SET
    last_used = %(last_used)s, updated_at = %(updated_at)s, last_seq = %(last_seq)s,
    turn_count = %(turn_count)s, system_tokens = %(system_tokens)s, message_tokens = %(message_tokens)s,
    tool_tokens = %(tool_tokens)s, summary_tokens = %(summary_tokens)s, context_tokens = %(context_tokens)s,
    last_request_tokens = %(last_request_tokens)s, calibration = %(calibration)s, usage_input = %(usage_input)s,
    usage_output = %(usage_output)s, usage_cache_read = %(usage_cache_read)s,
    usage_cache_write = %(usage_cache_write)s, usage_total = %(usage_total)s, usage_reasoning = %(usage_reasoning)s,
    cost = %(cost)s, fold_count = %(fold_count)s, last_request = %(last_request)s, log_head = %(log_head)s,
    turn_head = %(turn_head)s, record_head = %(record_head)s, hash = %(hash)s, seal = %(seal)s
WHERE session_pk = %(session_pk)s;

-- update_profile: change the settings of a session
UPDATE {schema}.sessions SET profile = %(profile)s, hash = %(hash)s WHERE pk = %(session_pk)s;

-- session_since: one session, and the messages that it stores after a seq
SELECT s.pk, s.id, s.parent_id, s.created_at, s.profile, a.updated_at, a.last_seq, a.turn_count, a.system_tokens, a.message_tokens, a.tool_tokens, a.summary_tokens,
    a.context_tokens, a.last_request_tokens, a.calibration, a.usage_input, a.usage_output, a.usage_cache_read,
    a.usage_cache_write, a.usage_total, a.usage_reasoning, a.cost, a.fold_count, a.last_request, a.log_head, a.last_used,
    a.turn_head, a.record_head, a.hash, a.seal, s.hash,
    n.seqs, n.ids, n.roles, n.parts, n.metas, n.hashes, n.token_counts, n.tool_token_counts, n.created_at
FROM {schema}.sessions AS s JOIN {schema}.accounts AS a ON a.session_pk = s.pk
LEFT JOIN LATERAL (
    SELECT
        array_agg(m.seq ORDER BY m.seq) AS seqs, array_agg(m.id ORDER BY m.seq) AS ids,
        array_agg(m.role ORDER BY m.seq) AS roles, array_agg(m.parts ORDER BY m.seq) AS parts,
        array_agg(m.meta ORDER BY m.seq) AS metas, array_agg(m.hash ORDER BY m.seq) AS hashes,
        array_agg(m.token_count ORDER BY m.seq) AS token_counts,
        array_agg(m.tool_tokens ORDER BY m.seq) AS tool_token_counts,
        array_agg(m.created_at ORDER BY m.seq) AS created_at
    FROM {schema}.messages AS m WHERE m.session_pk = s.pk AND m.seq > %(after_seq)s
) AS n ON true
WHERE s.id = %(id)s;

-- record_heads: the hashes of the records of a session
SELECT summaries, compactions, interruptions, hidden_spans, prunes, covers, pins FROM {schema}.record_heads
WHERE session_pk = (SELECT pk FROM {schema}.sessions WHERE id = %(id)s);

-- insert_record_heads: the hashes of the records of a new session
INSERT INTO {schema}.record_heads (
    session_pk, summaries, compactions, interruptions, hidden_spans, prunes, covers, pins
) VALUES (
    %(session_pk)s, %(summaries)s, %(compactions)s, %(interruptions)s, %(hidden_spans)s, %(prunes)s, %(covers)s, %(pins)s
);

-- update_record_heads: the hashes of the records of a session
UPDATE {schema}.record_heads SET
    summaries = %(summaries)s, compactions = %(compactions)s, interruptions = %(interruptions)s,
    hidden_spans = %(hidden_spans)s, prunes = %(prunes)s, covers = %(covers)s, pins = %(pins)s
WHERE session_pk = %(session_pk)s;

-- session: one session by its id
SELECT s.pk, s.id, s.parent_id, s.created_at, s.profile, a.updated_at, a.last_seq, a.turn_count, a.system_tokens, a.message_tokens, a.tool_tokens, a.summary_tokens,
    a.context_tokens, a.last_request_tokens, a.calibration, a.usage_input, a.usage_output, a.usage_cache_read,
    a.usage_cache_write, a.usage_total, a.usage_reasoning, a.cost, a.fold_count, a.last_request, a.log_head, a.last_used,
    a.turn_head, a.record_head, a.hash, a.seal, s.hash
FROM {schema}.sessions AS s JOIN {schema}.accounts AS a ON a.session_pk = s.pk
WHERE s.id = %(id)s;

-- locate_session: a session that may be damaged: its key, its last message, and the end of the messages that it shares
SELECT
    s.pk, coalesce((SELECT max(m.seq) FROM {schema}.messages AS m WHERE m.session_pk = s.pk), 0),
    coalesce((SELECT max(g.last_seq) FROM {schema}.segments AS g WHERE g.session_pk = s.pk), 0)
FROM {schema}.sessions AS s WHERE s.id = %(id)s;

-- lock_session: put the writers of a session in order and lock it; returns the number of the transaction
SELECT {schema}.lock_session(%(id)s);

-- turn_lease: the lease on the turns of a session, and whether the process of its holder is connected
SELECT
    l.holder, l.fence, l.lease_until,
    -- Shared, so that several waiters who ask at once do not take each other for the holder.
    CASE WHEN l.origin IS NULL THEN NULL ELSE NOT pg_try_advisory_xact_lock_shared(l.origin) END
FROM {schema}.turn_leases AS l JOIN {schema}.sessions AS s ON s.pk = l.session_pk
WHERE s.id = %(id)s;

-- turn_fence: the fence of the newest holder of a session's turns
SELECT l.fence FROM {schema}.turn_leases AS l JOIN {schema}.sessions AS s ON s.pk = l.session_pk WHERE s.id = %(id)s;

-- set_turn_lease: store a claim
INSERT INTO {schema}.turn_leases (session_pk, fence, holder, lease_until, origin)
VALUES (%(session_pk)s, %(fence)s, %(holder)s, %(lease_until)s, %(origin)s)
ON CONFLICT (session_pk) DO UPDATE SET
    fence = excluded.fence, holder = excluded.holder, lease_until = excluded.lease_until, origin = excluded.origin;

-- change_turn_lease: extend or release a lease that its holder still has
UPDATE {schema}.turn_leases SET holder = %(new_holder)s, lease_until = %(lease_until)s
WHERE session_pk = (SELECT pk FROM {schema}.sessions WHERE id = %(id)s) AND fence = %(fence)s AND holder = %(holder)s
RETURNING 1;

-- sessions_page: sessions by last use, newest first, after a position
SELECT s.pk, s.id, s.parent_id, s.created_at, s.profile, a.updated_at, a.last_seq, a.turn_count, a.system_tokens, a.message_tokens, a.tool_tokens, a.summary_tokens,
    a.context_tokens, a.last_request_tokens, a.calibration, a.usage_input, a.usage_output, a.usage_cache_read,
    a.usage_cache_write, a.usage_total, a.usage_reasoning, a.cost, a.fold_count, a.last_request, a.log_head, a.last_used,
    a.turn_head, a.record_head, a.hash, a.seal, s.hash
FROM {schema}.accounts AS a JOIN {schema}.sessions AS s ON s.pk = a.session_pk
WHERE (a.last_used, a.session_pk) < (%(last_used)s, %(session_pk)s)
ORDER BY a.last_used DESC, a.session_pk DESC
LIMIT %(limit)s;

-- children_page: the same for the children of one session
SELECT s.pk, s.id, s.parent_id, s.created_at, s.profile, a.updated_at, a.last_seq, a.turn_count, a.system_tokens, a.message_tokens, a.tool_tokens, a.summary_tokens,
    a.context_tokens, a.last_request_tokens, a.calibration, a.usage_input, a.usage_output, a.usage_cache_read,
    a.usage_cache_write, a.usage_total, a.usage_reasoning, a.cost, a.fold_count, a.last_request, a.log_head, a.last_used,
    a.turn_head, a.record_head, a.hash, a.seal, s.hash
FROM {schema}.sessions AS s JOIN {schema}.accounts AS a ON a.session_pk = s.pk
WHERE s.parent_id = %(parent_id)s AND (a.last_used, a.session_pk) < (%(last_used)s, %(session_pk)s)
ORDER BY a.last_used DESC, a.session_pk DESC
LIMIT %(limit)s;

-- append_messages: messages at the end of a log, the snapshot of the turn that they end, and the change that says so
WITH appended AS (
    INSERT INTO {schema}.messages (
        session_pk, seq, id, role, parts, meta, hash, token_count, tool_tokens, created_at
    )
    SELECT %(session_pk)s, m.* FROM unnest(
        %(seqs)s::bigint[], %(ids)s::text[], %(roles)s::text[], %(parts)s::bytea[], %(metas)s::bytea[],
        %(hashes)s::bytea[], %(token_counts)s::bigint[], %(tool_token_counts)s::bigint[], %(created_at)s::bigint[]
    ) AS m
),
ended AS (
    INSERT INTO {schema}.turns (
        session_pk, turn_index, seq, role, system_tokens, summary_tokens, message_tokens, tool_tokens, context_tokens,
        created_at
    )
    SELECT
        %(session_pk)s, %(turn_index)s::bigint, %(turn_seq)s::bigint, %(turn_role)s, %(turn_system_tokens)s::bigint,
        %(turn_summary_tokens)s::bigint, %(turn_message_tokens)s::bigint, %(turn_tool_tokens)s::bigint,
        %(turn_context_tokens)s::bigint, %(turn_created_at)s::bigint
    WHERE %(turn_index)s::bigint IS NOT NULL
)
INSERT INTO {schema}.changes (position, origin, kind, session_pk, run_pk, body)
SELECT pg_current_xact_id()::text::bigint + s.position_offset, %(origin)s, 'append', %(session_pk)s, NULL, %(body)s
FROM {schema}.mnesis_schema AS s;

-- append_to_known: the same, with the accounts, if nobody holds the session and their row is the known one; otherwise nothing
WITH changed AS (
    UPDATE {schema}.accounts SET
        last_used = %(last_used)s, updated_at = %(updated_at)s, last_seq = %(last_seq)s,
        turn_count = %(turn_count)s, system_tokens = %(system_tokens)s, message_tokens = %(message_tokens)s,
        tool_tokens = %(tool_tokens)s, summary_tokens = %(summary_tokens)s, context_tokens = %(context_tokens)s,
        last_request_tokens = %(last_request_tokens)s, calibration = %(calibration)s, usage_input = %(usage_input)s,
        usage_output = %(usage_output)s, usage_cache_read = %(usage_cache_read)s,
        usage_cache_write = %(usage_cache_write)s, usage_total = %(usage_total)s, usage_reasoning = %(usage_reasoning)s,
        cost = %(cost)s, fold_count = %(fold_count)s, last_request = %(last_request)s, log_head = %(log_head)s,
        turn_head = %(turn_head)s, record_head = %(record_head)s, hash = %(hash)s, seal = %(seal)s
    WHERE session_pk = %(session_pk)s AND hash = %(known_hash)s AND xmin = %(known_version)s::text::xid
        -- The lock of `lock_session`, without waiting. What changes a session rewrites its accounts under this lock, so the
        -- change of an unchanged row comes after all others of its session, whenever the transaction got its number.
        AND pg_try_advisory_xact_lock(hashtextextended('{schema}.session ' || %(id)s, 0))
    RETURNING 1
),
appended AS (
    INSERT INTO {schema}.messages (
        session_pk, seq, id, role, parts, meta, hash, token_count, tool_tokens, created_at
    )
    SELECT %(session_pk)s, m.* FROM unnest(
        %(seqs)s::bigint[], %(ids)s::text[], %(roles)s::text[], %(parts)s::bytea[], %(metas)s::bytea[],
        %(hashes)s::bytea[], %(token_counts)s::bigint[], %(tool_token_counts)s::bigint[], %(created_at)s::bigint[]
    ) AS m
    WHERE EXISTS (SELECT 1 FROM changed)
),
ended AS (
    INSERT INTO {schema}.turns (
        session_pk, turn_index, seq, role, system_tokens, summary_tokens, message_tokens, tool_tokens, context_tokens,
        created_at
    )
    SELECT
        %(session_pk)s, %(turn_index)s::bigint, %(turn_seq)s::bigint, %(turn_role)s, %(turn_system_tokens)s::bigint,
        %(turn_summary_tokens)s::bigint, %(turn_message_tokens)s::bigint, %(turn_tool_tokens)s::bigint,
        %(turn_context_tokens)s::bigint, %(turn_created_at)s::bigint
    WHERE %(turn_index)s::bigint IS NOT NULL AND EXISTS (SELECT 1 FROM changed)
)
INSERT INTO {schema}.changes (position, origin, kind, session_pk, run_pk, body)
SELECT pg_current_xact_id()::text::bigint + s.position_offset, %(origin)s, 'append', %(session_pk)s, NULL, %(body)s
FROM {schema}.mnesis_schema AS s, changed
RETURNING pg_current_xact_id()::text::bigint;

-- is_own_append: whether this store appended a span of messages
SELECT EXISTS (
    SELECT 1 FROM {schema}.changes
    WHERE session_pk = %(session_pk)s AND origin = %(origin)s AND kind = 'append' AND starts_with(body, %(span)s)
);

-- messages_by_id: some messages of a session, in order
SELECT m.seq, m.id, m.role, m.parts, m.meta, m.hash, m.token_count, m.tool_tokens, m.created_at
FROM {schema}.messages AS m
WHERE m.session_pk = (SELECT pk FROM {schema}.sessions WHERE id = %(id)s) AND m.id = ANY (%(message_ids)s::text[])
ORDER BY m.seq;

-- messages_page: a range of the log
SELECT m.seq, m.id, m.role, m.parts, m.meta, m.hash, m.token_count, m.tool_tokens, m.created_at
FROM {schema}.messages AS m
WHERE m.session_pk = (SELECT pk FROM {schema}.sessions WHERE id = %(id)s) AND m.seq > %(after_seq)s AND m.seq <= %(until_seq)s
ORDER BY m.seq
LIMIT %(limit)s;

-- visible_messages: the messages that no cover hides
WITH covers AS (
    SELECT first_seq, last_seq, lag(last_seq, 1, 0::bigint) OVER (ORDER BY first_seq) AS previous_last
    FROM {schema}.context_covers WHERE session_pk = (SELECT pk FROM {schema}.sessions WHERE id = %(id)s)
),
gaps AS (
    SELECT previous_last + 1 AS first_seq, first_seq - 1 AS last_seq FROM covers
    UNION ALL
    SELECT coalesce((SELECT max(last_seq) FROM covers), 0) + 1, 9223372036854775807
)
SELECT m.seq, m.id, m.role, m.parts, m.meta, m.hash, m.token_count, m.tool_tokens, m.created_at
FROM gaps JOIN {schema}.messages AS m
ON m.session_pk = (SELECT pk FROM {schema}.sessions WHERE id = %(id)s) AND m.seq BETWEEN gaps.first_seq AND gaps.last_seq;

-- visible_prunes: the pruned outputs of messages that no cover hides
WITH covers AS (
    SELECT first_seq, last_seq, lag(last_seq, 1, 0::bigint) OVER (ORDER BY first_seq) AS previous_last
    FROM {schema}.context_covers WHERE session_pk = (SELECT pk FROM {schema}.sessions WHERE id = %(id)s)
),
gaps AS (
    SELECT previous_last + 1 AS first_seq, first_seq - 1 AS last_seq FROM covers
    UNION ALL
    SELECT coalesce((SELECT max(last_seq) FROM covers), 0) + 1, 9223372036854775807
)
SELECT p.seq, p.part_index, p.tokens_saved
FROM gaps JOIN {schema}.prunes AS p
ON p.session_pk = (SELECT pk FROM {schema}.sessions WHERE id = %(id)s) AND p.seq BETWEEN gaps.first_seq AND gaps.last_seq
ORDER BY p.seq, p.part_index;

-- visible_summaries: the summaries that the active context shows
SELECT
    s.id, s.first_seq, s.last_seq, s.token_count, s.message_count, s.hash, s.body,
    ARRAY(
        SELECT c.id FROM {schema}.summary_children AS e JOIN {schema}.summaries AS c ON c.pk = e.child_pk
        WHERE e.parent_pk = s.pk ORDER BY e.position
    )
FROM {schema}.summaries AS s JOIN {schema}.context_covers AS v ON v.summary_pk = s.pk
WHERE v.session_pk = (SELECT pk FROM {schema}.sessions WHERE id = %(id)s);

-- tokens_in_spans: the tokens of the messages in several spans
SELECT coalesce(sum(m.token_count), 0)::bigint, coalesce(sum(m.tool_tokens), 0)::bigint
FROM unnest(%(first)s::bigint[], %(last)s::bigint[]) AS span (first_seq, last_seq) JOIN {schema}.messages AS m
ON m.session_pk = %(session_pk)s AND m.seq BETWEEN span.first_seq AND span.last_seq;

-- prunes_in_spans: the tokens saved by pruned outputs in several spans
SELECT coalesce(sum(p.tokens_saved), 0)::bigint
FROM unnest(%(first)s::bigint[], %(last)s::bigint[]) AS span (first_seq, last_seq) JOIN {schema}.prunes AS p
ON p.session_pk = %(session_pk)s AND p.seq BETWEEN span.first_seq AND span.last_seq;

-- insert_prune: show an output as a marker; does nothing if it is one already
INSERT INTO {schema}.prunes (session_pk, seq, part_index, tokens_saved)
VALUES (%(session_pk)s, %(seq)s, %(part_index)s, %(tokens_saved)s)
ON CONFLICT DO NOTHING
RETURNING 1;

-- turns: turns after one of them, oldest first
SELECT turn_index, seq, role, system_tokens, summary_tokens, message_tokens, tool_tokens, context_tokens, created_at
FROM {schema}.turns
WHERE session_pk = (SELECT pk FROM {schema}.sessions WHERE id = %(id)s) AND turn_index > %(after_turn)s
ORDER BY turn_index
LIMIT %(limit)s;

-- turn_at: the turn that ends with a message, if one does
SELECT turn_index, seq, role, system_tokens, summary_tokens, message_tokens, tool_tokens, context_tokens, created_at
FROM {schema}.turns WHERE session_pk = %(session_pk)s AND seq = %(seq)s ORDER BY turn_index DESC LIMIT 1;

-- covers: what the active context shows instead of messages
SELECT c.first_seq, c.last_seq, s.id
FROM {schema}.context_covers AS c LEFT JOIN {schema}.summaries AS s ON s.pk = c.summary_pk
WHERE c.session_pk = (SELECT pk FROM {schema}.sessions WHERE id = %(id)s) ORDER BY c.first_seq;

-- delete_cover: remove one cover
DELETE FROM {schema}.context_covers WHERE session_pk = %(session_pk)s AND first_seq = %(first_seq)s;

-- insert_cover: cover a span with a summary, or hide it
INSERT INTO {schema}.context_covers (session_pk, first_seq, last_seq, summary_pk)
VALUES (
    %(session_pk)s, %(first_seq)s, %(last_seq)s,
    (SELECT pk FROM {schema}.all_summaries WHERE session_pk = %(session_pk)s AND id = %(summary_id)s)
);

-- insert_hidden_span: record that a span was hidden on purpose
INSERT INTO {schema}.hidden_spans (session_pk, first_seq, last_seq)
VALUES (%(session_pk)s, %(first_seq)s, %(last_seq)s)
RETURNING pk;

-- insert_summary: a new summary
INSERT INTO {schema}.summaries (session_pk, id, first_seq, last_seq, token_count, message_count, hash, body)
VALUES (
    %(session_pk)s, %(id)s, %(first_seq)s, %(last_seq)s, %(token_count)s, %(message_count)s, %(hash)s, %(body)s
)
RETURNING pk;

-- insert_leaf_edges: link a leaf to the messages of its spans
INSERT INTO {schema}.summary_messages (summary_pk, session_pk, seq)
SELECT (SELECT pk FROM {schema}.summaries WHERE session_pk = %(session_pk)s AND id = %(id)s), m.session_pk, m.seq
FROM unnest(%(first)s::bigint[], %(last)s::bigint[]) AS span (first_seq, last_seq) JOIN {schema}.messages AS m
ON m.session_pk = %(session_pk)s AND m.seq BETWEEN span.first_seq AND span.last_seq;

-- insert_child_edges: link a condensed summary to its children, in order
INSERT INTO {schema}.summary_children (parent_pk, position, child_pk, session_pk)
SELECT
    (SELECT pk FROM {schema}.summaries WHERE session_pk = %(session_pk)s AND id = %(id)s),
    child.position - 1, s.pk, %(session_pk)s
FROM unnest(%(children)s::text[]) WITH ORDINALITY AS child (id, position)
JOIN {schema}.all_summaries AS s ON s.session_pk = %(session_pk)s AND s.id = child.id;

-- summary_spans: the spans and tokens of some summaries
SELECT id, first_seq, last_seq, token_count
FROM {schema}.all_summaries
WHERE session_pk = (SELECT pk FROM {schema}.sessions WHERE id = %(id)s) AND id = ANY (%(ids)s::text[]);

-- summary: one summary, with its children
SELECT
    s.id, s.first_seq, s.last_seq, s.token_count, s.message_count, s.hash, s.body,
    ARRAY(
        SELECT c.id FROM {schema}.summary_children AS e JOIN {schema}.summaries AS c ON c.pk = e.child_pk
        WHERE e.parent_pk = s.pk ORDER BY e.position
    )
FROM {schema}.all_summaries AS s
WHERE s.session_pk = (SELECT pk FROM {schema}.sessions WHERE id = %(id)s) AND s.id = %(summary_id)s;

-- summaries: all summaries of a session in order of creation, with their children
SELECT
    s.id, s.first_seq, s.last_seq, s.token_count, s.message_count, s.hash, s.body,
    ARRAY(
        SELECT c.id FROM {schema}.summary_children AS e JOIN {schema}.summaries AS c ON c.pk = e.child_pk
        WHERE e.parent_pk = s.pk ORDER BY e.position
    )
FROM {schema}.all_summaries AS s
WHERE s.session_pk = (SELECT pk FROM {schema}.sessions WHERE id = %(id)s)
ORDER BY s.pk;

-- covered_messages: the messages that a summary covers, however deep
WITH RECURSIVE behind (pk) AS (
    SELECT pk FROM {schema}.all_summaries WHERE session_pk = %(session_pk)s AND id = %(id)s
    UNION
    SELECT e.child_pk FROM behind JOIN {schema}.summary_children AS e ON e.parent_pk = behind.pk
),
page (seq) AS (
    SELECT DISTINCT e.seq FROM behind JOIN {schema}.summary_messages AS e ON e.summary_pk = behind.pk
    WHERE e.seq > %(after_seq)s
    ORDER BY e.seq
    LIMIT %(limit)s
)
SELECT m.seq, m.id, m.role, m.parts, m.meta, m.hash, m.token_count, m.tool_tokens, m.created_at
FROM page JOIN {schema}.messages AS m ON m.session_pk = %(session_pk)s AND m.seq = page.seq
ORDER BY m.seq;

-- covered_seqs: the seqs of the messages that a summary covers, however deep
WITH RECURSIVE behind (pk) AS (
    SELECT pk FROM {schema}.all_summaries WHERE session_pk = %(session_pk)s AND id = %(id)s
    UNION
    SELECT e.child_pk FROM behind JOIN {schema}.summary_children AS e ON e.parent_pk = behind.pk
)
SELECT DISTINCT e.seq FROM behind JOIN {schema}.summary_messages AS e ON e.summary_pk = behind.pk
WHERE e.seq > %(after_seq)s
ORDER BY e.seq
LIMIT %(limit)s;

-- insert_compaction: the result of a sweep
INSERT INTO {schema}.compactions (session_pk, result) VALUES (%(session_pk)s, %(result)s) RETURNING pk;

-- compactions: the results of all sweeps, oldest first
SELECT result FROM {schema}.compactions WHERE session_pk = (SELECT pk FROM {schema}.sessions WHERE id = %(id)s) ORDER BY pk;

-- insert_interruption: a model call that gave no reply
INSERT INTO {schema}.interruptions (session_pk, body) VALUES (%(session_pk)s, %(body)s) RETURNING pk;

-- interruptions: model calls that gave no reply, oldest first
SELECT body FROM {schema}.interruptions WHERE session_pk = (SELECT pk FROM {schema}.sessions WHERE id = %(id)s) ORDER BY pk;

-- purge_session: erase every row of a session
SELECT {schema}.purge_session(%(session_pk)s);

-- insert_pin: pin a message; does nothing if it is pinned already
INSERT INTO {schema}.pins (session_pk, seq) VALUES (%(session_pk)s, %(seq)s) ON CONFLICT DO NOTHING;

-- delete_pin: unpin a message
DELETE FROM {schema}.pins WHERE session_pk = %(session_pk)s AND seq = %(seq)s;

-- pins: the pinned messages
SELECT seq FROM {schema}.pins WHERE session_pk = (SELECT pk FROM {schema}.sessions WHERE id = %(id)s) ORDER BY seq;

-- insert_file_ref: a message refers to a stored file
INSERT INTO {schema}.file_refs (session_pk, seq, content_id) VALUES (%(session_pk)s, %(seq)s, %(content_id)s);

-- file_refs: which messages refer to which stored files
SELECT s.id, m.id, f.seq, f.content_id
FROM {schema}.file_refs AS f
JOIN {schema}.sessions AS s ON s.pk = f.session_pk
JOIN {schema}.messages AS m ON m.session_pk = f.session_pk AND m.seq = f.seq
WHERE (%(session_pk)s::bigint IS NULL OR f.session_pk = %(session_pk)s)
    AND (%(content_id)s::text IS NULL OR f.content_id = %(content_id)s)
ORDER BY f.session_pk, f.seq, f.content_id;

-- messages_with_files: a page of the log of all sessions but some, with the parts of messages that may name a file
SELECT
    m.session_pk,
    m.seq,
    CASE
        WHEN
            position('content_id'::bytea IN m.parts) > 0
            AND m.session_pk NOT IN (SELECT s.pk FROM {schema}.sessions AS s WHERE s.id = ANY(%(session_ids)s::text []))
            THEN m.parts
    END
FROM {schema}.messages AS m
WHERE (m.session_pk, m.seq) > (%(session_pk)s, %(seq)s)
ORDER BY m.session_pk, m.seq
LIMIT %(limit)s;

-- insert_run: a new run; does nothing if the id is taken
INSERT INTO {schema}.runs (id, kind, fingerprint, model, created_at, input_head, hash, seal)
VALUES (
    %(id)s, %(kind)s, %(fingerprint)s, %(model)s, %(created_at)s, %(input_head)s, %(hash)s, %(seal)s
)
ON CONFLICT (id) DO NOTHING
RETURNING pk;

-- insert_run_plan: what a worker needs to process a run
INSERT INTO {schema}.run_plans (run_pk, plan) VALUES (%(run_pk)s, %(plan)s);

-- run_plan: the plan of a run, NULL if none was stored
SELECT p.plan FROM {schema}.runs AS r LEFT JOIN {schema}.run_plans AS p ON p.run_pk = r.pk WHERE r.id = %(id)s;

-- lock_run: lock a run until the end of the transaction
SELECT pk FROM {schema}.runs WHERE id = %(id)s FOR NO KEY UPDATE;

-- run: one run by its id
SELECT
    pk, id, kind, fingerprint, model, created_at, total, pending, running, done, failed, attempts, usage_input,
    usage_output, usage_cache_read, usage_cache_write, usage_total, cost, input_head, hash, seal
FROM {schema}.runs WHERE id = %(id)s;

-- runs: runs, newest first
SELECT
    pk, id, kind, fingerprint, model, created_at, total, pending, running, done, failed, attempts, usage_input,
    usage_output, usage_cache_read, usage_cache_write, usage_total, cost, input_head, hash, seal
FROM {schema}.runs ORDER BY pk DESC LIMIT %(limit)s;

-- save_run: the counts and sums of a run, and its hash
UPDATE {schema}.runs SET
    total = %(total)s, pending = %(pending)s, running = %(running)s, done = %(done)s, failed = %(failed)s,
    attempts = %(attempts)s, usage_input = %(usage_input)s, usage_output = %(usage_output)s,
    usage_cache_read = %(usage_cache_read)s, usage_cache_write = %(usage_cache_write)s, usage_total = %(usage_total)s,
    cost = %(cost)s, input_head = %(input_head)s, hash = %(hash)s, seal = %(seal)s
WHERE pk = %(run_pk)s;

-- insert_run_inputs: the inputs of some items
INSERT INTO {schema}.run_inputs (run_pk, item_index, input, hash)
SELECT %(run_pk)s, new.item_index, new.input, new.hash
FROM unnest(%(indexes)s::bigint[], %(inputs)s::bytea[], %(hashes)s::bytea[]) AS new (item_index, input, hash);

-- insert_run_items: pending items
INSERT INTO {schema}.run_items (run_pk, item_index, hash, seal)
SELECT %(run_pk)s, new.item_index, new.hash, new.seal
FROM unnest(%(indexes)s::bigint[], %(hashes)s::bytea[], %(seals)s::bytea[]) AS new (item_index, hash, seal);

-- run_inputs: the inputs of a range of items
SELECT input FROM {schema}.run_inputs
WHERE run_pk = (SELECT pk FROM {schema}.runs WHERE id = %(id)s) AND item_index BETWEEN %(first_index)s AND %(last_index)s
ORDER BY item_index;

-- run_items_to_claim: pending items and items whose lease has ended, lowest index first
SELECT i.item_index, t.input, i.state, i.claims, i.attempts, i.worker, i.lease_until, i.outcome, i.hash, t.hash
FROM (
    (
        SELECT * FROM {schema}.run_items
        WHERE run_pk = (SELECT pk FROM {schema}.runs WHERE id = %(id)s) AND state = 'pending'
        ORDER BY item_index LIMIT %(limit)s
    )
    UNION ALL
    (
        SELECT * FROM {schema}.run_items
        WHERE run_pk = (SELECT pk FROM {schema}.runs WHERE id = %(id)s) AND state = 'running' AND lease_until <= %(now)s
            AND claims < %(max_claims)s
        ORDER BY item_index LIMIT %(limit)s
    )
) AS i
JOIN {schema}.run_inputs AS t ON t.run_pk = i.run_pk AND t.item_index = i.item_index
ORDER BY i.item_index
LIMIT %(limit)s;

-- run_items_lost: items whose lease has ended and that may not be claimed again
SELECT item_index, state, claims, attempts, worker, lease_until, outcome, hash FROM {schema}.run_items
WHERE run_pk = (SELECT pk FROM {schema}.runs WHERE id = %(id)s) AND state = 'running' AND lease_until <= %(now)s
    AND claims >= %(max_claims)s
ORDER BY item_index;

-- run_items_page: items in order
SELECT i.item_index, t.input, i.state, i.claims, i.attempts, i.worker, i.lease_until, i.outcome, i.hash, t.hash
FROM {schema}.run_items AS i
JOIN {schema}.run_inputs AS t ON t.run_pk = i.run_pk AND t.item_index = i.item_index
WHERE i.run_pk = (SELECT pk FROM {schema}.runs WHERE id = %(id)s) AND i.item_index > %(after_index)s
ORDER BY i.item_index
LIMIT %(limit)s;

-- run_items_in_state: items of one state in order
SELECT i.item_index, t.input, i.state, i.claims, i.attempts, i.worker, i.lease_until, i.outcome, i.hash, t.hash
FROM {schema}.run_items AS i
JOIN {schema}.run_inputs AS t ON t.run_pk = i.run_pk AND t.item_index = i.item_index
WHERE i.run_pk = (SELECT pk FROM {schema}.runs WHERE id = %(id)s) AND i.state = %(state)s
    AND i.item_index > %(after_index)s
ORDER BY i.item_index
LIMIT %(limit)s;

-- run_item_states: the states of some items
SELECT item_index, state, claims, attempts, worker, lease_until, outcome, hash FROM {schema}.run_items
WHERE run_pk = (SELECT pk FROM {schema}.runs WHERE id = %(id)s) AND item_index = ANY (%(indexes)s::bigint[]);

-- run_items_failed: the states of failed items
SELECT item_index, state, claims, attempts, worker, lease_until, outcome, hash FROM {schema}.run_items
WHERE run_pk = (SELECT pk FROM {schema}.runs WHERE id = %(id)s) AND state = 'failed'
ORDER BY item_index;

-- save_run_items: the new states of some items
UPDATE {schema}.run_items AS i SET
    state = new.state, claims = new.claims, attempts = new.attempts, worker = new.worker,
    lease_until = new.lease_until, outcome = new.outcome, hash = new.hash, seal = new.seal
FROM unnest(
    %(indexes)s::bigint[], %(states)s::text[], %(claims)s::bigint[], %(attempts)s::bigint[], %(workers)s::text[],
    %(leases)s::bigint[], %(outcomes)s::bytea[], %(hashes)s::bytea[], %(seals)s::bytea[]
) AS new (item_index, state, claims, attempts, worker, lease_until, outcome, hash, seal)
WHERE i.run_pk = %(run_pk)s AND i.item_index = new.item_index;

-- purge_run: erase every row of a run
SELECT {schema}.purge_run(%(run_pk)s);

-- insert_change: note what a transaction does
INSERT INTO {schema}.changes (position, origin, kind, session_pk, run_pk, body)
SELECT
    pg_current_xact_id()::text::bigint + s.position_offset, %(origin)s, %(kind)s, %(session_pk)s::bigint,
    %(run_pk)s::bigint, %(body)s
FROM {schema}.mnesis_schema AS s;

-- changes_page: what the next transactions after a position committed, whether all before it has ended, and the messages of appends
SELECT c.position, c.position < coalesce(
    %(horizon)s::bigint,
    (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint + position_offset FROM {schema}.mnesis_schema)
), c.origin, c.kind, c.session_pk, c.body, s.id, s.created_at, r.id, h.seqs, h.ids, h.roles, h.token_counts, h.parts
FROM {schema}.changes AS c
LEFT JOIN {schema}.sessions AS s ON s.pk = c.session_pk
LEFT JOIN {schema}.runs AS r ON r.pk = c.run_pk
LEFT JOIN LATERAL (
    SELECT
        array_agg(m.seq ORDER BY m.seq) AS seqs, array_agg(m.id ORDER BY m.seq) AS ids,
        array_agg(m.role ORDER BY m.seq) AS roles, array_agg(m.token_count ORDER BY m.seq) AS token_counts,
        array_agg(m.parts ORDER BY m.seq) AS parts
    FROM {schema}.messages AS m
    WHERE m.session_pk = c.session_pk AND m.seq BETWEEN
        CASE WHEN c.kind = 'append' THEN (c.body::json ->> 0)::bigint END
        AND CASE WHEN c.kind = 'append' THEN (c.body::json ->> 1)::bigint END
) AS h ON true
WHERE c.position > %(after)s AND c.position <= (
    SELECT max(position) FROM (
        SELECT DISTINCT position FROM {schema}.changes WHERE position > %(after)s ORDER BY position LIMIT %(limit)s
    ) AS page
)
ORDER BY c.position, c.pk;

-- change_horizon: a position before which every transaction has ended, whatever other databases of the server do
SELECT coalesce(
    min(s.newest - ((s.newest - l.transactionid::text::bigint) & 4294967295)), min(s.newest)
) + min(s.position_offset)
FROM (
    SELECT pg_snapshot_xmax(%(snapshot)s::text::pg_snapshot)::text::bigint AS newest, position_offset
    FROM {schema}.mnesis_schema
) AS s
LEFT JOIN (
    SELECT own.transactionid FROM pg_locks AS own JOIN pg_locks AS changing ON changing.pid = own.pid
    WHERE own.locktype = 'transactionid' AND own.mode = 'ExclusiveLock' AND own.granted
        AND changing.locktype = 'relation' AND changing.mode = 'RowExclusiveLock'
        AND changing.relation = '{schema}.changes'::regclass
        AND changing.database = (SELECT oid FROM pg_database WHERE datname = current_database())
) AS l ON true;

-- snapshot: which transactions are running
SELECT pg_current_snapshot()::text;

-- lock_changes: show readers of changes that this transaction may add one
LOCK TABLE {schema}.changes IN ROW EXCLUSIVE MODE;

-- notify: wake followers
SELECT pg_notify(%(channel)s, '');

-- change_message_ids: the ids of messages in several spans
SELECT m.seq, m.id
FROM unnest(%(first)s::bigint[], %(last)s::bigint[]) AS span (first_seq, last_seq) JOIN {schema}.messages AS m
ON m.session_pk = %(session_pk)s AND m.seq BETWEEN span.first_seq AND span.last_seq
UNION ALL
SELECT m.seq, m.id
FROM {schema}.segments AS g
CROSS JOIN unnest(%(first)s::bigint[], %(last)s::bigint[]) AS span (first_seq, last_seq)
JOIN {schema}.messages AS m ON m.session_pk = g.source_pk
    AND m.seq BETWEEN greatest(g.first_seq, span.first_seq) AND least(g.last_seq, span.last_seq)
WHERE g.session_pk = %(session_pk)s;

-- change_compaction: the result of one sweep
SELECT result FROM {schema}.compactions WHERE pk = %(pk)s;

-- change_sessions: every session, to name those that are deleted later
SELECT pk, created_at, id FROM {schema}.sessions;

-- lock_index: keep others from indexing anything
SELECT pg_advisory_xact_lock(hashtextextended('{schema}.search', 0));

-- lock_session_index: keep others from indexing a session
SELECT
    pg_advisory_xact_lock_shared(hashtextextended('{schema}.search', 0)),
    pg_advisory_xact_lock(hashtextextended('{schema}.search ' || %(session_pk)s::bigint, 0));

-- clear_search: erase the index of a session
SELECT {schema}.clear_search(%(session_pk)s);

-- search_state: the last indexed seqs of a session, and the rules it was indexed by
SELECT rules, words_seq, trigrams_seq FROM {schema}.search_state WHERE session_pk = %(session_pk)s;

-- search_states: every session that is indexed
SELECT session_pk FROM {schema}.search_state;

-- search_behind: sessions whose log is longer than their index
SELECT s.id
FROM {schema}.accounts AS a
JOIN {schema}.sessions AS s ON s.pk = a.session_pk
LEFT JOIN {schema}.search_state AS i ON i.session_pk = a.session_pk AND i.rules = %(rules)s
WHERE a.last_seq > CASE WHEN %(substrings)s THEN coalesce(i.trigrams_seq, 0) ELSE coalesce(i.words_seq, 0) END
ORDER BY s.pk
LIMIT %(limit)s;

-- count_search_behind: messages that are not indexed
SELECT coalesce(sum(greatest(
    0, a.last_seq - CASE WHEN %(substrings)s THEN coalesce(i.trigrams_seq, 0) ELSE coalesce(i.words_seq, 0) END
)), 0)::bigint
FROM {schema}.accounts AS a
LEFT JOIN {schema}.search_state AS i ON i.session_pk = a.session_pk AND i.rules = %(rules)s;

-- search_logs: every session, the end of its log and of the messages that it shares
SELECT s.pk, s.id, a.last_seq, coalesce((SELECT max(g.last_seq) FROM {schema}.segments AS g WHERE g.session_pk = s.pk), 0)
FROM {schema}.accounts AS a JOIN {schema}.sessions AS s ON s.pk = a.session_pk
ORDER BY s.pk;

-- search_to_index: messages that are not indexed yet
SELECT m.seq, m.id, m.role, m.parts, m.meta, m.hash, m.token_count, m.tool_tokens, m.created_at
FROM {schema}.messages AS m
WHERE m.session_pk = %(session_pk)s AND m.seq > %(after_seq)s
ORDER BY m.seq
LIMIT %(limit)s;

-- insert_search_words: index words; the terms are sorted, so that two processes cannot wait for each other
INSERT INTO {schema}.search_words (term, key)
SELECT new.term, new.key FROM unnest(%(terms)s::text[], %(keys)s::bigint[]) AS new (term, key)
ON CONFLICT DO NOTHING;

-- insert_search_vocabulary: keep words apart, for words of a query that match nothing
INSERT INTO {schema}.search_vocabulary (term)
SELECT new.term FROM unnest(%(terms)s::text[]) AS new (term)
ON CONFLICT DO NOTHING;

-- insert_search_trigrams: index a message for substrings
INSERT INTO {schema}.search_trigrams (key, trigrams) VALUES (%(key)s, %(trigrams)s::integer[])
ON CONFLICT DO NOTHING;

-- insert_search_row: what ranking needs to know about a message
INSERT INTO {schema}.search_rows (key, words, created_at, role, speaker, tools)
VALUES (%(key)s, %(words)s, %(created_at)s, %(role)s, %(speaker)s, %(tools)s)
ON CONFLICT DO NOTHING;

-- insert_search_speaker: count a speaker of a session
INSERT INTO {schema}.search_speakers (session_pk, speaker, messages)
VALUES (%(session_pk)s, %(speaker)s, %(messages)s)
ON CONFLICT (session_pk, speaker)
DO UPDATE SET messages = {schema}.search_speakers.messages + excluded.messages;

-- set_search_words: the words of a session are indexed up to here
INSERT INTO {schema}.search_state (session_pk, rules, words_seq, trigrams_seq)
VALUES (%(session_pk)s, %(rules)s, %(seq)s, 0)
ON CONFLICT (session_pk) DO UPDATE SET words_seq = excluded.words_seq;

-- set_search_trigrams: the substrings of a session are indexed up to here
INSERT INTO {schema}.search_state (session_pk, rules, words_seq, trigrams_seq)
VALUES (%(session_pk)s, %(rules)s, 0, %(seq)s)
ON CONFLICT (session_pk) DO UPDATE SET trigrams_seq = excluded.trigrams_seq;

-- search_word: messages with a word, newest first
SELECT key FROM {schema}.search_words
WHERE term = %(term)s AND key BETWEEN %(first_key)s AND %(last_key)s
ORDER BY key DESC
LIMIT %(limit)s;

-- search_any_word: messages with one of several words, newest first
SELECT DISTINCT key FROM {schema}.search_words
WHERE term = ANY (%(terms)s::text[]) AND key BETWEEN %(first_key)s AND %(last_key)s
ORDER BY key DESC
LIMIT %(limit)s;

-- search_beginnings: messages with enough of several words or beginnings of words, newest first
SELECT w.key
FROM unnest(%(first)s::text[], %(last)s::text[]) WITH ORDINALITY AS part (first, last, number)
JOIN {schema}.search_words AS w ON w.term BETWEEN part.first AND part.last
WHERE w.key BETWEEN %(first_key)s AND %(last_key)s
GROUP BY w.key
HAVING count(DISTINCT part.number) >= %(least)s
ORDER BY w.key DESC
LIMIT %(limit)s;

-- search_vocabulary: indexed words with at least this many letters
SELECT term FROM {schema}.search_vocabulary WHERE length(term) >= %(least)s ORDER BY term LIMIT %(limit)s;

-- search_trigrams: messages that may contain a substring, newest first
SELECT key FROM {schema}.search_trigrams
WHERE trigrams @> %(trigrams)s::integer[] AND key BETWEEN %(first_key)s AND %(last_key)s
ORDER BY key DESC;

-- search_rows: what ranking knows about the messages in spans of keys
SELECT r.key, r.words, r.created_at, r.speaker
FROM unnest(%(first)s::bigint[], %(last)s::bigint[]) AS span (first_key, last_key)
JOIN {schema}.search_rows AS r ON r.key BETWEEN span.first_key AND span.last_key
ORDER BY r.key;

-- search_filtered: messages in a span that pass a filter
SELECT key FROM {schema}.search_rows
WHERE key BETWEEN %(first_key)s AND %(last_key)s
    AND (%(role)s::text IS NULL OR role = %(role)s)
    AND (%(tool)s::text IS NULL OR strpos(chr(10) || tools || chr(10), chr(10) || %(tool)s || chr(10)) > 0)
    AND (%(after)s::double precision IS NULL OR created_at >= %(after)s)
    AND (%(before)s::double precision IS NULL OR created_at < %(before)s);

-- search_behind_summary: seqs of the messages that a summary covers, however deep
WITH RECURSIVE behind (pk) AS (
    SELECT pk FROM {schema}.all_summaries WHERE session_pk = %(session_pk)s AND id = %(id)s
    UNION
    SELECT e.child_pk FROM behind JOIN {schema}.summary_children AS e ON e.parent_pk = behind.pk
)
SELECT DISTINCT e.seq FROM behind JOIN {schema}.summary_messages AS e ON e.summary_pk = behind.pk;

-- search_speakers: speakers of the sessions from one to another, and how many messages they have
SELECT session_pk, speaker, messages FROM {schema}.search_speakers
WHERE session_pk BETWEEN %(first_pk)s AND %(last_pk)s;

-- search_vectors: vectors of the messages in a span, newest first; the server checks its pages, so there is no checksum
SELECT key, vectors, NULL::bigint FROM {schema}.search_vectors
WHERE key BETWEEN %(first_key)s AND %(last_key)s AND model = %(model)s
ORDER BY key DESC;

-- search_without_vectors: messages of a session that have no vector
SELECT m.seq, m.id, m.role, m.parts, m.meta, m.hash, m.token_count, m.tool_tokens, m.created_at
FROM {schema}.messages AS m
WHERE m.session_pk = %(session_pk)s AND m.seq BETWEEN %(first_seq)s AND %(last_seq)s AND NOT EXISTS (
    SELECT 1 FROM {schema}.search_vectors AS v WHERE v.key = (m.session_pk << 32 | m.seq) AND v.model = %(model)s
)
ORDER BY m.seq
LIMIT %(limit)s;

-- save_search_vectors: the vectors of a message that is still there
INSERT INTO {schema}.search_vectors (key, model, vectors)
SELECT %(key)s::bigint, %(model)s::text, %(vectors)s::bytea
WHERE EXISTS (
    SELECT 1 FROM {schema}.messages AS m
    WHERE m.session_pk = %(key)s::bigint >> 32 AND m.seq = (%(key)s::bigint & 4294967295)
)
ON CONFLICT (key, model) DO UPDATE SET vectors = excluded.vectors;

-- search_messages: the messages of a page of hits, with the summary that covers each
SELECT m.seq, m.id, m.role, m.parts, m.meta, m.hash, m.token_count, m.tool_tokens, m.created_at, hit.key, (
    SELECT s.id FROM {schema}.context_covers AS c LEFT JOIN {schema}.summaries AS s ON s.pk = c.summary_pk
    WHERE c.session_pk = coalesce(%(fork_pk)s::bigint, m.session_pk) AND c.first_seq <= m.seq AND c.last_seq >= m.seq
)
FROM unnest(%(keys)s::bigint[]) AS hit (key)
JOIN {schema}.messages AS m ON m.session_pk = hit.key >> 32 AND m.seq = (hit.key & 4294967295);

-- check_sessions: the sessions to check
SELECT pk, id FROM {schema}.sessions ORDER BY pk;

-- check_triggers: triggers of the schema that are disabled
SELECT c.relname, t.tgname FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
WHERE c.relnamespace = '{schema}'::regnamespace AND NOT t.tgisinternal AND t.tgenabled NOT IN ('O', 'A');

-- check_objects: the tables, indexes, functions, constraints and triggers of the schema, by definition
SELECT 'index', indexname::text, md5(replace(indexdef, '{schema}.', '')) FROM pg_indexes WHERE schemaname = '{schema}'
UNION ALL
SELECT 'function', p.proname::text, md5(replace(p.prosrc, '{schema}.', ''))
FROM pg_proc AS p WHERE p.pronamespace = '{schema}'::regnamespace
UNION ALL
SELECT 'trigger', t.tgname::text, md5(replace(pg_get_triggerdef(t.oid), '{schema}.', ''))
FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
WHERE c.relnamespace = '{schema}'::regnamespace AND NOT t.tgisinternal
UNION ALL
SELECT 'column', table_name || '.' || column_name, md5(data_type || is_nullable)
FROM information_schema.columns WHERE table_schema = '{schema}';

-- check_messages: messages with every value that their hash covers
SELECT m.seq, m.id, m.role, m.parts, m.meta, m.hash, m.token_count, m.tool_tokens, m.created_at
FROM {schema}.messages AS m
WHERE m.session_pk = %(session_pk)s AND m.seq > %(after_seq)s
ORDER BY m.seq
LIMIT %(limit)s;

-- check_log: the number of messages, the first and the last seq
SELECT count(*), coalesce(min(l.seq), 1), coalesce(max(l.seq), 0) FROM (
    SELECT seq FROM {schema}.messages WHERE session_pk = %(session_pk)s
    UNION ALL
    SELECT m.seq FROM {schema}.segments AS g
    JOIN {schema}.messages AS m ON m.session_pk = g.source_pk AND m.seq BETWEEN g.first_seq AND g.last_seq
    WHERE g.session_pk = %(session_pk)s
) AS l;

-- check_accounts: the accounts that follow from the log
SELECT last_seq, turn_count, system_tokens, message_tokens, tool_tokens, summary_tokens, context_tokens, log_head
FROM {schema}.accounts WHERE session_pk = %(session_pk)s;

-- check_visible_tokens: the tokens of the messages that no cover hides, of their pruned outputs, and of shown summaries
WITH log AS (
    SELECT seq, token_count, tool_tokens FROM {schema}.messages WHERE session_pk = %(session_pk)s
    UNION ALL
    SELECT m.seq, m.token_count, m.tool_tokens FROM {schema}.segments AS g
    JOIN {schema}.messages AS m ON m.session_pk = g.source_pk AND m.seq BETWEEN g.first_seq AND g.last_seq
    WHERE g.session_pk = %(session_pk)s
),
visible AS (
    SELECT l.token_count, l.tool_tokens FROM log AS l WHERE NOT EXISTS (
        SELECT 1 FROM {schema}.context_covers AS c
        WHERE c.session_pk = %(session_pk)s AND l.seq BETWEEN c.first_seq AND c.last_seq
    )
)
SELECT
    (SELECT coalesce(sum(token_count), 0)::bigint FROM visible),
    (SELECT coalesce(sum(tool_tokens), 0)::bigint FROM visible),
    (
        SELECT coalesce(sum(p.tokens_saved), 0)::bigint FROM {schema}.prunes AS p
        WHERE p.session_pk = %(session_pk)s AND NOT EXISTS (
            SELECT 1 FROM {schema}.context_covers AS c
            WHERE c.session_pk = p.session_pk AND p.seq BETWEEN c.first_seq AND c.last_seq
        )
    ),
    (
        SELECT coalesce(sum(s.token_count), 0)::bigint
        FROM {schema}.context_covers AS c JOIN {schema}.summaries AS s ON s.pk = c.summary_pk
        WHERE c.session_pk = %(session_pk)s
    );

-- check_turns: the number of snapshots, and the last
SELECT count(*), coalesce(max(turn_index), -1) FROM {schema}.turns WHERE session_pk = %(session_pk)s;

-- check_turn_rows: all turns in order, as their chain covers them
SELECT turn_index, seq, role, system_tokens, summary_tokens, message_tokens, tool_tokens, context_tokens, created_at
FROM {schema}.turns WHERE session_pk = %(session_pk)s ORDER BY turn_index;

-- check_summary_rows: the summaries that a session stores in order, as their chain covers them
SELECT pk, id, first_seq, last_seq, token_count, message_count, hash FROM {schema}.summaries
WHERE session_pk = %(session_pk)s ORDER BY pk;

-- check_child_ids: the children of condensed summaries, in order
SELECT e.parent_pk, e.position, c.id
FROM {schema}.summary_children AS e JOIN {schema}.summaries AS c ON c.pk = e.child_pk
WHERE e.parent_pk IN (SELECT pk FROM {schema}.summaries WHERE session_pk = %(session_pk)s)
ORDER BY e.parent_pk, e.position;

-- check_inherited: the summaries of other sessions that a fork has too, as their chain covers them
SELECT s.pk, s.id, s.hash FROM {schema}.inherited_summaries AS i JOIN {schema}.summaries AS s ON s.pk = i.summary_pk
WHERE i.session_pk = %(session_pk)s ORDER BY i.summary_pk;

-- check_compactions: the results of all sweeps, as their chain covers them
SELECT pk, result FROM {schema}.compactions WHERE session_pk = %(session_pk)s ORDER BY pk;

-- check_interruptions: all interruptions, as their chain covers them
SELECT pk, body FROM {schema}.interruptions WHERE session_pk = %(session_pk)s ORDER BY pk;

-- check_hidden_rows: all hidden spans, as their chain covers them
SELECT pk, first_seq, last_seq FROM {schema}.hidden_spans WHERE session_pk = %(session_pk)s ORDER BY pk;

-- check_prunes: the pruned outputs
SELECT seq, part_index, tokens_saved FROM {schema}.prunes WHERE session_pk = %(session_pk)s ORDER BY seq, part_index;

-- check_summaries: summaries with their spans, counts and content
SELECT pk, id, first_seq, last_seq, message_count, token_count, body, hash FROM {schema}.all_summaries
WHERE session_pk = %(session_pk)s ORDER BY pk;

-- check_edges: the spans of messages that leaves cover; those that are not part of the log are negative
WITH edges AS (
    SELECT e.summary_pk, CASE WHEN e.session_pk = %(session_pk)s OR EXISTS (
        SELECT 1 FROM {schema}.segments AS g
        WHERE g.session_pk = %(session_pk)s AND g.source_pk = e.session_pk AND e.seq BETWEEN g.first_seq AND g.last_seq
    ) THEN e.seq ELSE -e.seq END AS seq
    FROM {schema}.summary_messages AS e JOIN {schema}.all_summaries AS s ON s.pk = e.summary_pk
    WHERE s.session_pk = %(session_pk)s
)
SELECT summary_pk, min(seq), max(seq)
FROM (
    -- Consecutive numbers have the same difference to their rank.
    SELECT summary_pk, seq, seq - rank() OVER (PARTITION BY summary_pk ORDER BY seq) AS span FROM edges
) AS ranked
GROUP BY summary_pk, span ORDER BY 1, 2;

-- check_children: which summaries condensed summaries cover
SELECT e.parent_pk, e.child_pk
FROM {schema}.summary_children AS e JOIN {schema}.all_summaries AS s ON s.pk = e.parent_pk
WHERE s.session_pk = %(session_pk)s;

-- check_covers: what the active context shows instead of messages, by key
SELECT first_seq, last_seq, summary_pk FROM {schema}.context_covers
WHERE session_pk = %(session_pk)s ORDER BY first_seq;

-- check_hidden_spans: spans that were hidden on purpose
SELECT first_seq, last_seq FROM {schema}.hidden_spans WHERE session_pk = %(session_pk)s;

-- check_file_refs: the recorded references to stored files
SELECT seq, content_id FROM {schema}.file_refs WHERE session_pk = %(session_pk)s;

-- check_runs: every run, the counts of its items and the number of its inputs
SELECT
    r.id,
    ARRAY[r.pending, r.running, r.done, r.failed, r.attempts, r.pending + r.running + r.done + r.failed,
        coalesce(r.total, r.pending + r.running + r.done + r.failed)],
    ARRAY[
        count(i.*) FILTER (WHERE i.state = 'pending'), count(i.*) FILTER (WHERE i.state = 'running'),
        count(i.*) FILTER (WHERE i.state = 'done'), count(i.*) FILTER (WHERE i.state = 'failed'),
        coalesce(sum(i.attempts), 0)::bigint, (SELECT count(*) FROM {schema}.run_inputs AS t WHERE t.run_pk = r.pk),
        coalesce(max(i.item_index) + 1, 0)
    ]
FROM {schema}.runs AS r LEFT JOIN {schema}.run_items AS i ON i.run_pk = r.pk
GROUP BY r.pk ORDER BY r.pk;

-- count_damaged_changes: how many changes are not what was stored
SELECT count(*) FROM {schema}.changes AS c WHERE c.hash <> {schema}.hash_change(c);

-- check_changes_of_session: whether the creation, the sweeps, and all messages of a session in order were announced
WITH intact AS MATERIALIZED ( -- a damaged body may be no JSON
    SELECT c.position, c.pk, c.kind, c.body FROM {schema}.changes AS c
    WHERE c.session_pk = %(session_pk)s AND c.hash = {schema}.hash_change(c)
),
appended AS (
    SELECT
        (body::json ->> 0)::bigint AS first_seq, (body::json ->> 1)::bigint AS last_seq,
        lag((body::json ->> 1)::bigint) OVER (ORDER BY position, pk) AS previous_seq
    FROM intact WHERE kind = 'append'
),
shared AS (
    SELECT coalesce(max(last_seq), 0) AS last_seq FROM {schema}.segments WHERE session_pk = %(session_pk)s
)
SELECT
    (SELECT count(*) = 1 FROM intact WHERE kind = 'created'),
    (SELECT count(*) FROM intact WHERE kind = 'compaction')
        = (SELECT count(*) FROM {schema}.compactions WHERE session_pk = %(session_pk)s),
    coalesce((SELECT bool_and(first_seq = coalesce(previous_seq, shared.last_seq) + 1) FROM appended), true),
    coalesce((SELECT max(last_seq) FROM appended), shared.last_seq) = a.last_seq
FROM shared, {schema}.accounts AS a WHERE a.session_pk = %(session_pk)s;

-- check_changes_of_runs: runs whose beginning or whose finished items were not all announced
WITH intact AS MATERIALIZED (
    SELECT c.run_pk, c.kind, c.body FROM {schema}.changes AS c
    WHERE c.run_pk IS NOT NULL AND c.hash = {schema}.hash_change(c)
),
announced AS (
    SELECT
        run_pk, count(*) FILTER (WHERE kind = 'run_started') AS starts,
        sum(CASE WHEN kind = 'run_items' THEN json_array_length(body::json -> 2) ELSE 0 END) AS finished_items,
        count(*) FILTER (WHERE kind = 'run_completed') AS completions
    FROM intact GROUP BY run_pk
)
SELECT r.id FROM {schema}.runs AS r LEFT JOIN announced AS a ON a.run_pk = r.pk
WHERE a.starts IS DISTINCT FROM 1 OR a.finished_items <> r.done + r.failed
    OR (a.completions = 0 AND r.total > 0 AND r.done + r.failed = r.total) OR a.completions > 1
ORDER BY r.pk;

-- insert_segment: the log of a fork has a span of another log
INSERT INTO {schema}.segments (session_pk, first_seq, last_seq, source_pk)
VALUES (%(session_pk)s, %(first_seq)s, %(last_seq)s, %(source_pk)s);

-- segments: the spans of other logs with which the log of a fork begins, with the sessions that store them
SELECT g.first_seq, g.last_seq, g.source_pk, s.id
FROM {schema}.segments AS g JOIN {schema}.sessions AS s ON s.pk = g.source_pk
WHERE g.session_pk = %(session_pk)s ORDER BY g.first_seq;

-- forks: sessions that share messages or summaries which a session stores
SELECT s.id FROM {schema}.sessions AS s WHERE s.pk IN (
    SELECT g.session_pk FROM {schema}.segments AS g WHERE g.source_pk = %(session_pk)s
    UNION
    SELECT i.session_pk FROM {schema}.summaries AS y JOIN {schema}.inherited_summaries AS i ON i.summary_pk = y.pk
    WHERE y.session_pk = %(session_pk)s
) ORDER BY s.pk;

-- inherit_summaries: a fork has the summaries before it of the session that it continues
INSERT INTO {schema}.inherited_summaries (session_pk, summary_pk)
SELECT %(session_pk)s, s.pk FROM {schema}.all_summaries AS s
WHERE s.session_pk = %(origin_pk)s AND s.last_seq <= %(last_seq)s
    AND (%(ids)s::text[] IS NULL OR s.id = ANY (%(ids)s::text[]));

-- inherit_prunes: a fork has the pruned outputs before it
INSERT INTO {schema}.prunes (session_pk, seq, part_index, tokens_saved)
SELECT %(session_pk)s, p.seq, p.part_index, p.tokens_saved FROM {schema}.prunes AS p
WHERE p.session_pk = %(origin_pk)s AND p.seq <= %(last_seq)s;

-- inherit_pins: a fork has the pins before it
INSERT INTO {schema}.pins (session_pk, seq)
SELECT %(session_pk)s, p.seq FROM {schema}.pins AS p
WHERE p.session_pk = %(origin_pk)s AND p.seq <= %(last_seq)s;

-- inherit_hidden_spans: a fork has the hidden spans before it
INSERT INTO {schema}.hidden_spans (session_pk, first_seq, last_seq)
SELECT %(session_pk)s, h.first_seq, least(h.last_seq, %(last_seq)s::bigint) FROM {schema}.hidden_spans AS h
WHERE h.session_pk = %(origin_pk)s AND h.first_seq <= %(last_seq)s ORDER BY h.pk;

-- summary_children: the children of a summary, in order
SELECT c.first_seq, c.last_seq, c.id
FROM {schema}.summary_children AS e JOIN {schema}.summaries AS c ON c.pk = e.child_pk
WHERE e.parent_pk = (SELECT pk FROM {schema}.all_summaries WHERE session_pk = %(session_pk)s AND id = %(id)s)
ORDER BY e.position;

-- messages_in_spans: the messages in several spans that a session stores itself, with its id
SELECT m.seq, m.id, m.role, m.parts, m.meta, m.hash, m.token_count, m.tool_tokens, m.created_at, s.id
FROM unnest(%(first)s::bigint[], %(last)s::bigint[]) AS span (first_seq, last_seq)
JOIN {schema}.messages AS m ON m.session_pk = %(session_pk)s AND m.seq BETWEEN span.first_seq AND span.last_seq
JOIN {schema}.sessions AS s ON s.pk = m.session_pk;

-- inherited_in_spans: the shared messages of a fork in several spans, each with the session that stores it
SELECT m.seq, m.id, m.role, m.parts, m.meta, m.hash, m.token_count, m.tool_tokens, m.created_at, s.id
FROM {schema}.segments AS g
JOIN {schema}.sessions AS s ON s.pk = g.source_pk
CROSS JOIN unnest(%(first)s::bigint[], %(last)s::bigint[]) AS span (first_seq, last_seq)
JOIN {schema}.messages AS m ON m.session_pk = g.source_pk
    AND m.seq BETWEEN greatest(g.first_seq, span.first_seq) AND least(g.last_seq, span.last_seq)
WHERE g.session_pk = %(session_pk)s
ORDER BY m.seq;

-- inherited_tokens_in_spans: the tokens of the shared messages of a fork in several spans
SELECT coalesce(sum(m.token_count), 0)::bigint, coalesce(sum(m.tool_tokens), 0)::bigint
FROM {schema}.segments AS g
CROSS JOIN unnest(%(first)s::bigint[], %(last)s::bigint[]) AS span (first_seq, last_seq)
JOIN {schema}.messages AS m ON m.session_pk = g.source_pk
    AND m.seq BETWEEN greatest(g.first_seq, span.first_seq) AND least(g.last_seq, span.last_seq)
WHERE g.session_pk = %(session_pk)s;

-- inherited_by_id: some shared messages of a fork, in order
SELECT m.seq, m.id, m.role, m.parts, m.meta, m.hash, m.token_count, m.tool_tokens, m.created_at, s.id
FROM {schema}.segments AS g
JOIN {schema}.sessions AS s ON s.pk = g.source_pk
JOIN {schema}.messages AS m ON m.session_pk = g.source_pk AND m.id = ANY (%(message_ids)s::text[])
    AND m.seq BETWEEN g.first_seq AND g.last_seq
WHERE g.session_pk = %(session_pk)s
ORDER BY m.seq;

-- insert_inherited_leaf_edges: link a leaf to the shared messages of its spans
INSERT INTO {schema}.summary_messages (summary_pk, session_pk, seq)
SELECT (SELECT pk FROM {schema}.summaries WHERE session_pk = %(session_pk)s AND id = %(id)s), m.session_pk, m.seq
FROM {schema}.segments AS g
CROSS JOIN unnest(%(first)s::bigint[], %(last)s::bigint[]) AS span (first_seq, last_seq)
JOIN {schema}.messages AS m ON m.session_pk = g.source_pk
    AND m.seq BETWEEN greatest(g.first_seq, span.first_seq) AND least(g.last_seq, span.last_seq)
WHERE g.session_pk = %(session_pk)s;

-- inherited_file_refs: which shared messages of a fork refer to which stored files
SELECT m.id, f.seq, f.content_id
FROM {schema}.segments AS g
JOIN {schema}.file_refs AS f ON f.session_pk = g.source_pk AND f.seq BETWEEN g.first_seq AND g.last_seq
JOIN {schema}.messages AS m ON m.session_pk = f.session_pk AND m.seq = f.seq
WHERE g.session_pk = %(session_pk)s AND (%(content_id)s::text IS NULL OR f.content_id = %(content_id)s)
ORDER BY f.seq, f.content_id;

-- log_hashes: the stored hashes of a span of a log
SELECT hash FROM {schema}.messages
WHERE session_pk = %(session_pk)s AND seq BETWEEN %(first_seq)s AND %(last_seq)s ORDER BY seq;

-- save_profile_hash: the hash of the settings of a session
UPDATE {schema}.sessions SET hash = %(hash)s WHERE pk = %(session_pk)s;

-- save_input_hashes: the hashes of some inputs
UPDATE {schema}.run_inputs AS t SET hash = new.hash
FROM unnest(%(indexes)s::bigint[], %(hashes)s::bytea[]) AS new (item_index, hash)
WHERE t.run_pk = %(run_pk)s AND t.item_index = new.item_index;

-- save_item_hashes: the hashes of some items
UPDATE {schema}.run_items AS i SET hash = new.hash
FROM unnest(%(indexes)s::bigint[], %(hashes)s::bytea[]) AS new (item_index, hash)
WHERE i.run_pk = %(run_pk)s AND i.item_index = new.item_index;

-- hashes_of_accounts: what seals of sessions cover
SELECT session_pk, 0::bigint, hash FROM {schema}.accounts ORDER BY session_pk FOR NO KEY UPDATE;

-- hashes_of_runs: what seals of runs cover
SELECT pk, 0::bigint, hash FROM {schema}.runs ORDER BY pk FOR NO KEY UPDATE;

-- hashes_of_run_items: what seals of items cover
SELECT run_pk, item_index, hash FROM {schema}.run_items ORDER BY run_pk, item_index FOR NO KEY UPDATE;

-- seal_accounts: seals of sessions
UPDATE {schema}.accounts AS a SET seal = new.seal
FROM unnest(%(pks)s::bigint[], %(seals)s::bytea[]) AS new (pk, seal) WHERE a.session_pk = new.pk;

-- seal_runs: seals of runs
UPDATE {schema}.runs AS r SET seal = new.seal
FROM unnest(%(pks)s::bigint[], %(seals)s::bytea[]) AS new (pk, seal) WHERE r.pk = new.pk;

-- seal_run_items: seals of items
UPDATE {schema}.run_items AS i SET seal = new.seal
FROM unnest(%(pks)s::bigint[], %(indexes)s::bigint[], %(seals)s::bytea[]) AS new (pk, item_index, seal)
WHERE i.run_pk = new.pk AND i.item_index = new.item_index;

-- check_account_heads: the heads of the turns and the records of a session
SELECT turn_head, record_head FROM {schema}.accounts WHERE session_pk = %(session_pk)s;

-- check_item_seals: the seals of the items of a run
SELECT item_index, seal FROM {schema}.run_items WHERE run_pk = %(run_pk)s;

-- check_orphans: rows whose session or run is missing, by table
SELECT 'accounts', 'session', count(*) FROM {schema}.accounts AS t
WHERE NOT EXISTS (SELECT 1 FROM {schema}.sessions AS s WHERE s.pk = t.session_pk)
UNION ALL
SELECT 'messages', 'session', count(*) FROM {schema}.messages AS t
WHERE NOT EXISTS (SELECT 1 FROM {schema}.sessions AS s WHERE s.pk = t.session_pk)
UNION ALL
SELECT 'summaries', 'session', count(*) FROM {schema}.summaries AS t
WHERE NOT EXISTS (SELECT 1 FROM {schema}.sessions AS s WHERE s.pk = t.session_pk)
UNION ALL
SELECT 'context_covers', 'session', count(*) FROM {schema}.context_covers AS t
WHERE NOT EXISTS (SELECT 1 FROM {schema}.sessions AS s WHERE s.pk = t.session_pk)
UNION ALL
SELECT 'hidden_spans', 'session', count(*) FROM {schema}.hidden_spans AS t
WHERE NOT EXISTS (SELECT 1 FROM {schema}.sessions AS s WHERE s.pk = t.session_pk)
UNION ALL
SELECT 'prunes', 'session', count(*) FROM {schema}.prunes AS t
WHERE NOT EXISTS (SELECT 1 FROM {schema}.sessions AS s WHERE s.pk = t.session_pk)
UNION ALL
SELECT 'pins', 'session', count(*) FROM {schema}.pins AS t
WHERE NOT EXISTS (SELECT 1 FROM {schema}.sessions AS s WHERE s.pk = t.session_pk)
UNION ALL
SELECT 'turns', 'session', count(*) FROM {schema}.turns AS t
WHERE NOT EXISTS (SELECT 1 FROM {schema}.sessions AS s WHERE s.pk = t.session_pk)
UNION ALL
SELECT 'compactions', 'session', count(*) FROM {schema}.compactions AS t
WHERE NOT EXISTS (SELECT 1 FROM {schema}.sessions AS s WHERE s.pk = t.session_pk)
UNION ALL
SELECT 'interruptions', 'session', count(*) FROM {schema}.interruptions AS t
WHERE NOT EXISTS (SELECT 1 FROM {schema}.sessions AS s WHERE s.pk = t.session_pk)
UNION ALL
SELECT 'file_refs', 'session', count(*) FROM {schema}.file_refs AS t
WHERE NOT EXISTS (SELECT 1 FROM {schema}.sessions AS s WHERE s.pk = t.session_pk)
UNION ALL
SELECT 'record_heads', 'session', count(*) FROM {schema}.record_heads AS t
WHERE NOT EXISTS (SELECT 1 FROM {schema}.sessions AS s WHERE s.pk = t.session_pk)
UNION ALL
SELECT 'segments', 'session', count(*) FROM {schema}.segments AS t
WHERE NOT EXISTS (SELECT 1 FROM {schema}.sessions AS s WHERE s.pk = t.session_pk)
UNION ALL
SELECT 'inherited_summaries', 'session', count(*) FROM {schema}.inherited_summaries AS t
WHERE NOT EXISTS (SELECT 1 FROM {schema}.sessions AS s WHERE s.pk = t.session_pk)
UNION ALL
SELECT 'run_inputs', 'run', count(*) FROM {schema}.run_inputs AS t
WHERE NOT EXISTS (SELECT 1 FROM {schema}.runs AS r WHERE r.pk = t.run_pk)
UNION ALL
SELECT 'run_items', 'run', count(*) FROM {schema}.run_items AS t
WHERE NOT EXISTS (SELECT 1 FROM {schema}.runs AS r WHERE r.pk = t.run_pk)
UNION ALL
SELECT 'run_plans', 'run', count(*) FROM {schema}.run_plans AS t
WHERE NOT EXISTS (SELECT 1 FROM {schema}.runs AS r WHERE r.pk = t.run_pk)
UNION ALL
SELECT 'summary_children', 'session', count(*) FROM {schema}.summary_children AS t
JOIN {schema}.summaries AS s ON s.pk = t.parent_pk WHERE s.session_pk <> t.session_pk;

-- lock_file: put the writers of a stored file in order
SELECT pg_advisory_xact_lock(hashtextextended('{schema}.file ' || %(name)s, 0));

-- delete_file: delete a stored file, and return its size, or NULL
SELECT {schema}.delete_file(%(name)s);

-- insert_file: a new stored file, whose content follows; does nothing if there is one of that name
INSERT INTO {schema}.file_objects (name, size_bytes) VALUES (%(name)s, %(size_bytes)s)
ON CONFLICT (name) DO NOTHING RETURNING pk;

-- insert_file_chunk: the next piece of a stored file
INSERT INTO {schema}.file_chunks (file_pk, position, content) VALUES (%(file_pk)s, %(position)s, %(content)b);

-- file: the row and the size of a stored file
SELECT pk, size_bytes FROM {schema}.file_objects WHERE name = %(name)s;

-- file_chunk: one piece of a stored file
SELECT content FROM {schema}.file_chunks WHERE file_pk = %(file_pk)s AND position = %(position)s;

-- file_names: the names of the stored files that begin with a text
SELECT name FROM {schema}.file_objects WHERE starts_with(name, %(prefix)s) ORDER BY name;
