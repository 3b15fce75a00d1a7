-- Workflows, events, and how far they have been read. {s} is the schema.

CREATE TABLE {s}.workflows (
    workflow_id text COLLATE "C" NOT NULL PRIMARY KEY,
    run_id text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL,
    started_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    closed_at timestamptz,
    history_length bigint NOT NULL,
    view jsonb,
    attributes jsonb NOT NULL,
    waits jsonb NOT NULL,
    result jsonb,
    failure jsonb,
    reason text NOT NULL,
    input_partition integer NOT NULL,
    input_offset bigint NOT NULL,
    is_exact boolean NOT NULL,
    record bytea NOT NULL
) WITH (fillfactor = 80);

COMMENT ON TABLE {s}.workflows IS 'The state of every workflow id: of its current run, or of the last one.';
COMMENT ON COLUMN {s}.workflows.status IS 'running, suspended, completed, failed, cancelled, terminated or timed_out';
COMMENT ON COLUMN {s}.workflows.updated_at IS 'When the last event was recorded.';
COMMENT ON COLUMN {s}.workflows.closed_at IS 'NULL while the run is open.';
COMMENT ON COLUMN {s}.workflows.history_length IS 'Events so far.';
COMMENT ON COLUMN {s}.workflows.view IS 'What @workflow.view returned last; NULL when there is none, or when a payload codec closed it.';
COMMENT ON COLUMN {s}.workflows.attributes IS 'As given at the start.';
COMMENT ON COLUMN {s}.workflows.waits IS 'What the run waits for: activities and timers.';
COMMENT ON COLUMN {s}.workflows.result IS 'What the run returned; NULL when a payload codec closed it.';
COMMENT ON COLUMN {s}.workflows.failure IS 'What the run failed with.';
COMMENT ON COLUMN {s}.workflows.reason IS 'Why it is suspended, was cancelled or terminated; or why the view could not be kept.';
COMMENT ON COLUMN {s}.workflows.input_partition IS 'Kafka coordinates of the last command that the state reflects.';
COMMENT ON COLUMN {s}.workflows.is_exact IS 'False: a text holds a NUL, which PostgreSQL has not; it is shown as U+2400.';
COMMENT ON COLUMN {s}.workflows.record IS 'The state as perdure itself reads it, without loss.';

CREATE INDEX workflows_by_start ON {s}.workflows (type, status, started_at, workflow_id);
CREATE INDEX workflows_by_update ON {s}.workflows (type, status, updated_at, workflow_id);
CREATE INDEX workflows_by_end ON {s}.workflows (type, status, (coalesce(closed_at, '1970-01-01 00:00:00+00'::timestamptz)), workflow_id);
CREATE INDEX workflows_by_attributes ON {s}.workflows USING gin (attributes jsonb_path_ops);

CREATE TABLE {s}.events (
    workflow_id text COLLATE "C" NOT NULL,
    run_id text COLLATE "C" NOT NULL,
    event_id bigint NOT NULL,
    first_event_id bigint NOT NULL,
    at timestamptz NOT NULL,
    type text COLLATE "C" NOT NULL,
    data jsonb NOT NULL,
    is_exact boolean NOT NULL,
    record bytea,
    PRIMARY KEY (workflow_id, run_id, event_id)
);

COMMENT ON TABLE {s}.events IS 'What has happened, event by event; gapless in each run.';
COMMENT ON COLUMN {s}.events.event_id IS 'In the run, from 1.';
COMMENT ON COLUMN {s}.events.first_event_id IS 'Of the record that holds the event: what one transaction recorded of the run.';
COMMENT ON COLUMN {s}.events.data IS 'The event''s fields; a payload that a codec closed is {{"codec": name, "bytes": size}}.';
COMMENT ON COLUMN {s}.events.is_exact IS 'False: a text holds a NUL, which PostgreSQL has not; it is shown as U+2400.';
COMMENT ON COLUMN {s}.events.record IS 'With the first event of a record: the whole record as perdure itself reads it, without loss.';

CREATE INDEX events_by_time ON {s}.events USING brin (at);

CREATE TABLE {s}.positions (
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    end_offset bigint NOT NULL,
    reflected_offset bigint NOT NULL DEFAULT 0,
    owner text NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50);

COMMENT ON TABLE {s}.positions IS 'How far each partition has been read; written in the transaction of what was read.';

COMMENT ON COLUMN {s}.positions.reflected_offset IS 'Of events: up to here the states, too, are in the tables. What a reader waits for.';

CREATE VIEW {s}.projector_lag AS
    SELECT topic, partition, greatest(0, end_offset - next_offset) AS records, updated_at, clock_timestamp() - updated_at AS silent_for
    FROM {s}.positions;

