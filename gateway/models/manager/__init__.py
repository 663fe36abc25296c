"""Several models in one server: loaded when they are wanted, unloaded when memory is."""
