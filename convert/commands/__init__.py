"""One module for each command of `lockgate-convert`."""
