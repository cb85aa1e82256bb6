"""What the library costs, against what one would take instead: `make bench` writes `reports/benchmarks.md`."""
