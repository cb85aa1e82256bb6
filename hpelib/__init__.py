"""hpelib: five papers on 2D human pose networks and their baselines, trained and judged on one footing."""
