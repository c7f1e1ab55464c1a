"""Every speed claim as a command that measures it beside its peers in the same run: `make bench`.

`python -m benchmarks.end_to_end`, `python -m benchmarks.latency`, `python -m benchmarks.decode`; --help each.
"""
