-- Where a token is good: names of targets, networks; empty lists limit nothing.
ALTER TABLE tokens ADD COLUMN targets TEXT NOT NULL DEFAULT '[]';
ALTER TABLE tokens ADD COLUMN networks TEXT NOT NULL DEFAULT '[]';
-- Its last login; from where.
ALTER TABLE tokens ADD COLUMN used_us INTEGER;
ALTER TABLE tokens ADD COLUMN used_from TEXT;
-- The token that was made in its place.
ALTER TABLE tokens ADD COLUMN replaced_by TEXT;

CREATE TABLE revoked_identities (
    identity   TEXT PRIMARY KEY NOT NULL,
    revoked_us INTEGER NOT NULL,
    revoked_by TEXT NOT NULL,
    reason     TEXT NOT NULL
) STRICT;
