"""The edges: clock, disk, processes, HTTP; `compose` alone makes them concrete."""
