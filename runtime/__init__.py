"""The engine side of Lockgate: tokens, batches, processes. It never sees HTTP."""
