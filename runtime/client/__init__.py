"""The gateway's side of the border: requests in flight, their streams, the socket."""
