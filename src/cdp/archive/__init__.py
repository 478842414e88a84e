"""The archive: closed days of events as Parquet files, readable by anything that reads Parquet."""
