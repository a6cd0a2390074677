"""What the course promises about speed, measured: each figure beside its alternative, in one run."""
