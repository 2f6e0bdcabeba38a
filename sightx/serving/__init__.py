"""Serve a model over HTTP, with a page for a browser (extra `serve`)."""
