CREATE TABLE usage (
    hour BIGINT NOT NULL,
    owner TEXT NOT NULL,
    model TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    is_batch SMALLINT NOT NULL,
    num_requests BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    PRIMARY KEY (hour, owner, model, endpoint, is_batch)
);
CREATE TABLE usage_writers (
    writer TEXT PRIMARY KEY,
    number BIGINT NOT NULL
);
