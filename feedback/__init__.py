"""What crosses a process boundary: events, ballots, spool, snapshots, registry, preferences."""
