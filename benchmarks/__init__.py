"""Speed in numbers: each a ratio against a peer that was measured in the same run."""
