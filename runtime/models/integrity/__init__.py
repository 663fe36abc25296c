"""Whether a model file is what it was: hashes, marks of checked files, the guard of a served one."""
