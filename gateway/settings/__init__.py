"""settings.toml, the environment and options of the command line, checked."""
