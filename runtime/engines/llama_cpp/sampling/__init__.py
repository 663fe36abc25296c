"""From a row of logits to a token: penalties, constraints, top-k, the draw, log-probabilities."""
