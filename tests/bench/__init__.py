"""The benchmark: `make bench`. Each row prints ours, the floor measured in the same run, and the ratio."""
