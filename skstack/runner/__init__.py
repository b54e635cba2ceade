"""The isolated program that runs one run: it knows nothing of the web, the database or a feature.

`protocol` says what goes in and comes out, `client` is what the rest of skstack uses; the other modules
belong to the runner's own processes (`host`, and the `runner` it forks for each run).
"""
