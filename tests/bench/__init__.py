"""The comparison with the peers that `scripts/bench` runs: one machine, one server, one cipher, one run."""
