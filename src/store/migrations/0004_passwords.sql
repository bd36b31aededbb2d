-- Session passwords: verifiers, whose they are by the sign-in that they were made by, and where they are good.
CREATE TABLE passwords (
    id         TEXT PRIMARY KEY NOT NULL,
    identity   TEXT NOT NULL,
    kind       TEXT NOT NULL,
    groups     TEXT NOT NULL,
    attributes TEXT NOT NULL,
    targets    TEXT NOT NULL,
    networks   TEXT NOT NULL,
    sha256     BLOB NOT NULL UNIQUE,
    sha1       BLOB NOT NULL,
    label      TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    expires_us INTEGER NOT NULL,
    revoked_us INTEGER,
    used_us    INTEGER,
    used_from  TEXT
) STRICT;
CREATE INDEX passwords_by_identity ON passwords (identity);
CREATE INDEX passwords_by_end ON passwords (expires_us);
