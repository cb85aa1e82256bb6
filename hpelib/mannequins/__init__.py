"""People that the project draws itself, so that the truth about every joint is known."""
