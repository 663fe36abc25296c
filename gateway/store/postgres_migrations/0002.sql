CREATE TABLE lockgate_usage (
    hour bigint NOT NULL,
    owner text COLLATE "C" NOT NULL,
    model text COLLATE "C" NOT NULL,
    endpoint text COLLATE "C" NOT NULL,
    is_batch smallint NOT NULL,
    num_requests bigint NOT NULL,
    input_tokens bigint NOT NULL,
    cached_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    PRIMARY KEY (hour, owner, model, endpoint, is_batch)
);
CREATE TABLE lockgate_usage_writers (
    writer text COLLATE "C" PRIMARY KEY,
    number bigint NOT NULL
);
