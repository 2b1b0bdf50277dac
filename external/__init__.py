"""What stands beside STARK: the package `AR` (Alpha-Refine), and workspaces of the VOT toolkit."""
