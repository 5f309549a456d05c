"""What `./scripts/fuzz` runs: random bytes for whatever takes apart what a server sends."""
