-- Targets that were added to a running gateway. `sealed` is bound to the name and to the settings, to the letter;
-- it is NULL where the settings name where the credential is. `before` is the credential before a rotation.
CREATE TABLE targets (
    name            TEXT PRIMARY KEY NOT NULL,
    settings        TEXT NOT NULL,
    sealed          BLOB,
    before          BLOB,
    before_until_us INTEGER,
    created_us      INTEGER NOT NULL,
    created_by      TEXT NOT NULL,
    rotated_us      INTEGER,
    rotated_by      TEXT
) STRICT;
