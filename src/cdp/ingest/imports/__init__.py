"""Files of events, profiles, orders and accounts: uploaded, mapped, judged, logged, resumable."""
