CREATE TABLE records (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    owner TEXT NOT NULL,
    parent TEXT NOT NULL,
    created_at REAL NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (kind, id)
);
CREATE INDEX records_of_kind ON records (kind, position);
CREATE INDEX records_of_owner ON records (kind, owner, position);
CREATE INDEX records_of_parent ON records (kind, parent, position) WHERE parent <> '';
CREATE INDEX records_by_age ON records (kind, created_at);
