"""The subcommands of `lockgate`, one module each; `gateway.__main__` imports the one it needs."""
