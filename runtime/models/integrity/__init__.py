"""Whether a model file is what it was: hashes, marks of checked files, a guard of a served one."""
