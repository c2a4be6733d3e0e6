"""Speed, always measured beside a peer or a limit in the same run, so that the machine cancels out: `make bench`."""
