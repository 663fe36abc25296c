"""Records of requests, and their reports: log, traces, metrics."""
