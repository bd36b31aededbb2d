ALTER TABLE approvals ADD COLUMN on_behalf_of TEXT;
