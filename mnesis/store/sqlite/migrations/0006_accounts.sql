-- `fold_count` counts the changes of the active context other than appends, with which a report of an older context is recognised.
-- `last_request` is the newest request as JSON, or NULL: what the provider's cache holds depends on it.

ALTER TABLE accounts ADD COLUMN fold_count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN usage_reasoning INTEGER NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN last_request TEXT;
