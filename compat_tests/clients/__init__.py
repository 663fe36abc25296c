"""Client libraries against the real server, in environments of the libraries' own.

`scripts/clients` makes them and runs each file whose library is installed there.
"""
