"""The prefix cache on disk: blocks of keys and values in files, for the time after a restart."""
