-- Times are milliseconds since 1970-01-01 UTC. Enumerations are the words of the wire.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

-- What an instance runs in. The row stays, and with it the uid, while any workspace of the slot exists.
CREATE TABLE slots (
    id             TEXT PRIMARY KEY,
    tenant_id      TEXT    NOT NULL,
    uid            INTEGER NOT NULL UNIQUE,
    container_gen  INTEGER NOT NULL DEFAULT 1,
    workspace_gen  INTEGER NOT NULL DEFAULT 1,
    container_id   TEXT,
    image_id       TEXT,
    repo_digest    TEXT,                               -- the name by which a pulled image can be had again
    workspace_made INTEGER NOT NULL DEFAULT 0,
    created_at     INTEGER NOT NULL
) STRICT;

CREATE TABLE instances (
    id              TEXT PRIMARY KEY,
    tenant_id       TEXT    NOT NULL,
    name            TEXT    NOT NULL,
    slot            TEXT    NOT NULL UNIQUE REFERENCES slots (id),
    plan            TEXT    NOT NULL,
    memory          INTEGER NOT NULL,
    nano_cpus       INTEGER NOT NULL,
    pids            INTEGER NOT NULL,
    disk            INTEGER NOT NULL,
    model           TEXT    NOT NULL,
    image           TEXT,                                  -- NULL: the agent image of this daemon
    config          TEXT    NOT NULL DEFAULT '{}',
    token_salt      BLOB    NOT NULL,
    desired         TEXT    NOT NULL CHECK (desired IN ('running', 'stopped', 'deleted', 'purged')),
    desired_before  TEXT    NOT NULL DEFAULT 'running',    -- what undelete goes back to
    restart_wanted  INTEGER NOT NULL DEFAULT 0,            -- a restart asked for adds one;
    restart_done    INTEGER NOT NULL DEFAULT 0,            -- equal once the agent has been down for it
    rebuild_wanted  INTEGER NOT NULL DEFAULT 0,            -- the same for a new container
    rebuild_done    INTEGER NOT NULL DEFAULT 0,
    phase           TEXT    NOT NULL,
    phase_since     INTEGER NOT NULL,
    reason          TEXT,
    runtime_version TEXT,
    started_at      INTEGER,
    crashes         INTEGER NOT NULL DEFAULT 0,            -- ever
    crash_streak    INTEGER NOT NULL DEFAULT 0,            -- since the last long healthy time
    last_crash      TEXT,
    exit_seen       TEXT,                                  -- the last exit that was accounted for
    next_start_at   INTEGER,
    revision        INTEGER NOT NULL DEFAULT 0,            -- one more with every change of what is wanted
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    deleted_at      INTEGER
) STRICT;

-- A deleted agent remembers its name and does not hold it.
CREATE UNIQUE INDEX instances_by_name ON instances (tenant_id, name) WHERE deleted_at IS NULL;

-- Images this daemon loaded: the only ones it may ever remove.
CREATE TABLE images (
    id        TEXT PRIMARY KEY,
    reference TEXT    NOT NULL,
    loaded_at INTEGER NOT NULL
) STRICT;

CREATE TABLE crashes (
    instance   TEXT    NOT NULL,
    tenant_id  TEXT    NOT NULL,
    at         INTEGER NOT NULL,
    cause      TEXT    NOT NULL,
    last_lines TEXT    NOT NULL
) STRICT;
CREATE INDEX crashes_by_instance ON crashes (instance, at);

-- No foreign key to instances: an operation outlives a purge.
CREATE TABLE operations (
    id         TEXT PRIMARY KEY,
    tenant_id  TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    instance   TEXT    NOT NULL,
    agent_name TEXT    NOT NULL,
    status     TEXT    NOT NULL,
    steps      TEXT    NOT NULL,
    actor      TEXT    NOT NULL,
    result     TEXT,
    error      TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    ended_at   INTEGER
) STRICT;
CREATE INDEX operations_by_instance ON operations (instance, id);
CREATE UNIQUE INDEX operations_open ON operations (instance) WHERE ended_at IS NULL;
CREATE INDEX operations_by_end ON operations (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE idempotency (
    tenant_id    TEXT    NOT NULL,
    actor        TEXT    NOT NULL,
    key          TEXT    NOT NULL,
    request_hash BLOB    NOT NULL,
    operation    TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, actor, key)
) STRICT;

CREATE TABLE events (
    seq       INTEGER PRIMARY KEY AUTOINCREMENT,
    id        TEXT    NOT NULL UNIQUE,
    tenant_id TEXT    NOT NULL,
    kind      TEXT    NOT NULL,
    instance  TEXT,
    operation TEXT,
    actor     TEXT,
    payload   TEXT    NOT NULL,
    at        INTEGER NOT NULL
) STRICT;
CREATE INDEX events_by_instance ON events (instance, seq);
