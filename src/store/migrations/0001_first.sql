CREATE TABLE meta (
    key   TEXT PRIMARY KEY NOT NULL,
    value BLOB NOT NULL
) STRICT;
INSERT INTO meta (key, value) VALUES ('version', x'31');

CREATE TABLE tokens (
    id         TEXT PRIMARY KEY NOT NULL,
    identity   TEXT NOT NULL,
    kind       TEXT NOT NULL,
    groups     TEXT NOT NULL,
    sha256     BLOB NOT NULL,
    sha1       BLOB NOT NULL,
    created_us INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    expires_us INTEGER,
    revoked_us INTEGER
) STRICT;
CREATE INDEX tokens_by_identity ON tokens (identity);

CREATE TABLE approvals (
    id              TEXT PRIMARY KEY NOT NULL,
    state           TEXT NOT NULL,
    mode            TEXT NOT NULL,
    identity        TEXT NOT NULL,
    groups          TEXT NOT NULL,
    target          TEXT NOT NULL,
    schema          TEXT,
    session         INTEGER NOT NULL,
    statement       TEXT NOT NULL,
    digest          TEXT NOT NULL,
    verb            TEXT NOT NULL,
    tables          TEXT NOT NULL,
    rule            TEXT NOT NULL,
    message         TEXT NOT NULL,
    approver_groups TEXT NOT NULL,
    approvers       INTEGER NOT NULL,
    votes           TEXT NOT NULL,
    told            INTEGER NOT NULL,
    grant_key       BLOB NOT NULL,
    created_us      INTEGER NOT NULL,
    expires_us      INTEGER NOT NULL
) STRICT;
CREATE INDEX approvals_by_grant ON approvals (identity, grant_key);
CREATE INDEX approvals_by_state ON approvals (state, expires_us);

CREATE TABLE policy_versions (
    serial    INTEGER PRIMARY KEY AUTOINCREMENT,
    version   TEXT NOT NULL,
    at_us     INTEGER NOT NULL,
    loaded_by TEXT NOT NULL
) STRICT;
