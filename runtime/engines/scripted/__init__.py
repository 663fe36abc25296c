"""An engine without a model, for tests and benchmarks: it answers what a script says."""
