-- Chat, memory, and calls of models. Times are milliseconds since 1970-01-01 UTC.

-- SHA-256 of the agent's gateway token: by it a client's token is found. The token itself is derived, never stored.
-- NULL in rows of the first version until the daemon, which has the key, fills it in at its start.
ALTER TABLE instances ADD COLUMN token_hash BLOB;
CREATE UNIQUE INDEX instances_by_token ON instances (token_hash) WHERE token_hash IS NOT NULL;

CREATE TABLE conversations (
    id         TEXT PRIMARY KEY,
    tenant_id  TEXT    NOT NULL,
    instance   TEXT    NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
    topic      TEXT    NOT NULL,
    last_seq   INTEGER NOT NULL DEFAULT 0,             -- the newest message's place
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX conversations_by_topic ON conversations (instance, topic);
CREATE INDEX conversations_by_use ON conversations (instance, updated_at);

CREATE TABLE messages (
    row          INTEGER PRIMARY KEY,                  -- the order in which they were stored
    id           TEXT    NOT NULL UNIQUE,
    tenant_id    TEXT    NOT NULL,
    conversation TEXT    NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    seq          INTEGER NOT NULL,                     -- 1, 2, 3 .. in its conversation, without gaps
    instance     TEXT    NOT NULL,
    turn         TEXT,                                 -- the turn that it began or ended
    sender       TEXT    NOT NULL,
    content      TEXT    NOT NULL,
    platform     TEXT    NOT NULL,
    actor        TEXT    NOT NULL,
    key          TEXT,                                 -- the sender's idempotency key, while it is remembered
    at           INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX messages_by_seq ON messages (conversation, seq);
CREATE INDEX messages_by_instance ON messages (instance);
CREATE UNIQUE INDEX messages_by_key ON messages (instance, actor, key) WHERE key IS NOT NULL;
CREATE INDEX messages_with_key ON messages (at) WHERE key IS NOT NULL;
CREATE INDEX messages_by_turn ON messages (turn) WHERE turn IS NOT NULL;

CREATE TABLE turns (
    id           TEXT PRIMARY KEY,
    tenant_id    TEXT    NOT NULL,
    conversation TEXT    NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    instance     TEXT    NOT NULL,
    message      TEXT    NOT NULL,                     -- what it answers
    status       TEXT    NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0,           -- times an agent's process took it
    boot         TEXT,                                 -- the process that took it last
    output       INTEGER NOT NULL DEFAULT 0,           -- whether it showed output or used a tool
    retry_of     TEXT,
    error        TEXT,
    created_at   INTEGER NOT NULL,
    ended_at     INTEGER
) STRICT;
CREATE INDEX turns_by_conversation ON turns (conversation);
CREATE INDEX turns_by_message ON turns (message);
CREATE INDEX turns_open ON turns (instance, conversation) WHERE ended_at IS NULL;

CREATE TABLE memory (
    tenant_id  TEXT    NOT NULL,
    instance   TEXT    NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
    key        TEXT    NOT NULL,
    value      TEXT    NOT NULL,                       -- JSON
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (instance, key)
) STRICT;

-- What was asked of models: one row for all calls of a minute that have the rest in common. No foreign key: what was used
-- stays known when the agent is gone.
CREATE TABLE model_calls (
    id                INTEGER PRIMARY KEY,
    tenant_id         TEXT    NOT NULL,
    instance          TEXT    NOT NULL,
    minute            INTEGER NOT NULL,                -- in which they ended, counted from 1970-01-01 UTC
    provider          TEXT    NOT NULL,
    model             TEXT    NOT NULL,                -- '*' for those of a minute that has many others
    outcome           TEXT    NOT NULL,                -- 'ok', or the code of the error
    calls             INTEGER NOT NULL DEFAULT 1,
    measured          INTEGER NOT NULL DEFAULT 0,      -- how many of them the provider told the tokens of
    prompt_tokens     INTEGER,                         -- of the measured ones together; NULL where none is
    completion_tokens INTEGER,
    duration_ms       INTEGER NOT NULL,                -- of all of them together
    at                INTEGER NOT NULL                 -- when the last one ended
) STRICT;
CREATE UNIQUE INDEX model_calls_by_instance ON model_calls (instance, minute, provider, model, outcome);
CREATE INDEX model_calls_by_time ON model_calls (at);
