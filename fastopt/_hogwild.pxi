# The lock-free sparse runner.
