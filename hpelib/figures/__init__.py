"""The study's pictures: one style, one module per kind of picture. Every figure function returns a `Figure`."""
