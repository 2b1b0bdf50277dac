"""Tracking in the browser: a page, the server behind it, and the one process that decodes and tracks."""
