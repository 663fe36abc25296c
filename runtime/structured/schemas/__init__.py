"""JSON schemas in every spelling, made ready for the compiler: what it can enforce, and what is
left out."""
