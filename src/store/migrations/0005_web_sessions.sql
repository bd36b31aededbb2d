-- People signed in to the pages. Of the cookie there is a hash only.
CREATE TABLE web_sessions (
    hash       BLOB PRIMARY KEY NOT NULL,
    identity   TEXT NOT NULL,
    kind       TEXT NOT NULL,
    groups     TEXT NOT NULL,
    source     TEXT NOT NULL,
    address    TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    seen_us    INTEGER NOT NULL,
    expires_us INTEGER NOT NULL
) STRICT;
CREATE INDEX web_sessions_by_identity ON web_sessions (identity, created_us);
CREATE INDEX web_sessions_by_end ON web_sessions (expires_us);
