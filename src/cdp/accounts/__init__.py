"""Accounts as records: companies and households, what is said of them, and who belongs to them."""
