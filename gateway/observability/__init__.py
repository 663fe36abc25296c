"""What is recorded of a request, and where it is reported: log, traces, metrics."""