COMMENT ON VIEW {s}.projector_lag IS 'How far these tables are behind the topics: records that are not in them yet, as the projector saw it '
    'at updated_at. A projector that runs says so every few seconds, whether or not anything happens.';

CREATE TABLE {s}.unreadable (
    topic text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    reason text NOT NULL,
    message text NOT NULL,
    found_at timestamptz NOT NULL,
    key bytea,
    value bytea,
    schema text,
    PRIMARY KEY (topic, partition, "offset")
);

COMMENT ON TABLE {s}.unreadable IS 'Records of the topics that could not be put into the tables, with why. Those of a schema that is not known '
    'yet are tried again.';

CREATE TABLE {s}.typed_views (
    name text NOT NULL PRIMARY KEY,
    type text NOT NULL,
    definition text NOT NULL,
    made_at timestamptz NOT NULL
);

COMMENT ON TABLE {s}.typed_views IS 'The SQL views, one a workflow type, that perdure keeps in step with the code.';

-- Casts that give NULL where a value does not fit, so that one old row does not take a whole view away.

CREATE FUNCTION {s}.perdure_to_bigint(value jsonb) RETURNS bigint LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    RETURN CASE jsonb_typeof(value) WHEN 'number' THEN (value #>> '{{}}')::numeric::bigint END;
EXCEPTION WHEN data_exception THEN RETURN NULL;
END $$;

CREATE FUNCTION {s}.perdure_to_double(value jsonb) RETURNS double precision LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    RETURN CASE jsonb_typeof(value) WHEN 'number' THEN (value #>> '{{}}')::double precision END;
EXCEPTION WHEN data_exception THEN RETURN NULL;
END $$;

CREATE FUNCTION {s}.perdure_to_numeric(value jsonb) RETURNS numeric LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    RETURN CASE WHEN jsonb_typeof(value) IN ('number', 'string') THEN (value #>> '{{}}')::numeric END;
EXCEPTION WHEN data_exception THEN RETURN NULL;
END $$;

CREATE FUNCTION {s}.perdure_to_boolean(value jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE jsonb_typeof(value) WHEN 'boolean' THEN (value #>> '{{}}')::boolean END
$$;

CREATE FUNCTION {s}.perdure_to_text(value jsonb) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE WHEN jsonb_typeof(value) <> 'null' THEN value #>> '{{}}' END
$$;

CREATE FUNCTION {s}.perdure_to_timestamptz(value jsonb) RETURNS timestamptz LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    RETURN CASE WHEN jsonb_typeof(value) = 'string' AND value #>> '{{}}' ~ '^\d{{4}}-.*(Z|[+-]\d\d(:?\d\d)?)$' THEN (value #>> '{{}}')::timestamptz END;
EXCEPTION WHEN data_exception THEN RETURN NULL;
END $$;

CREATE FUNCTION {s}.perdure_to_timestamp(value jsonb) RETURNS timestamp LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    RETURN CASE WHEN jsonb_typeof(value) = 'string' AND value #>> '{{}}' ~ '^\d{{4}}-' THEN (value #>> '{{}}')::timestamp END;
EXCEPTION WHEN data_exception THEN RETURN NULL;
END $$;

CREATE FUNCTION {s}.perdure_to_date(value jsonb) RETURNS date LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    RETURN CASE WHEN jsonb_typeof(value) = 'string' AND value #>> '{{}}' ~ '^\d{{4}}-' THEN (value #>> '{{}}')::date END;
EXCEPTION WHEN data_exception THEN RETURN NULL;
END $$;

CREATE FUNCTION {s}.perdure_to_time(value jsonb) RETURNS time LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    RETURN CASE WHEN jsonb_typeof(value) = 'string' AND value #>> '{{}}' ~ '^\d\d:' THEN (value #>> '{{}}')::time END;
EXCEPTION WHEN data_exception THEN RETURN NULL;
END $$;

CREATE FUNCTION {s}.perdure_to_interval(value jsonb) RETURNS interval LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    RETURN CASE WHEN jsonb_typeof(value) = 'string' AND value #>> '{{}}' ~ '^-?P' THEN
        CASE WHEN value #>> '{{}}' LIKE '-%' THEN -(substr(value #>> '{{}}', 2)::interval) ELSE (value #>> '{{}}')::interval END END;
EXCEPTION WHEN data_exception THEN RETURN NULL;
END $$;

CREATE FUNCTION {s}.perdure_to_uuid(value jsonb) RETURNS uuid LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    RETURN CASE jsonb_typeof(value) WHEN 'string' THEN (value #>> '{{}}')::uuid END;
EXCEPTION WHEN data_exception THEN RETURN NULL;
END $$;
