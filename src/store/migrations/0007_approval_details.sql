ALTER TABLE approvals ADD COLUMN details TEXT NOT NULL DEFAULT '{}';
CREATE INDEX approvals_by_digest ON approvals (digest, target, created_us);
