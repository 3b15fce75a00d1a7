-- What a run keeps for people. {s} is the schema.

ALTER TABLE {s}.workflows ADD COLUMN memo jsonb;
ALTER TABLE {s}.workflows ADD COLUMN details text NOT NULL DEFAULT '';

COMMENT ON COLUMN {s}.workflows.attributes IS 'As given at the start, and as the code has set them.';
COMMENT ON COLUMN {s}.workflows.waits IS 'What the run waits for, without signals and conditions; the first twenty.';
COMMENT ON COLUMN {s}.workflows.memo IS 'The memo of the start; NULL when there is none, or when a payload codec closed it.';
COMMENT ON COLUMN {s}.workflows.details IS 'What the code says about the run, for operators: Markdown; empty: nothing.';
