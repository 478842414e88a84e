"""The buffer between ingest and the worker: one port, one record format, two implementations."""
