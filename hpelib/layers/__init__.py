"""Building blocks of the networks, one idea per file; those that attend return `(features, map)` to be looked at."""
