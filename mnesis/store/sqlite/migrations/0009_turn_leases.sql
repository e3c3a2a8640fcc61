-- The process that may run the turns of a session, if it uses `exclusive_turns`.
--
-- `fence` grows with each new holder. The row stays when the lease is released, so that no fence is given twice.
CREATE TABLE turn_leases (
    session_pk INTEGER PRIMARY KEY REFERENCES sessions (pk),
    fence INTEGER NOT NULL,
    holder TEXT,
    lease_until INTEGER NOT NULL
) STRICT;
