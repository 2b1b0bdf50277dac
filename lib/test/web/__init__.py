"""Tracking in the browser: a page, its server, and one thread for each page that decodes and tracks."""
