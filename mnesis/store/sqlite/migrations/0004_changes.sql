-- Commits in order, so that other processes can publish them and a subscriber that was offline can catch up.
--
-- One narrow row per transaction that changes a session or a run. It names rows of other tables instead of repeating them;
-- a purge deletes the rows of its session. `origin` is the connection that wrote it. The row with the largest `pk` is never
-- deleted, so that no `pk` is given twice.
CREATE TABLE changes (
    pk INTEGER PRIMARY KEY,
    origin INTEGER NOT NULL,
    kind TEXT NOT NULL,
    session_pk INTEGER,
    run_pk INTEGER,
    body TEXT NOT NULL
) STRICT;
