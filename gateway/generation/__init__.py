"""One answer: from a request to engine requests, and from engine outputs to events."""
