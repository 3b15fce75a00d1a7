"""Benchmarks: `make bench`, or one of them by `python -m bench.NAME`. Each prints JSON; figures are
compared within one run."""
