"""What every process needs around the flow: clock, logs, stopping, supervision."""
