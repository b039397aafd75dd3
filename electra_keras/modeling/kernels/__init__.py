"""The numeric kernels: one portable form each, faster forms per backend where one was measured, tested equal."""
