"""What the pipeline computes: rendered people, checked sets, trained networks, evaluations, ablations."""
