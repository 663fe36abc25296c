CREATE TABLE lockgate_version (version integer NOT NULL);
CREATE TABLE lockgate_records (
    position bigint GENERATED ALWAYS AS IDENTITY,
    kind text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    owner text COLLATE "C" NOT NULL,
    parent text COLLATE "C" NOT NULL,
    created_at double precision NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (id, kind)
);
CREATE INDEX lockgate_records_by_position ON lockgate_records (kind, position);
CREATE INDEX lockgate_records_of_owner ON lockgate_records (kind, owner, position);
CREATE INDEX lockgate_records_of_parent ON lockgate_records (kind, parent, position)
    WHERE parent <> '';
CREATE INDEX lockgate_records_by_age ON lockgate_records (kind, created_at);
