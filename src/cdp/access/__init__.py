"""Who may ask: API tokens, scopes, the audit trail."""
